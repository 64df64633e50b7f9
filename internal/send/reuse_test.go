package send

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Several messages travel over one connection, and the last of them is followed by QUIT.
func TestConnectionIsUsedAgain(t *testing.T) {
	conf, _ := certificate(t, "mx1.example.org")
	for name, p := range map[string]*peer{"plain": {}, "TLS": {tls: conf, ext: []string{"STARTTLS", "PIPELINING"}}} {
		c := courier(t, peers(t, p), oneHost, nil)
		for range 5 {
			if r := once(t, c, envelope("s@martlet.test", "a@example.org")); r.Code != 250 || name == "TLS" && r.TLS == "" {
				t.Errorf("%s: %+v", name, r)
			}
		}
		if n, conns := p.got(); n != 5 || conns != 1 || p.count("EHLO") > 2 || p.count("QUIT") != 0 {
			t.Errorf("%s: %d mails, %d connections", name, n, conns)
		}
		c.Close()
		for range 100 { // it is on its way
			if len(p.commands("QUIT")) == 1 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if len(p.commands("QUIT")) != 1 {
			t.Errorf("%s: no goodbye", name)
		}
	}
}

// A connection that has waited long enough is ended in order.
func TestIdleConnectionEnds(t *testing.T) {
	p := &peer{}
	c := courier(t, peers(t, p), oneHost, func(o *Options) { o.Reuse.Idle = 20 * time.Millisecond })
	once(t, c, envelope("", "a@example.org"))
	for range 200 {
		if len(p.commands("QUIT")) == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(p.commands("QUIT")) != 1 || c.pool.take("") != nil || len(c.pool.order) != 0 {
		t.Error("it still waits")
	}
	off := courier(t, peers(t, p), oneHost, func(o *Options) { o.Reuse.Idle = -1 })
	once(t, off, envelope("", "a@example.org"))
	if len(off.pool.order) != 0 {
		t.Error("it waits, which it was not to do")
	}
}

// What a peer and we say about the number of messages holds (RFC 9422).
func TestMessagesOverOneConnection(t *testing.T) {
	for _, tc := range []struct {
		limits      string
		ours        int
		mails, want int
	}{
		{"", 3, 7, 3},
		{"LIMITS MAILMAX=2 RCPTMAX=100", 100, 5, 3},
		{"LIMITS MAILMAX=1", 100, 3, 3},
		{"LIMITS MAILMAX=0", 100, 3, 1},
	} {
		p := &peer{ext: []string{tc.limits}}
		c := courier(t, peers(t, p), oneHost, func(o *Options) { o.Reuse.Messages = tc.ours })
		for range tc.mails {
			once(t, c, envelope("", "a@example.org"))
		}
		if n, conns := p.got(); n != tc.mails || conns != tc.want {
			t.Errorf("%+v: %d mails, %d connections", tc, n, conns)
		}
	}
	// One message that takes more transactions than one connection may have.
	p := &peer{ext: []string{"LIMITS MAILMAX=2 RCPTMAX=1"}, answers: map[string]func(int, string) string{"RCPT": func(_ int, arg string) string {
		if strings.Contains(arg, "later") {
			return "450 4.7.1 later"
		}
		return ""
	}}}
	c := courier(t, peers(t, p), oneHost, nil)
	got := c.Send(t.Context(), envelope("", "a@example.org", "later@example.org", "b@example.org", "later2@example.org", "c@example.org"), text("x\r\n"), nil)
	if s := shorts(got); s != "250 2.0.0, 450 4.7.1, 250 2.0.0, 450 4.7.1, 250 2.0.0" {
		t.Error(s)
	}
	if n, conns := p.got(); n != 3 || conns != 3 || p.count("RCPT") != 5 {
		t.Errorf("%d mails, %d connections, %d RCPT", n, conns, p.count("RCPT"))
	}
}

// A connection that died while it waited costs a new one and no copy; one that dies after
// the end of a message is not followed by another try, because nobody knows what the host
// has.
func TestDeadConnections(t *testing.T) {
	for _, tc := range []struct {
		name  string
		at    string // verb at which the second message meets its fate
		says  string
		want  string
		mails int
		conns int
	}{
		{"before MAIL", "MAIL", drop, "250 2.0.0", 2, 2},
		{"421 to MAIL", "MAIL", "421 4.4.2 idle for too long", "250 2.0.0", 2, 2},
		{"at RCPT", "RCPT", drop, "250 2.0.0", 2, 2},
		{"at DATA", "DATA", drop, "250 2.0.0", 2, 2},
		{"after the dot", ".", drop, "451 4.4.2", 1, 1},
		{"4xx to MAIL", "MAIL", "451 4.3.0 not now", "451 4.3.0", 1, 1},
		{"5xx to MAIL", "MAIL", "554 5.7.1 no more of you", "554 5.7.1", 1, 1},
		{"4xx at the end", ".", "451 4.3.0 not now", "451 4.3.0", 1, 1},
		{"421 at the end", ".", "421 4.3.0 not now", "421 4.3.0", 1, 1},
	} {
		for _, piped := range []bool{false, true} {
			t.Run(fmt.Sprint(tc.name, piped), func(t *testing.T) {
				p := &peer{answers: map[string]func(int, string) string{tc.at: func(n int, _ string) string {
					if n == 2 {
						return tc.says
					}
					return ""
				}}}
				if piped {
					p.ext = []string{"PIPELINING"}
				}
				c := courier(t, peers(t, p), oneHost, nil)
				once(t, c, envelope("", "a@example.org"))
				r := once(t, c, envelope("", "b@example.org"))
				if short(r) != tc.want || r.Unsure != (tc.name == "after the dot") {
					t.Errorf("%+v", r)
				}
				if n, conns := p.got(); n != tc.mails || conns != tc.conns {
					t.Errorf("%d mails, %d connections", n, conns)
				}
			})
		}
	}
}

// A host that ends every connection that waits, by force, gets each message once.
func TestResetWhileWaiting(t *testing.T) {
	var mu sync.Mutex
	mails, conns := 0, 0
	p := &peer{raw: func(conn net.Conn) {
		mu.Lock()
		conns++
		mu.Unlock()
		r := bufio.NewReader(conn)
		io.WriteString(conn, "220 x\r\n")
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			switch {
			case strings.HasPrefix(line, "DATA"):
				io.WriteString(conn, "354 x\r\n")
				for line != ".\r\n" {
					line, _ = r.ReadString('\n')
				}
				mu.Lock()
				mails++
				mu.Unlock()
				io.WriteString(conn, "250 x\r\n")
				conn.(*net.TCPConn).SetLinger(0)
				return
			default:
				io.WriteString(conn, "250 x\r\n")
			}
		}
	}}
	c := courier(t, peers(t, p), oneHost, nil)
	for range 10 {
		if r := once(t, c, envelope("", "a@example.org")); r.Code != 250 {
			t.Errorf("%+v", r)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if mails != 10 || conns != 10 {
		t.Errorf("%d mails, %d connections", mails, conns)
	}
}

// Connections are not shared between mail that needs different protection.
func TestRulesApart(t *testing.T) {
	a := newCA(t)
	good, _ := a.sign("mx1.example.org", time.Hour, true)
	p := &peer{tls: good, ext: []string{"STARTTLS"}}
	c := courier(t, peers(t, p), oneHost+"strict.test. IN MX 1 mx1.example.org.\nsame.test. IN MX 1 mx1.example.org.\n", func(o *Options) {
		o.TLS = &tls.Config{RootCAs: a.pool()}
		o.Routes = []Route{{Domain: "strict.test", TLS: TLSVerified}}
	})
	for _, domain := range []string{"example.org", "strict.test", "same.test", "strict.test", "example.org"} {
		if r := once(t, c, envelope("", "a@"+domain)); r.Code != 250 {
			t.Errorf("%s: %+v", domain, r)
		}
	}
	if n, conns := p.got(); n != 5 || conns != 2 {
		t.Errorf("%d mails, %d connections", n, conns)
	}
}

// No more connections wait than may.
func TestWaitingConnectionsAreBounded(t *testing.T) {
	p := &peer{}
	var zone strings.Builder
	for i := range 20 {
		fmt.Fprintf(&zone, "d%d.test. IN MX 1 mx%d.test.\nmx%d.test. IN A 127.0.0.1\n", i, i, i)
	}
	c := courier(t, peers(t, p), zone.String(), func(o *Options) { o.Reuse.Kept = 3 })
	for i := range 20 {
		once(t, c, envelope("", fmt.Sprintf("a@d%d.test", i)))
		if n := len(c.pool.order); n > 3 {
			t.Fatalf("%d wait", n)
		}
	}
	if c.pool.at[netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), c.opt.Port)] != 3 || len(c.pool.idle) != 3 {
		t.Errorf("%+v", c.pool.at)
	}
}

// Many at a time: each message arrives once, over few connections.
func TestManyAtATime(t *testing.T) {
	p := &peer{ext: []string{"PIPELINING"}}
	c := courier(t, peers(t, p), oneHost, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if r := once(t, c, envelope("", "a@example.org")); r.Code != 250 {
					t.Errorf("%+v", r)
				}
			}
		})
	}
	wg.Wait()
	if n, conns := p.got(); n != 160 || conns > 8 {
		t.Errorf("%d mails, %d connections", n, conns)
	}
}

// A TLS session is resumed by the next connection, and judged again; one that will not do
// any more is not resumed again, but a new one has its try.
func TestSessionsAreResumed(t *testing.T) {
	a, b := newCA(t), newCA(t)
	first, _ := a.sign("mx1.example.org", time.Hour, true)
	second, _ := b.sign("mx1.example.org", time.Hour, true)
	var mu sync.Mutex
	var resumed []bool
	now := first.Certificates[0]
	key := [32]byte{1}
	conf := &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			mu.Lock()
			defer mu.Unlock()
			return &now, nil
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			mu.Lock()
			defer mu.Unlock()
			resumed = append(resumed, s.DidResume)
			return nil
		},
	}
	conf.SetSessionTicketKeys([][32]byte{key})
	p := &peer{tls: conf, ext: []string{"STARTTLS"}}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	pool.AddCert(b.cert)
	roots := &tls.Config{RootCAs: pool}
	c := courier(t, peers(t, p), oneHost, func(o *Options) {
		o.TLS = roots
		o.Reuse.Idle = -1
		o.Routes = []Route{{Domain: "example.org", TLS: TLSVerified}}
	})
	for range 3 {
		if r := once(t, c, envelope("", "a@example.org")); r.Code != 250 || r.Line.Verified != mail.ProofPKIX {
			t.Errorf("%+v", r)
		}
	}
	mu.Lock()
	if len(resumed) != 3 || resumed[0] || !resumed[1] || !resumed[2] {
		t.Errorf("resumed: %v", resumed)
	}
	now, resumed = second.Certificates[0], nil
	mu.Unlock()
	roots.RootCAs = b.pool() // the first authority is trusted no more
	for range 2 {
		if r := once(t, c, envelope("", "a@example.org")); r.Code != 250 {
			t.Errorf("%+v", r)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	fresh := 0
	for _, r := range resumed { // the host may note them in another order, and one given up not at all
		if !r {
			fresh++
		}
	}
	if len(resumed) < 2 || fresh != 1 {
		t.Errorf("resumed: %v", resumed)
	}
}

// netErr is how a dialer tells of a failure.
func netErr(errno syscall.Errno) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)}
}

// On a machine without IPv6, hosts are reached over IPv4 at once, and IPv6 comes last from
// then on; and the other way round.
func TestFamilies(t *testing.T) {
	zone := "example.org. IN MX 1 mx.test.\nmx.test. IN A 192.0.2.1\nmx.test. IN A 192.0.2.2\nmx.test. IN AAAA 2001:db8::1\nmx.test. IN AAAA 2001:db8::2\n"
	for _, lost := range []string{"2001:", "192.0."} {
		p := &peer{}
		port := peers(t, p)
		var dialled []string
		clock := time.Now()
		c := courier(t, port, zone, func(o *Options) {
			o.AllowPrivate, o.Reuse.Idle = true, -1
			o.Now = func() time.Time { return clock }
			o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				host, _, _ := net.SplitHostPort(address)
				dialled = append(dialled, host)
				if strings.HasPrefix(host, lost) {
					return nil, netErr(syscall.ENETUNREACH)
				}
				return new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
			}
		})
		for round := range 2 {
			dialled = nil
			if r := once(t, c, envelope("", "a@example.org")); r.Code != 250 {
				t.Errorf("%+v", r)
			}
			if n := len(dialled); n > 2-round || round == 1 && strings.HasPrefix(dialled[0], lost) {
				t.Errorf("without %s, round %d: %v", lost, round, dialled)
			}
		}
		clock = clock.Add(weakFor + time.Second)
		dialled = nil
		once(t, c, envelope("", "a@example.org"))
		if lost == "2001:" && !strings.HasPrefix(dialled[0], lost) {
			t.Errorf("it has no new chance: %v", dialled)
		}
	}
}

type late struct{}

func (late) Error() string   { return "i/o timeout" }
func (late) Timeout() bool   { return true }
func (late) Temporary() bool { return true }

// A network that swallows the packets of one family is known by several hosts that do not
// answer; one dead host says nothing of its family, and never are both given up.
func TestFamilyThatSwallows(t *testing.T) {
	var f families
	now := time.Now()
	six := func(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", n)) }
	for range 10 {
		f.note(six(1), late{}, now)
	}
	if f.weak(six(9), now) {
		t.Error("one host counts for all")
	}
	f.note(six(2), late{}, now)
	f.note(six(3), late{}, now)
	if !f.weak(six(9), now) || f.weak(netip.MustParseAddr("192.0.2.1"), now) {
		t.Error("IPv6 is not known to be weak")
	}
	for n := range 3 {
		f.note(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), late{}, now)
	}
	if f.weak(six(9), now) || f.weak(netip.MustParseAddr("192.0.2.1"), now) {
		t.Error("both are weak: then neither is")
	}
	f.note(six(4), nil, now)
	f.note(netip.MustParseAddr("192.0.2.9"), netErr(syscall.ECONNREFUSED), now)
	if f.weak(six(9), now) || f.weak(netip.MustParseAddr("192.0.2.1"), now) {
		t.Error("it answers, and is weak")
	}
}

// Connections come from our addresses, by family, the same one for a domain.
func TestSourceAddresses(t *testing.T) {
	zone := "example.org. IN MX 1 mx.test.\nmx.test. IN A 192.0.2.1\nsix.test. IN AAAA 2001:db8::1\nother.test. IN A 192.0.2.1\n"
	from := map[string]map[netip.Addr]bool{}
	at := ""
	c := courier(t, 25, zone, func(o *Options) {
		o.Sources = []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("2001:db8:1::1")}
		o.Routes = []Route{{Domain: "other.test", Sources: []netip.Addr{netip.MustParseAddr("198.51.100.9")}}}
		o.Dial = func(context.Context, string, string) (net.Conn, error) {
			t.Error("from anywhere")
			return nil, errors.New("x")
		}
		o.DialFrom = func(_ context.Context, source netip.Addr, _, _ string) (net.Conn, error) {
			if from[at] == nil {
				from[at] = map[netip.Addr]bool{}
			}
			from[at][source] = true
			return nil, netErr(syscall.ECONNREFUSED)
		}
	})
	for range 3 {
		for _, at = range []string{"example.org", "six.test", "other.test"} {
			once(t, c, envelope("", "a@"+at))
		}
	}
	if len(from["example.org"]) != 1 || !from["six.test"][netip.MustParseAddr("2001:db8:1::1")] || !from["other.test"][netip.MustParseAddr("198.51.100.9")] || len(from["other.test"]) != 1 {
		t.Errorf("%v", from)
	}
}

// What a host does at each stage ends in a defined state, in bounded time and with a reason
// that names the stage's trouble; nothing arrives twice.
func TestHostsThatHang(t *testing.T) {
	conf, _ := certificate(t, "mx1.example.org")
	hang := func(conn net.Conn) { io.Copy(io.Discard, conn) }
	half := func(text string) func(net.Conn) {
		return func(conn net.Conn) { io.WriteString(conn, text); hang(conn) }
	}
	trickle := func(conn net.Conn) {
		for {
			if _, err := io.WriteString(conn, "220-more\r\n"); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	stop := func(verb string) *peer {
		return &peer{ext: []string{"PIPELINING"}, answers: map[string]func(int, string) string{verb: func(int, string) string { time.Sleep(500 * time.Millisecond); return drop }}}
	}
	for _, tc := range []struct {
		name string
		peer *peer
		want string
		says string
	}{
		{"says nothing", &peer{raw: hang}, "421 4.4.2", "did not answer in time"},
		{"half a greeting", &peer{raw: half("220 mx1.exam")}, "421 4.4.2", "did not answer in time"},
		{"a greeting that goes on", &peer{raw: half("220-hello\r\n220-")}, "421 4.4.2", "did not answer in time"},
		{"a greeting, drop by drop", &peer{raw: trickle}, "421 4.4.2", ""},
		{"nothing to EHLO", stop("EHLO"), "421 4.4.2", "did not answer in time"},
		{"nothing to MAIL", stop("MAIL"), "421 4.4.2", "did not answer in time"},
		{"nothing to RCPT", stop("RCPT"), "421 4.4.2", "did not answer in time"},
		{"nothing to DATA", stop("DATA"), "421 4.4.2", "did not answer in time"},
		{"nothing to the end", stop("."), "451 4.4.2", "could arrive twice"},
		{"nothing in TLS", &peer{ext: []string{"STARTTLS"}, raw: func(conn net.Conn) {
			r := bufio.NewReader(conn)
			io.WriteString(conn, "220 x\r\n")
			r.ReadString('\n')
			io.WriteString(conn, "250-x\r\n250 STARTTLS\r\n")
			r.ReadString('\n')
			io.WriteString(conn, "220 go\r\n")
			hang(conn)
		}}, "454 4.7.5", "could not be set up"},
		{"nothing after TLS", &peer{tls: conf, ext: []string{"STARTTLS"}, answers: map[string]func(int, string) string{"EHLO": func(n int, _ string) string {
			if n == 2 {
				time.Sleep(500 * time.Millisecond)
				return drop
			}
			return ""
		}}}, "421 4.4.2", "did not answer in time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			const little = 200 * time.Millisecond
			c := courier(t, peers(t, tc.peer), oneHost, func(o *Options) {
				o.Timeouts = Timeouts{Greeting: little, Command: little, Data: little, Block: little, Final: little, TLS: little}
				if strings.Contains(tc.name, "TLS") {
					o.Routes = []Route{{Domain: "*", TLS: TLSRequired}}
				}
			})
			r := once(t, c, envelope("", "a@example.org"))
			if short(r) != tc.want || !strings.Contains(r.Text, tc.says) {
				t.Errorf("%+v", r)
			}
			if n, _ := tc.peer.got(); n != 0 {
				t.Errorf("%d mails", n)
			}
		})
	}
}

// A host that says more than it was asked, in time or late, never makes a message count as
// taken that it has not.
func TestRepliesThatNobodyAskedFor(t *testing.T) {
	for _, extra := range []string{"250 2.0.0 ok", "354 go on", "421 4.3.2 bye", "250-half", "550 5.0.0 no", "\x00"} {
		for _, wait := range []time.Duration{0, 20 * time.Millisecond} {
			p := &peer{ext: []string{"PIPELINING"}}
			p.answers = map[string]func(int, string) string{".": func(n int, _ string) string {
				if n == 1 {
					if wait == 0 {
						return "250 2.0.0 queued as 1\r\n" + extra
					}
					return ""
				}
				return ""
			}, "MAIL": func(n int, _ string) string {
				if n == 2 && wait > 0 {
					return extra + "\r\n250 2.1.0 fine"
				}
				return ""
			}}
			c := courier(t, peers(t, p), oneHost, func(o *Options) { o.Timeouts.Command = 300 * time.Millisecond })
			taken := 0
			for range 3 {
				if r := once(t, c, envelope("", "a@example.org")); r.Code == 250 {
					taken++
				}
				time.Sleep(wait)
			}
			if n, _ := p.got(); taken > n {
				t.Errorf("%q after %v: %d count as taken, the host has %d", extra, wait, taken, n)
			}
		}
	}
}
