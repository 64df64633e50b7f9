package discover

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// quiet is a resolver without sockets, for bubbles: names have an address, or do not exist, or
// are never answered.
type quiet struct {
	dnsx.Resolver
	addrs  map[string]string
	mx     []dnsx.MX
	silent bool // about all that it does not know
}

func (q quiet) unknown(ctx context.Context) error {
	if q.silent {
		<-ctx.Done()
		return fault.Wrap(fault.Unavailable, "no answer", ctx.Err())
	}
	return fault.Wrap(fault.NotFound, "no such name", dnsx.ErrNoName)
}

func (q quiet) LookupIP(ctx context.Context, host string, six bool) ([]netip.Addr, dnsx.Info, error) {
	if a, ok := q.addrs[host]; ok && !six {
		return []netip.Addr{netip.MustParseAddr(a)}, dnsx.Info{}, nil
	}
	return nil, dnsx.Info{}, q.unknown(ctx)
}

func (q quiet) LookupMX(ctx context.Context, domain string) ([]dnsx.MX, dnsx.Info, error) {
	if q.mx != nil {
		return q.mx, dnsx.Info{}, nil
	}
	return nil, dnsx.Info{}, q.unknown(ctx)
}

func (q quiet) LookupCNAME(ctx context.Context, _ string) (string, dnsx.Info, error) {
	return "", dnsx.Info{}, q.unknown(ctx)
}

func (q quiet) LookupTXT(ctx context.Context, _ string) ([]string, dnsx.Info, error) {
	return nil, dnsx.Info{}, q.unknown(ctx)
}

func (q quiet) LookupSRV(ctx context.Context, _ string) ([]dnsx.SRV, dnsx.Info, error) {
	return nil, dnsx.Info{}, q.unknown(ctx)
}

// slow is a place that lets others wait before it greets.
type slow struct {
	post
	after time.Duration
}

// pipes are connections without sockets. A place that is not there never answers.
type pipes struct {
	w      *world
	places map[string]post
	drips  map[string]bool // say a byte each second
	slow   map[string]slow

	mu     sync.Mutex
	dialed int
}

func (p *pipes) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	p.mu.Lock()
	p.dialed++
	p.mu.Unlock()
	if s, ok := p.places[address]; ok {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			p.w.session(there, s, &tls.Config{Certificates: []tls.Certificate{p.w.certificate(s.names...)}, Time: p.w.clock})
		}()
		return here, nil
	}
	if s, ok := p.slow[address]; ok {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			time.Sleep(s.after)
			p.w.session(there, s.post, &tls.Config{Certificates: []tls.Certificate{p.w.certificate(s.names...)}, Time: p.w.clock})
		}()
		return here, nil
	}
	if p.drips[address] {
		here, there := net.Pipe()
		go func() {
			for {
				time.Sleep(time.Second)
				if _, err := there.Write([]byte("x")); err != nil {
					return
				}
			}
		}()
		return here, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// timed finds in a bubble, and says how long it took by the bubble's clock.
func timed(t *testing.T, q quiet, p *pipes, text string, change func(*Options)) (a *Answer, took time.Duration) {
	t.Helper()
	w := newWorld(t, "") // keys are made outside
	p.w = w
	synctest.Test(t, func(t *testing.T) {
		w.t = t
		// The bubble's clock stands in the year 2000, the certificates do not.
		outside := w.ca.NotBefore.Add(time.Hour)
		began := time.Now()
		w.clock = func() time.Time { return outside.Add(time.Since(began)) }
		o := Options{Resolver: q, Dial: p.Dial, Now: w.clock, Random: rand.Reader, Roots: w.roots, Database: "https://db.test-db.org/"}
		if change != nil {
			change(&o)
		}
		f, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if a, err = f.Find(context.Background(), text); err != nil {
			t.Fatal(err)
		}
		took = time.Since(began)
		time.Sleep(20 * time.Second) // those who drip or are slow see that nobody listens
	})
	return a, took
}

var allNames = map[string]string{
	"example.org": "203.0.113.1", "autoconfig.example.org": "203.0.113.2", "ua-auto-config.example.org": "203.0.113.3", "autodiscover.example.org": "203.0.113.4",
	"db.test-db.org": "203.0.113.5", "imap.example.org": "203.0.113.8", "smtp.example.org": "203.0.113.8", "pop.example.org": "203.0.113.8", "mail.example.org": "203.0.113.9",
	"mx.host.net": "203.0.113.7",
}

func TestHalfOfTheHostsNeverAnswer(t *testing.T) {
	mailHost := map[string]post{
		"203.0.113.9:993": {protocol: "imap", security: TLS, names: []string{"mail.example.org"}},
		"203.0.113.9:587": {protocol: "smtp", security: StartTLS, names: []string{"mail.example.org"}},
	}
	a, took := timed(t, quiet{addrs: allNames, mx: []dnsx.MX{{Host: "mx.host.net"}}}, &pipes{places: mailHost}, "me@example.org", nil)
	if got := lines(a); got != "imap mail.example.org:993 tls guess guessed\nsmtp mail.example.org:587 starttls guess guessed\n" {
		t.Error(got)
	}
	if took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	// Also if the name server is silent about half of the names.
	a, took = timed(t, quiet{addrs: allNames, silent: true}, &pipes{places: mailHost}, "me@example.org", nil)
	if len(a.Services) != 2 || took > 2*time.Second {
		t.Errorf("%s took %v", lines(a), took)
	}
	// And if hosts drip.
	drips := map[string]bool{}
	for _, ip := range allNames {
		for _, port := range []string{"443", "80", "993", "143", "995", "110", "465", "587"} {
			drips[ip+":"+port] = true
		}
	}
	a, took = timed(t, quiet{addrs: allNames}, &pipes{places: mailHost, drips: drips}, "me@example.org", nil)
	if len(a.Services) != 2 || took > 2*time.Second {
		t.Errorf("%s took %v", lines(a), took)
	}
}

func TestNothingAnswersAtAll(t *testing.T) {
	for _, silent := range []bool{false, true} {
		p := &pipes{}
		a, took := timed(t, quiet{addrs: allNames, silent: silent}, p, "me@example.org", nil)
		if len(a.Services) != 0 || took > 5*time.Second {
			t.Errorf("%s took %v", lines(a), took)
		}
		if p.dialed > 60 {
			t.Errorf("%d connections were tried", p.dialed)
		}
		if _, took = timed(t, quiet{addrs: allNames, silent: silent}, &pipes{}, "me@example.org", func(o *Options) { o.Deadline = time.Second }); took > time.Second {
			t.Errorf("with a deadline of 1 s it took %v", took)
		}
	}
}

// A known domain is answered for at once, whatever the network does.
func TestKnownDomainOffline(t *testing.T) {
	refused := errors.New("network is unreachable")
	a, took := timed(t, quiet{}, &pipes{}, "me@gmail.com", func(o *Options) {
		o.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, refused }
	})
	if !strings.HasPrefix(lines(a), "imap imap.gmail.com:993 tls table database") || took != 0 {
		t.Errorf("%s took %v", lines(a), took)
	}
	a, took = timed(t, quiet{silent: true}, &pipes{}, "me@gmail.com", nil)
	if len(a.Services) != 4 || took > quick {
		t.Errorf("%s took %v", lines(a), took)
	}
}

// What is better is waited for, and what is worse is not.
func TestBetterSourcesAreWaitedFor(t *testing.T) {
	places := map[string]post{}
	for port, p := range map[string]string{"993": "imap", "995": "pop3", "465": "smtp"} {
		places["203.0.113.8:"+port] = post{protocol: p, security: TLS, names: []string{"imap.example.org", "pop.example.org", "smtp.example.org"}}
	}
	fast := map[string]string{}
	for _, name := range []string{"imap.example.org", "pop.example.org", "smtp.example.org"} {
		fast[name] = allNames[name]
	}
	a, took := timed(t, quiet{addrs: fast}, &pipes{places: places}, "me@example.org", nil)
	if len(a.Services) != 3 || took > linger {
		t.Errorf("%s took %v", lines(a), took)
	}
	a, took = timed(t, quiet{addrs: allNames}, &pipes{places: places}, "me@example.org", nil)
	if len(a.Services) < 3 || took < time.Second || took > 2*time.Second {
		t.Errorf("%s took %v: autoconfig that does not answer is to be waited for a while", lines(a), took)
	}
}

// Of two places the second counts while the first is silent.
func TestSilentPlaceDoesNotHideTheOther(t *testing.T) {
	w := newWorld(t, zone)
	w.silent("203.0.113.2:443")
	w.web("203.0.113.1", files(map[string]string{"/.well-known/autoconfig/mail/config-v1.1.xml": configXML("example.org")}), "example.org")
	w.mailAll("203.0.113.8", "imap.example.org", "pop.example.org", "smtp.example.org")
	w.want(w.find("me@example.org", func(o *Options) { o.Explain, o.Deadline = false, 2*time.Second }), `imap imap.example.org:993 tls autoconfig published
		pop3 pop.example.org:995 tls guess guessed
		smtp smtp.example.org:587 starttls autoconfig published`)
}

// Nor does it count for more than it is worth, though the search ends before the first has answered.
func TestAttack80DoubtfulBesideASilentPlace(t *testing.T) {
	w := newWorld(t, zone)
	w.silent("203.0.113.2:80")
	doc := strings.ReplaceAll(configXML("example.org"), ".example.org</hostname>", ".evil.net</hostname>")
	w.web("203.0.113.1", func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, doc) })
	if !strings.Contains(doc, "evil.net") {
		t.Fatal(doc)
	}
	w.mailAll("203.0.113.8", "imap.example.org", "pop.example.org", "smtp.example.org")
	a := w.find("me@example.org", func(o *Options) { offline(o); o.Deadline = 2 * time.Second })
	for _, s := range a.Services {
		if s.Source != "guess" {
			t.Errorf("%+v", s)
		}
	}
	if len(a.Services) == 0 {
		t.Error(explained(a))
	}
}

// On a slow line every server answers, and none fast: the first of them does not end the search.
func TestTheFirstAnswerIsNotAll(t *testing.T) {
	names := map[string]string{"imap.example.org": "203.0.113.8", "pop.example.org": "203.0.113.8", "smtp.example.org": "203.0.113.8"}
	at := func(protocol string, after time.Duration) slow {
		return slow{post{protocol: protocol, security: TLS, names: []string{"imap.example.org", "pop.example.org", "smtp.example.org"}}, after}
	}
	const ms, never = time.Millisecond, 15 * time.Second
	for name, c := range map[string]struct {
		imap, pop3, smtp time.Duration
		want             string
		before           time.Duration
	}{
		"all late":             {2200 * ms, 2100 * ms, 2300 * ms, "imap pop3 smtp", 2400 * ms},
		"reading last":         {2300 * ms, 2100 * ms, 2200 * ms, "imap pop3 smtp", 2700 * ms},
		"sending at once":      {2300 * ms, never, 0, "imap smtp", 2800 * ms},
		"only POP3 and SMTP":   {never, 0, 0, "pop3 smtp", 2500 * ms},
		"only sending":         {never, never, 100 * ms, "smtp", 2801 * ms},
		"only reading":         {100 * ms, never, never, "imap", 2801 * ms},
		"too late to be asked": {3 * time.Second, 3 * time.Second, 100 * ms, "smtp", 2801 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pipes{slow: map[string]slow{"203.0.113.8:993": at("imap", c.imap), "203.0.113.8:995": at("pop3", c.pop3), "203.0.113.8:465": at("smtp", c.smtp)}}
			a, took := timed(t, quiet{addrs: names}, p, "me@example.org", nil)
			var got []string
			for _, s := range a.Services {
				got = append(got, s.Protocol)
			}
			if strings.Join(got, " ") != c.want || took > c.before {
				t.Errorf("after %v there is %v", took, got)
			}
			part := strings.Contains(strings.Join(a.Notes, " "), "this is a part")
			if part != (len(got) == 1) {
				t.Errorf("%v: %q", got, a.Notes)
			}
		})
	}
}
