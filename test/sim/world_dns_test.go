package sim

import (
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// datagram is a socket to the resolver: each write is a question, each read an answer.
type datagram struct {
	*stream
	w *world
}

func (w *world) dialDNS() net.Conn {
	here := &stream{net: w.net, out: newPipe(weather{}, 0), in: newPipe(weather{delay: 3 * time.Millisecond}, 0),
		local: addressOf("server"), remote: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(atDNS))}
	return &datagram{here, w}
}

// That it has these makes it a packet's for package dns.
func (d *datagram) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := d.Read(b)
	return n, d.remote, err
}
func (d *datagram) WriteTo(b []byte, _ net.Addr) (int, error) { return d.Write(b) }

func (d *datagram) Write(b []byte) (int, error) {
	q := new(dns.Msg)
	if q.Unpack(b) != nil || len(q.Question) != 1 {
		return len(b), nil
	}
	if a := d.w.answer(q); a != nil {
		out, err := a.Pack()
		if err != nil {
			return 0, err
		}
		_, _ = d.in.write(out)
	}
	return len(b), nil
}

// answer is what the resolver says now; nil is nothing.
func (w *world) answer(q *dns.Msg) *dns.Msg {
	a := new(dns.Msg).SetReply(q)
	a.RecursionAvailable = true
	name := strings.TrimSuffix(strings.ToLower(q.Question[0].Name), ".")
	lie := w.lie(name)
	if lie != "" {
		w.met("DNS lies")
	}
	switch lie {
	case "servfail":
		a.Rcode = dns.RcodeServerFailure
		return a
	case "refused":
		a.Rcode = dns.RcodeRefused
		return a
	case "silent":
		return nil
	case "nxdomain":
		a.Rcode = dns.RcodeNameError
		return a
	}
	head := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: 60}
	for i, p := range w.s.Domains {
		switch q.Question[0].Qtype {
		case dns.TypeMX:
			if name == p.Name {
				a.Answer = append(a.Answer, &dns.MX{Hdr: head, Preference: 10, Mx: "mx1." + p.Name + "."}, &dns.MX{Hdr: head, Preference: 20, Mx: "mx2." + p.Name + "."})
			}
		case dns.TypeA:
			for n := range 2 {
				if addr := hostAddr(i, n); name == hostName(p.Name, n) {
					a.Answer = append(a.Answer, &dns.A{Hdr: head, A: addr.Addr().AsSlice()})
				}
			}
		}
		if name == p.Name || strings.HasSuffix(name, "."+p.Name) {
			return a
		}
	}
	a.Rcode = dns.RcodeNameError
	return a
}

func hostName(domain string, n int) string {
	return string([]byte{'m', 'x', byte('1' + n), '.'}) + domain
}

func hostAddr(domain, n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(10*domain + n + 1)}), 25)
}

// lie tells how questions about a name are answered at the moment; "" is truly.
func (w *world) lie(name string) string {
	now := int(time.Since(w.lifeBegan()).Milliseconds())
	for _, t := range w.life().Faults {
		if t.Kind == "dns" && t.From <= now && now < t.To && (name == t.File || strings.HasSuffix(name, "."+t.File)) {
			return t.What
		}
	}
	return ""
}

// denied tells whether the domain was said not to exist at some time. A server may
// remember it for an hour, so that at no time after that a bounce is wrong.
func (w *world) denied(domain string) bool {
	if domain == "nowhere.test" {
		return true
	}
	for _, l := range w.s.Lives {
		for _, t := range l.Faults {
			if t.Kind == "dns" && t.What == "nxdomain" && t.File == domain {
				return true
			}
		}
	}
	return false
}
