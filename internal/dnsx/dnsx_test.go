package dnsx_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/test/memory"
)

const zone = `
example.org.      3600 IN SOA ns.example.org. root.example.org. 1 3600 600 86400 900
example.org.      3600 IN MX 20 MX2.example.org.
example.org.      3600 IN MX 10 mx1.example.org.
null.example.org.      IN MX 0 .
mx1.example.org.   120 IN A 192.0.2.1
mx1.example.org.   600 IN AAAA 2001:db8::1
mx1.example.org.   600 IN AAAA 2001:db8::2
four.example.org.      IN A 192.0.2.4
www.example.org.    60 IN CNAME web.example.org.
web.example.org.       IN A 192.0.2.5
loop.example.org.      IN CNAME pool.example.org.
pool.example.org.      IN CNAME loop.example.org.
lost.example.org.      IN CNAME nowhere.example.org.
txt.example.org.       IN TXT "v=spf1 " "a \"b\" \200-all"
_25._tcp.mx1.example.org. IN TLSA 3 1 1 AABB
_imaps._tcp.example.org. IN SRV 0 1 993 mx1.example.org.
1.2.0.192.in-addr.arpa. IN PTR mx1.example.org.
xn--bcher-kva.example.org. IN A 192.0.2.6
half.example.org.      IN A 192.0.2.7
edge.example.net.      IN A 192.0.2.8
! servfail broken.example.org
! refused  refused.example.org
! silent   silent.example.org
! garbage  garbage.example.org
! other    other.example.org
! referral referral.example.org
! truncate txt.example.org
! ad       mx1.example.org
! noedns   four.example.org
`

func start(t *testing.T, zone string) *dnstest.Server {
	t.Helper()
	s, err := dnstest.Start(zone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func client(t *testing.T, opt dnsx.Options) *dnsx.Client {
	t.Helper()
	if opt.Timeout == 0 {
		opt.Timeout, opt.Rounds = 2*time.Second, 1
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	opt.ID, opt.Dial = dns.Id, new(net.Dialer).DialContext
	c, err := dnsx.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAnswers(t *testing.T) {
	s := start(t, zone)
	c := client(t, dnsx.Options{Servers: []string{s.Addr()}})
	ctx := t.Context()

	mx, info, err := c.LookupMX(ctx, "Example.ORG.")
	if err != nil || fmt.Sprint(mx) != "[{mx1.example.org 10} {mx2.example.org 20}]" || info.TTL != time.Hour || info.AD {
		t.Errorf("MX: %v %+v %v", mx, info, err)
	}
	if mx, _, err := c.LookupMX(ctx, "null.example.org"); err != nil || len(mx) != 1 || mx[0].Host != "" {
		t.Errorf("null MX: %v %v", mx, err)
	}
	addrs, info, err := c.LookupAddr(ctx, "mx1.example.org")
	if err != nil || fmt.Sprint(addrs) != "[2001:db8::1 192.0.2.1 2001:db8::2]" || !info.AD || info.TTL != 120*time.Second {
		t.Errorf("addresses: %v %+v %v", addrs, info, err)
	}
	if addrs, _, err := c.LookupAddr(ctx, "four.example.org"); err != nil || fmt.Sprint(addrs) != "[192.0.2.4]" {
		t.Errorf("server without EDNS: %v %v", addrs, err)
	}
	addrs, info, err = c.LookupAddr(ctx, "www.example.org")
	if err != nil || fmt.Sprint(addrs) != "[192.0.2.5]" || info.Name != "web.example.org" || info.TTL != time.Minute {
		t.Errorf("alias: %v %+v %v", addrs, info, err)
	}
	if name, _, err := c.LookupCNAME(ctx, "www.example.org"); err != nil || name != "web.example.org" {
		t.Errorf("CNAME: %v %v", name, err)
	}
	if name, _, err := c.LookupCNAME(ctx, "web.example.org"); err != nil || name != "web.example.org" {
		t.Errorf("no CNAME: %v %v", name, err)
	}
	if txt, _, err := c.LookupTXT(ctx, "txt.example.org"); err != nil || !slices.Equal(txt, []string{"v=spf1 a \"b\" \xc8-all"}) {
		t.Errorf("TXT over TCP: %q %v", txt, err)
	}
	if tlsa, _, err := c.LookupTLSA(ctx, "_25._tcp.mx1.example.org"); err != nil || fmt.Sprint(tlsa) != "[{3 1 1 [170 187]}]" {
		t.Errorf("TLSA: %v %v", tlsa, err)
	}
	if srv, _, err := c.LookupSRV(ctx, "_imaps._tcp.example.org"); err != nil || len(srv) != 1 || srv[0].Port != 993 {
		t.Errorf("SRV: %v %v", srv, err)
	}
	if ptr, _, err := c.LookupPTR(ctx, netip.MustParseAddr("::ffff:192.0.2.1")); err != nil || fmt.Sprint(ptr) != "[mx1.example.org]" {
		t.Errorf("PTR: %v %v", ptr, err)
	}
	if addrs, _, err := c.LookupAddr(ctx, "bücher.example.org"); err != nil || len(addrs) != 1 {
		t.Errorf("U-label: %v %v", addrs, err)
	}
}

// What is denied is NotFound with its cause; what is not known is Unavailable.
func TestFailures(t *testing.T) {
	s := start(t, zone)
	c := client(t, dnsx.Options{Servers: []string{s.Addr()}})
	for _, tc := range []struct {
		name  string
		kind  fault.Kind
		cause error
	}{
		{"nowhere.example.org", fault.NotFound, dnsx.ErrNoName},
		{"mx1.example.org", fault.NotFound, dnsx.ErrNoData},
		{"_tcp.example.org", fault.NotFound, dnsx.ErrNoData}, // an empty non-terminal exists
		{"lost.example.org", fault.NotFound, dnsx.ErrNoName},
		{"nothing.example.com", fault.NotFound, dnsx.ErrNoName},
		{"loop.example.org", fault.Unavailable, nil},
		{"broken.example.org", fault.Unavailable, nil},
		{"refused.example.org", fault.Unavailable, nil},
		{"silent.example.org", fault.Unavailable, nil},
		{"garbage.example.org", fault.Unavailable, nil},
		{"other.example.org", fault.Unavailable, nil},
		{"referral.example.org", fault.Unavailable, nil},
		{"a..b", fault.Invalid, nil},
		{"", fault.Invalid, nil},
		{"a b.example.org", fault.Invalid, nil},
		{strings.Repeat("a.", 130) + "org", fault.Invalid, nil},
		{"\xff.example.org", fault.Invalid, nil},
	} {
		_, _, err := c.LookupMX(t.Context(), tc.name)
		if !fault.Is(err, tc.kind) || tc.cause != nil && !errors.Is(err, tc.cause) {
			t.Errorf("%q: %v, want %v %v", tc.name, err, tc.kind, tc.cause)
		}
	}
}

// A failure for one family and a denial for the other is not a denial.
func TestAddrNeedsTwoDenials(t *testing.T) {
	s := start(t, zone)
	c := client(t, dnsx.Options{Servers: []string{s.Addr()}})
	if _, _, err := c.LookupAddr(t.Context(), "broken.example.org"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
	if _, _, err := c.LookupAddr(t.Context(), "example.org"); !errors.Is(err, dnsx.ErrNoData) {
		t.Errorf("%v", err)
	}
}

func TestCacheHonoursTTL(t *testing.T) {
	s := start(t, zone)
	var mu sync.Mutex
	now := time.Unix(1_000_000, 0)
	step := func(d time.Duration) { mu.Lock(); now = now.Add(d); mu.Unlock() }
	c := client(t, dnsx.Options{Servers: []string{s.Addr()}, CacheEntries: 2,
		Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	asked := func(name string, want int) {
		t.Helper()
		before := s.Queries()
		c.LookupTXT(t.Context(), name)
		if got := s.Queries() - before; got != want {
			t.Errorf("%s: %d questions, want %d", name, got, want)
		}
	}
	asked("four.example.org", 2) // FORMERR, then without EDNS: a denial of 900 s
	step(899 * time.Second)
	asked("four.example.org", 0)
	step(time.Second)
	asked("four.example.org", 2)
	asked("txt.example.org", 2) // UDP, then TCP
	asked("txt.example.org", 0)
	step(301 * time.Second)
	asked("txt.example.org", 2)
	asked("broken.example.org", 1) // failures are kept for a moment
	asked("broken.example.org", 0)
	step(time.Second)
	asked("broken.example.org", 1)
	asked("edge.example.net", 1) // a denial without SOA is not kept
	asked("edge.example.net", 1)
	asked("web.example.org", 1)
	asked("mx1.example.org", 1)
	asked("www.example.org", 1)
	asked("web.example.org", 1) // two newer ones pushed it out
	asked("web.example.org", 0)
	step(-time.Hour) // the clock was ahead: nothing lives longer for that
	asked("web.example.org", 1)
}

func TestEqualQuestionsAreSentOnce(t *testing.T) {
	s := start(t, zone)
	c := client(t, dnsx.Options{Servers: []string{s.Addr()}})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, _, err := c.LookupMX(context.Background(), "example.org"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// One that missed the cache before the flight ended looks again inside the next.
	if n := s.Queries(); n != 1 {
		t.Errorf("%d questions", n)
	}
}

// One who gives up does not spoil the answer of the others.
func TestCancelledCallerLeavesAlone(t *testing.T) {
	s := start(t, zone)
	c := client(t, dnsx.Options{Servers: []string{s.Addr()}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.LookupMX(ctx, "example.org"); !fault.Is(err, fault.Closed) {
		t.Errorf("%v", err)
	}
	if _, _, err := c.LookupMX(t.Context(), "example.org"); err != nil {
		t.Error(err)
	}
}

func TestNextServerIsAsked(t *testing.T) {
	bad, good := start(t, "! servfail example.org\n"), start(t, zone)
	dead, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	c := client(t, dnsx.Options{Servers: []string{dead.LocalAddr().String(), bad.Addr(), good.Addr()}})
	if mx, _, err := c.LookupMX(t.Context(), "example.org"); err != nil || len(mx) != 2 {
		t.Errorf("%v %v", mx, err)
	}
}

// A thousand records are an answer of bounded size, not a failure.
func TestManyRecords(t *testing.T) {
	var z strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&z, "many.example. IN MX %d mx%d.many.example.\n", i, i)
	}
	s := start(t, z.String())
	c := client(t, dnsx.Options{Servers: []string{s.Addr()}})
	mx, _, err := c.LookupMX(t.Context(), "many.example")
	if err != nil || len(mx) == 0 || len(mx) > 256 {
		t.Errorf("%d records, %v", len(mx), err)
	}
}

func TestAttack31LongChains(t *testing.T) {
	var z strings.Builder
	for i := range 30 {
		fmt.Fprintf(&z, "c%d.example. IN CNAME c%d.example.\n", i, i+1)
	}
	z.WriteString("c30.example. IN A 192.0.2.1\n")
	s := start(t, z.String())
	c := client(t, dnsx.Options{Servers: []string{s.Addr()}})
	if _, _, err := c.LookupAddr(t.Context(), "c0.example"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
	if _, _, err := c.LookupAddr(t.Context(), "c25.example"); err != nil {
		t.Errorf("%v", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := dnsx.New(dnsx.Options{Servers: []string{"192.0.2.1"}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("%v", err)
	}
}

// FuzzAnswer feeds a server's bytes to the client, for every kind of question: it gives an
// error or an answer within its bounds, in bounded memory, and never a denial unless the
// bytes say so.
func FuzzAnswer(f *testing.F) {
	head := []byte{0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 1, 'a', 0}
	answer := func(qtype byte, rdata ...byte) []byte {
		return append(append(slices.Clone(head), 0, qtype, 0, 1, 0xc0, 12, 0, qtype, 0, 1, 0, 0, 0, 9, 0, byte(len(rdata))), rdata...)
	}
	f.Add([]byte{0, 1, 0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 15, 0, 1}, uint8(0))
	f.Add(answer(15, 0, 1, 0), uint8(0))
	f.Add([]byte{0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 1, 'a', 0, 0, 15, 0, 1, 0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12}, uint8(0))
	f.Add(answer(1, 192, 0, 2, 1), uint8(1))
	f.Add(answer(16, 3, 'a', 0xff, 'b', 1, '\\'), uint8(2))
	f.Add(answer(5, 1, 'b', 0), uint8(3))
	f.Add(answer(33, 0, 1, 0, 2, 0, 25, 1, 'b', 0), uint8(5))
	f.Add(answer(52, 3, 1, 1, 1, 2, 3), uint8(6))
	f.Fuzz(func(t *testing.T, reply []byte, kind uint8) {
		c, err := dnsx.New(dnsx.Options{Servers: []string{"192.0.2.1:53"}, Timeout: 20 * time.Millisecond, Rounds: 1, Now: time.Now, ID: dns.Id,
			Dial: func(context.Context, string, string) (net.Conn, error) { return &oneReply{reply: reply}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		n, most := 0, len(reply)
		var info dnsx.Info
		memory.Once(t, 2000*len(reply), func() {
			switch kind % 7 {
			case 0:
				var mx []dnsx.MX
				mx, info, err = c.LookupMX(t.Context(), "a")
				n, most = len(mx), 256
			case 1:
				var list []netip.Addr
				list, info, err = c.LookupAddr(t.Context(), "a")
				n = len(list)
			case 2:
				var list []string
				list, info, err = c.LookupTXT(t.Context(), "a")
				n = len(list)
			case 3:
				var name string
				name, info, err = c.LookupCNAME(t.Context(), "a")
				n = len(name)
				most = max(most, 1)
			case 4:
				var list []string
				list, info, err = c.LookupPTR(t.Context(), netip.AddrFrom4([4]byte{192, 0, 2, 1}))
				n, most = max(len(list), 1), max(len(list), most) // none with a name that can be one
			case 5:
				var list []dnsx.SRV
				list, info, err = c.LookupSRV(t.Context(), "a")
				n, most = max(len(list), 1), max(len(list), most)
			default:
				var list []dnsx.TLSA
				list, info, err = c.LookupTLSA(t.Context(), "a")
				n = len(list)
			}
		})
		switch {
		case err == nil && (n == 0 || n > most || info.TTL < 0 || info.TTL > 24*time.Hour):
			t.Fatalf("%d of %d %+v", n, kind%7, info)
		case fault.Is(err, fault.NotFound) && (len(reply) < 4 || reply[2]&0x80 == 0 || reply[3]&15 != 0 && reply[3]&15 != 3):
			t.Fatalf("denied by %x", reply)
		case info.AD:
			t.Fatal("authenticated by a server that is far away")
		}
	})
}

// oneReply is a socket on which each question is answered by the same bytes, with
// the question's own ID.
type oneReply struct {
	net.PacketConn
	reply []byte
	id    [2]byte
	read  bool
}

func (o *oneReply) Write(b []byte) (int, error) { copy(o.id[:], b); o.read = false; return len(b), nil }
func (o *oneReply) Read(b []byte) (int, error) {
	if o.read {
		return 0, context.DeadlineExceeded
	}
	o.read = true
	n := copy(b, o.reply)
	copy(b[:n], o.id[:])
	return n, nil
}
func (o *oneReply) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := o.Read(b)
	return n, o.RemoteAddr(), err
}
func (o *oneReply) Close() error                     { return nil }
func (o *oneReply) RemoteAddr() net.Addr             { return &net.UDPAddr{} }
func (o *oneReply) LocalAddr() net.Addr              { return &net.UDPAddr{} }
func (o *oneReply) SetDeadline(time.Time) error      { return nil }
func (o *oneReply) SetReadDeadline(time.Time) error  { return nil }
func (o *oneReply) SetWriteDeadline(time.Time) error { return nil }
