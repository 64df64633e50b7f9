package spf_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/internal/check/spf"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/mail"
)

// suite is a group of the public test suite: tests that share a zone.
type suite struct {
	Description string
	Tests       []testCase
	Zonedata    map[string][]rr
}

type testCase struct {
	Name, Helo, Host, Mailfrom, Explanation, Description string
	Result                                               []string
}

type rr struct {
	Type string
	Data []string
}

// TestPublicSuite runs the 203 cases of the suite for RFC 7208 over a real name server.
func TestPublicSuite(t *testing.T) {
	run := 0
	for _, s := range publicSuite(t) {
		server := serve(t, s.Zonedata)
		for _, c := range s.Tests {
			run++
			t.Run(c.Name, func(t *testing.T) {
				from := mail.Address{}
				if at := strings.LastIndexByte(c.Mailfrom, '@'); at >= 0 {
					from = mail.Address{Local: c.Mailfrom[:at], Domain: c.Mailfrom[at+1:]}
				}
				before := server.asked()
				got := spf.Check(t.Context(), server.resolver, spf.Query{
					Addr: netip.MustParseAddr(c.Host), Helo: c.Helo, From: from, Receiver: "mx.here.test", Now: time.Unix(1, 0),
				})
				if !slices.Contains(c.Result, string(got.Status)) {
					t.Errorf("%s: %s, want %s (%+v)", c.Description, got.Status, c.Result, got)
				}
				want := c.Explanation
				if want == "DEFAULT" {
					want = ""
				}
				if c.Explanation != "" && got.Explanation != want {
					t.Errorf("explanation %q, want %q", got.Explanation, want)
				}
				if n := server.asked() - before; n > mostQuestions {
					t.Errorf("%d questions", n)
				}
			})
		}
	}
	if run != 203 {
		t.Errorf("%d cases ran", run)
	}
}

// mostQuestions is what the limits come to: 11 records, 10 terms each with a list of at
// most 10 hosts, an explanation, and the client's names.
const mostQuestions = 11 + 10*11 + 1 + 11

// server is a name server over UDP that answers from the zone of a suite.
type server struct {
	mu       sync.Mutex
	names    map[string][]dns.RR
	silent   map[string]bool
	n        int
	addr     string
	resolver *dnsx.Client
}

func serve(t *testing.T, zone map[string][]rr) *server {
	t.Helper()
	s := &server{names: map[string][]dns.RR{}, silent: map[string]bool{}}
	for name, rrs := range zone {
		s.add(t, name, rrs)
	}
	var pc net.PacketConn
	var ln net.Listener
	var err error
	for range 20 { // the TCP port of the same number may be taken
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if ln, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			break
		}
		pc.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []*dns.Server{{PacketConn: pc, Handler: s}, {Listener: ln, Handler: s}} {
		go d.ActivateAndServe()
		t.Cleanup(func() { d.Shutdown() })
	}
	s.addr = pc.LocalAddr().String()
	s.resolver = resolver(t, s.addr)
	return s
}

func resolver(t testing.TB, addr string) *dnsx.Client {
	t.Helper()
	c, err := dnsx.New(dnsx.Options{
		Servers: []string{addr}, Rounds: 1, CacheEntries: -1, Now: time.Now,
		ID: func() uint16 { return uint16(rand.Uint32()) }, Dial: (&net.Dialer{}).DialContext,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *server) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// add makes records. What the suite calls SPF stands for TXT, unless the name has TXT, too.
func (s *server) add(t *testing.T, name string, rrs []rr) {
	t.Helper()
	name = canonical(name)
	txt := slices.ContainsFunc(rrs, func(r rr) bool { return r.Type == "TXT" })
	s.names[name] = []dns.RR{}
	for _, r := range rrs {
		h := dns.RR_Header{Name: name, Class: dns.ClassINET, Ttl: 60}
		put := func(kind uint16, rr dns.RR) {
			rr.Header().Rrtype = kind
			s.names[name] = append(s.names[name], rr)
		}
		switch {
		case r.Type == "TIMEOUT":
			s.silent[name] = true
		case r.Type == "A":
			put(dns.TypeA, &dns.A{Hdr: h, A: net.ParseIP(r.Data[0])})
		case r.Type == "AAAA":
			put(dns.TypeAAAA, &dns.AAAA{Hdr: h, AAAA: net.ParseIP(r.Data[0])})
		case r.Type == "PTR":
			put(dns.TypePTR, &dns.PTR{Hdr: h, Ptr: dns.Fqdn(r.Data[0])})
		case r.Type == "CNAME":
			put(dns.TypeCNAME, &dns.CNAME{Hdr: h, Target: dns.Fqdn(r.Data[0])})
		case r.Type == "MX":
			var pref uint16
			fmt.Sscan(r.Data[0], &pref)
			put(dns.TypeMX, &dns.MX{Hdr: h, Preference: pref, Mx: dns.Fqdn(r.Data[1])})
		case r.Type == "TXT" && r.Data[0] == "NONE":
		case r.Type == "TXT", r.Type == "SPF" && !txt:
			put(dns.TypeTXT, &dns.TXT{Hdr: h, Txt: pieces(r.Data)})
		case r.Type != "SPF":
			t.Fatalf("what is %s?", r.Type)
		}
	}
}

// pieces cuts strings to what one may have, and escapes them as the library wants it.
func pieces(texts []string) (out []string) {
	for _, s := range texts {
		for {
			n := min(len(s), 255)
			var b strings.Builder
			for _, c := range []byte(s[:n]) {
				fmt.Fprintf(&b, `\%03d`, c)
			}
			if out, s = append(out, b.String()), s[n:]; s == "" {
				break
			}
		}
	}
	return out
}

func canonical(name string) string {
	wire := make([]byte, 512)
	end, err := dns.PackDomainName(dns.Fqdn(dnsx.Escape(strings.TrimSuffix(name, "."))), wire, 0, nil, false)
	if err != nil {
		panic(name + ": " + err.Error())
	}
	text, _, _ := dns.UnpackDomainName(wire[:end], 0)
	return strings.ToLower(text)
}

func (s *server) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	m := new(dns.Msg)
	m.SetReply(req)
	name, qtype := strings.ToLower(req.Question[0].Name), req.Question[0].Qtype
	for range 9 {
		rrs, ok := s.names[name]
		if !ok {
			if !slices.ContainsFunc(keys(s.names), func(n string) bool { return strings.HasSuffix(n, "."+name) }) {
				m.Rcode = dns.RcodeNameError
			}
			break
		}
		found, alias := false, ""
		for _, rr := range rrs {
			switch {
			case rr.Header().Rrtype == qtype:
				m.Answer, found = append(m.Answer, rr), true
			case rr.Header().Rrtype == dns.TypeCNAME:
				m.Answer, alias = append(m.Answer, rr), rr.(*dns.CNAME).Target
			}
		}
		if !found && alias == "" && s.silent[name] {
			m.Rcode = dns.RcodeServerFailure // what a timeout comes to, at once
		}
		if found || alias == "" {
			break
		}
		name = strings.ToLower(alias)
	}
	if w.LocalAddr().Network() == "udp" {
		m.Truncate(1232)
	}
	w.WriteMsg(m)
}

func keys(m map[string][]dns.RR) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}
