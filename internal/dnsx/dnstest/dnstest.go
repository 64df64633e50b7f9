// Package dnstest is a small real DNS server on loopback, UDP and TCP on one port,
// that answers from zone text: for tests of whatever looks names up.
//
// It behaves as a recursive resolver that knows the given records only. It does no
// wildcards, delegation or DNSSEC.
//
// Besides records in the form of zone files (names complete, with or without the
// final dot) the text may have lines that make a name misbehave:
//
//	! servfail NAME    SERVFAIL            ! refused NAME    REFUSED
//	! silent NAME      no answer           ! garbage NAME    bytes that are no message
//	! truncate NAME    UDP answers are empty and marked as cut off
//	! other NAME       answers another question
//	! referral NAME    points to another server instead of answering
//	! ad NAME          the answer is marked as authenticated
//	! noedns NAME      FORMERR to a question with EDNS
//
// A quirk with a type, as in ! servfail:AAAA NAME, is one of questions of that type only.
//
// A denial carries the SOA record of the closest zone above the name, if there is
// one in the text.
package dnstest

import (
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Server is a running DNS server.
type Server struct {
	addr     string
	udp, tcp *dns.Server

	mu      sync.Mutex
	zone    zone
	queries int
}

type zone struct {
	names   map[string]map[uint16][]dns.RR // by owner, fully qualified and lower case
	quirks  map[string][]string
	parents map[string]bool // names that exist only because others stand below them
}

// Start runs a server with the given zone text until Close.
func Start(text string) (*Server, error) {
	s := &Server{}
	if err := s.SetZone(text); err != nil {
		return nil, err
	}
	var pc net.PacketConn
	var ln net.Listener
	var err error
	for range 20 { // the TCP port of the same number may be taken
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			return nil, err
		}
		if ln, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			break
		}
		pc.Close()
	}
	if err != nil {
		return nil, err
	}
	s.addr = pc.LocalAddr().String()
	s.udp = &dns.Server{PacketConn: pc, Handler: s}
	s.tcp = &dns.Server{Listener: ln, Handler: s}
	for _, srv := range []*dns.Server{s.udp, s.tcp} {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		go srv.ActivateAndServe()
		<-started
	}
	return s, nil
}

// Addr returns the server's "host:port".
func (s *Server) Addr() string { return s.addr }

// Close stops the server.
func (s *Server) Close() {
	s.udp.Shutdown()
	s.tcp.Shutdown()
}

// Queries returns how many questions have come in.
func (s *Server) Queries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queries
}

// SetZone replaces all records.
func (s *Server) SetZone(text string) error {
	z, err := parse(text)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.zone = z
	s.mu.Unlock()
	return nil
}

func parse(text string) (zone, error) {
	z := zone{map[string]map[uint16][]dns.RR{}, map[string][]string{}, map[string]bool{}}
	var records strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		quirk, ok := strings.CutPrefix(line, "!")
		if !ok {
			records.WriteString(line + "\n")
			continue
		}
		f := strings.Fields(quirk)
		if len(f) != 2 {
			return z, fmt.Errorf("dnstest: %q is not of the form ! QUIRK NAME", line)
		}
		name := canonical(f[1])
		z.quirks[name] = append(z.quirks[name], f[0])
	}
	p := dns.NewZoneParser(strings.NewReader(records.String()), ".", "")
	p.SetDefaultTTL(300)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		name := canonical(rr.Header().Name)
		if z.names[name] == nil {
			z.names[name] = map[uint16][]dns.RR{}
		}
		z.names[name][rr.Header().Rrtype] = append(z.names[name][rr.Header().Rrtype], rr)
		for up := name; up != "."; {
			_, up, _ = strings.Cut(up, ".")
			if up == "" {
				up = "."
			}
			z.parents[up] = true
		}
	}
	return z, p.Err()
}

// canonical is how names are compared, whichever way their odd bytes are escaped.
func canonical(name string) string {
	wire := make([]byte, 256)
	if end, err := dns.PackDomainName(dns.Fqdn(name), wire, 0, nil, false); err == nil {
		if text, _, err := dns.UnpackDomainName(wire[:end], 0); err == nil {
			name = text
		}
	}
	return strings.ToLower(dns.Fqdn(name))
}

// ServeDNS answers one question.
func (s *Server) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	s.mu.Lock()
	s.queries++
	z := s.zone
	s.mu.Unlock()
	if len(req.Question) != 1 {
		return
	}
	m := new(dns.Msg)
	m.SetReply(req)
	m.RecursionAvailable = true
	name, qtype := canonical(req.Question[0].Name), req.Question[0].Qtype
	z.answer(m, name, qtype)
	udp := w.LocalAddr().Network() == "udp"
	for _, quirk := range z.quirks[name] {
		quirk, only, typed := strings.Cut(quirk, ":")
		if typed && dns.StringToType[only] != qtype {
			continue
		}
		if !misbehave(quirk, m, req, w, udp) {
			return
		}
	}
	if udp {
		size := dns.MinMsgSize
		if opt := req.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
		}
		m.Truncate(size)
	}
	w.WriteMsg(m)
}

// answer puts the records of name into m, and those of what it is an alias of.
func (z zone) answer(m *dns.Msg, name string, qtype uint16) {
	for range 12 { // the client's bound is lower
		if rrs := z.names[name][qtype]; len(rrs) > 0 {
			m.Answer = append(m.Answer, rrs...)
			return
		}
		alias := z.names[name][dns.TypeCNAME]
		if len(alias) == 0 {
			break
		}
		m.Answer = append(m.Answer, alias...)
		name = canonical(alias[0].(*dns.CNAME).Target)
	}
	if z.names[name] == nil && !z.parents[name] {
		m.Rcode = dns.RcodeNameError
	}
	for zone := name; ; {
		if soa := z.names[zone][dns.TypeSOA]; len(soa) > 0 {
			m.Ns = append(m.Ns, soa[0])
			return
		}
		if zone == "." {
			return
		}
		if _, zone, _ = strings.Cut(zone, "."); zone == "" {
			zone = "."
		}
	}
}

// misbehave applies a quirk; false means that nothing more is to be sent.
func misbehave(quirk string, m, req *dns.Msg, w dns.ResponseWriter, udp bool) bool {
	fail := func(rcode int) {
		m.Answer, m.Ns, m.Rcode = nil, nil, rcode
	}
	switch quirk {
	case "servfail":
		fail(dns.RcodeServerFailure)
	case "refused":
		fail(dns.RcodeRefused)
	case "silent":
		return false
	case "garbage":
		w.Write([]byte{byte(req.Id >> 8), byte(req.Id), 0x81, 0x80, 0, 1, 0, 9, 0xff, 0xff, 0xff})
		return false
	case "truncate":
		if udp {
			fail(dns.RcodeSuccess)
			m.Truncated = true
		}
	case "other":
		m.Question[0].Name = "other.invalid."
	case "referral":
		fail(dns.RcodeSuccess)
		m.Ns = []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNS, Class: dns.ClassINET}, Ns: "ns.invalid."}}
	case "ad":
		m.AuthenticatedData = true
	case "noedns":
		if req.IsEdns0() != nil {
			fail(dns.RcodeFormatError)
		}
	}
	return true
}
