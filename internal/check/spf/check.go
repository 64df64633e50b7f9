package spf

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Bounds of one check (RFC 7208, 4.6.4).
const (
	maxLookups = 10  // terms that ask
	maxVoids   = 2   // terms that ask and get nothing
	maxHosts   = 10  // hosts of one mx, names of one address
	maxName    = 253 // bytes of a name; a longer one loses labels on the left
	maxExpand  = 64 << 10
	maxExplain = 400 // bytes of an explanation
)

// Check evaluates the record of the domain in q.From, or of q.Helo if q.From is the null
// address. It asks at most 10 terms' worth of questions, and gives up with temperror when
// ctx is done.
func Check(ctx context.Context, resolver dnsx.Resolver, q Query) Result {
	e := &evaluation{ctx: ctx, dns: resolver, q: q, addr: q.Addr.Unmap().WithZone("")}
	res := Result{Local: q.From.Local, Domain: q.From.Domain, IsHelo: q.From.Domain == ""}
	if res.IsHelo {
		res.Domain, res.Local = q.Helo, ""
	}
	if res.Local == "" {
		res.Local = "postmaster" // RFC 7208, 4.3
	}
	domain, err := dnsx.ASCII(res.Domain)
	if err != nil || !strings.Contains(domain, ".") || numeric(domain) || !e.addr.IsValid() {
		res.Status, res.Domain, res.Reason = None, "", "there is no domain to check"
		return res
	}
	res.Domain, e.local, e.domain = domain, res.Local, domain
	found := e.host(domain, 0)
	res.Status, res.Mechanism, res.Reason = found.status, found.mechanism, found.reason
	if found.status == Fail {
		res.Explanation = e.explain(found)
	}
	return res
}

// numeric tells whether a name is an address: no domain.
func numeric(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

// evaluation is one check under way.
type evaluation struct {
	ctx     context.Context
	dns     dnsx.Resolver
	q       Query
	addr    netip.Addr
	local   string
	domain  string // of the sender
	lookups int
	voids   int

	names   []string // of the client, validated; once asked
	asked   bool
	unnamed error // why it has none
}

// outcome is what check_host() returns for a domain.
type outcome struct {
	status    Status
	mechanism string
	reason    string
	domain    string // whose record decided
	exp       *spec
}

func permanent(format string, args ...any) outcome {
	return outcome{status: PermError, reason: fmt.Sprintf(format, args...)}
}

func temporary(name string) outcome {
	return outcome{status: TempError, reason: "the name service has no answer for " + printable(name) + " now"}
}

// host is check_host() of RFC 7208, 4.
func (e *evaluation) host(domain string, depth int) outcome {
	if !strings.Contains(strings.TrimSuffix(domain, "."), ".") {
		return outcome{status: None, reason: printable(domain) + " is no domain with an SPF record"}
	}
	texts, _, err := e.dns.LookupTXT(e.ctx, dnsx.Escape(domain))
	if missing(err) {
		return outcome{status: None, reason: printable(domain) + " has no SPF record"}
	}
	if err != nil {
		return temporary(domain)
	}
	var found []string
	for _, t := range texts {
		if isRecord(t) {
			found = append(found, t)
		}
	}
	switch {
	case len(found) == 0:
		return outcome{status: None, reason: printable(domain) + " has no SPF record"}
	case len(found) > 1:
		return permanent("%s has more than one SPF record", printable(domain))
	}
	rec, err := parseRecord(found[0])
	if err != nil {
		return permanent("the SPF record of %s is invalid: %v", printable(domain), err)
	}
	return e.evaluate(domain, rec, depth)
}

// evaluate goes through the terms of a record.
func (e *evaluation) evaluate(domain string, rec *record, depth int) outcome {
	for i := range rec.terms {
		t := &rec.terms[i]
		matched, bad := e.term(domain, t, depth)
		if bad != nil {
			if bad.mechanism == "" {
				bad.mechanism = printable(t.text)
			}
			return *bad
		}
		if matched {
			return outcome{status: t.status, mechanism: printable(t.text), domain: domain, exp: rec.exp}
		}
	}
	if rec.redirect == nil {
		return outcome{status: Neutral} // RFC 7208, 4.7
	}
	if bad := e.count(); bad != nil {
		return *bad
	}
	target, bad := e.target(domain, rec.redirect)
	if bad != nil {
		return *bad
	}
	found := e.host(target, depth+1)
	if found.status == None {
		return permanent("redirect leads to %s, which has no SPF record", printable(target))
	}
	return found
}

// term tells whether a term matches; bad is what ends the evaluation.
func (e *evaluation) term(domain string, t *term, depth int) (matched bool, bad *outcome) {
	switch t.name {
	case "all":
		return true, nil
	case "ip4", "ip6":
		return t.prefix.Contains(e.addr), nil
	}
	if bad := e.count(); bad != nil {
		return false, bad
	}
	target := domain
	if t.spec != nil {
		if target, bad = e.target(domain, t.spec); bad != nil {
			return false, bad
		}
	}
	switch t.name {
	case "include":
		return e.include(target, depth)
	case "a":
		return e.address(target, t)
	case "mx":
		return e.exchangers(target, t)
	case "exists":
		addrs, _, err := e.dns.LookupIP(e.ctx, dnsx.Escape(target), false)
		return len(addrs) > 0, e.judge(target, err)
	}
	return e.pointer(target)
}

func (e *evaluation) pointer(target string) (bool, *outcome) {
	names := e.validated()
	if fault.Is(e.unnamed, fault.NotFound) {
		return false, e.judge(target, e.unnamed)
	}
	for _, name := range names {
		if within(name, target) {
			return true, nil
		}
	}
	return false, nil
}

// count takes one of the terms that may ask.
func (e *evaluation) count() *outcome {
	if e.lookups++; e.lookups > maxLookups {
		bad := permanent("the SPF record needs more than %d lookups", maxLookups)
		return &bad
	}
	return nil
}

// judge says what the error of a term's lookup makes of the evaluation; nil goes on.
func (e *evaluation) judge(name string, err error) *outcome {
	switch {
	case err == nil:
		return nil
	case fault.Is(err, fault.NotFound):
		if e.voids++; e.voids > maxVoids {
			bad := permanent("the SPF record has more than %d lookups that find nothing", maxVoids)
			return &bad
		}
		return nil
	case missing(err):
		return nil
	}
	bad := temporary(name)
	return &bad
}

// missing tells whether an error says that there is nothing, be it because there can be no
// such name.
func missing(err error) bool { return fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) }

func (e *evaluation) include(target string, depth int) (bool, *outcome) {
	found := e.host(target, depth+1)
	switch found.status {
	case Pass:
		return true, nil
	case TempError, PermError:
		return false, &found
	case None:
		bad := permanent("include names %s, which has no SPF record", printable(target))
		return false, &bad
	}
	return false, nil
}

func (e *evaluation) address(target string, t *term) (bool, *outcome) {
	addrs, _, err := e.dns.LookupIP(e.ctx, dnsx.Escape(target), e.addr.Is6())
	if bad := e.judge(target, err); bad != nil {
		return false, bad
	}
	return e.among(addrs, t), nil
}

// among tells whether the client is in the network of one of some addresses.
func (e *evaluation) among(addrs []netip.Addr, t *term) bool {
	bits := t.four
	if e.addr.Is6() {
		bits = t.six
	}
	for _, a := range addrs {
		if netip.PrefixFrom(a, bits).Contains(e.addr) {
			return true
		}
	}
	return false
}

func (e *evaluation) exchangers(target string, t *term) (bool, *outcome) {
	hosts, _, err := e.dns.LookupMX(e.ctx, dnsx.Escape(target))
	if bad := e.judge(target, err); bad != nil {
		return false, bad
	}
	if len(hosts) > maxHosts {
		bad := permanent("%s has more than %d mail hosts", printable(target), maxHosts)
		return false, &bad
	}
	for _, h := range hosts {
		if h.Host == "" { // no mail (RFC 7505)
			continue
		}
		addrs, _, err := e.dns.LookupIP(e.ctx, h.Host, e.addr.Is6())
		if err != nil && !missing(err) {
			bad := temporary(h.Host)
			return false, &bad
		}
		if e.among(addrs, t) {
			return true, nil
		}
	}
	return false, nil
}

// validated returns the names of the client that lead back to it (RFC 7208, 5.5).
func (e *evaluation) validated() []string {
	if e.asked {
		return e.names
	}
	e.asked = true
	names, _, err := e.dns.LookupPTR(e.ctx, e.addr)
	if e.unnamed = err; err != nil {
		return nil
	}
	for _, name := range names[:min(len(names), maxHosts)] {
		addrs, _, err := e.dns.LookupIP(e.ctx, name, e.addr.Is6())
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if a == e.addr {
				e.names = append(e.names, name)
				break
			}
		}
	}
	return e.names
}

// within tells whether a name is a domain or stands under it.
func within(name, domain string) bool {
	name, domain = strings.ToLower(name), strings.ToLower(strings.TrimSuffix(domain, "."))
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// target expands a domain-spec to a name.
func (e *evaluation) target(domain string, s *spec) (string, *outcome) {
	name, err := s.expand(maxExpand, func(letter byte) string { return e.value(letter, domain) })
	if err != nil {
		bad := permanent("%v", err)
		return "", &bad
	}
	name = strings.TrimSuffix(name, ".")
	for len(name) > maxName {
		_, rest, ok := strings.Cut(name, ".")
		if !ok {
			break // no name; the lookup says so
		}
		name = rest
	}
	return name, nil
}

// value is what a macro stands for (RFC 7208, 7.2).
func (e *evaluation) value(letter byte, domain string) string {
	switch letter {
	case 's':
		return e.local + "@" + e.domain
	case 'l':
		return e.local
	case 'o':
		return e.domain
	case 'd':
		return domain
	case 'i':
		return dotted(e.addr)
	case 'p':
		return e.name(domain)
	case 'v':
		if e.addr.Is4() {
			return "in-addr"
		}
		return "ip6"
	case 'h':
		return e.q.Helo
	case 'c':
		return e.addr.String()
	case 'r':
		if e.q.Receiver == "" {
			return "unknown"
		}
		return e.q.Receiver
	}
	return strconv.FormatInt(e.q.Now.Unix(), 10) // t
}

// name is the validated name of the client that is closest to a domain (RFC 7208, 7.3, p).
func (e *evaluation) name(domain string) string {
	best := "unknown"
	for _, name := range e.validated() {
		switch {
		case strings.EqualFold(name, domain):
			return name
		case within(name, domain) && !within(best, domain), best == "unknown":
			best = name
		}
	}
	return best
}

// dotted writes an address as the macro i has it: IPv6 in single digits.
func dotted(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, 63)
	for _, octet := range a.As16() {
		b = append(b, hex[octet>>4], '.', hex[octet&15], '.')
	}
	return string(b[:len(b)-1])
}

// explain fetches what the domain says of a failure (RFC 7208, 6.2), or "".
func (e *evaluation) explain(found outcome) string {
	if found.exp == nil {
		return ""
	}
	name, bad := e.target(found.domain, found.exp)
	if bad != nil {
		return ""
	}
	texts, _, err := e.dns.LookupTXT(e.ctx, dnsx.Escape(name))
	if err != nil || len(texts) != 1 {
		return ""
	}
	s, err := parseMacros(texts[0], true)
	if err != nil {
		return ""
	}
	text, err := s.expand(maxExplain, func(letter byte) string { return e.value(letter, found.domain) })
	if err != nil {
		return ""
	}
	for i := 0; i < len(text); i++ {
		if text[i] < ' ' || text[i] > '~' {
			return ""
		}
	}
	return text
}
