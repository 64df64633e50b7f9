package discover

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// usual are the hosts and ports that providers use, likelier ones first: a name made for the
// protocol before one for all, and that before the domain itself.
var usual = []struct {
	protocol string
	hosts    []string // before the domain; "" is the domain
	ports    [2]int   // TLS, STARTTLS
}{
	{"imap", []string{"imap", "mail", ""}, [2]int{993, 143}},
	{"pop3", []string{"pop", "pop3", "mail", ""}, [2]int{995, 110}},
	{"smtp", []string{"smtp", "mail", ""}, [2]int{465, 587}},
}

// guessed is a server that may be.
type guessed struct {
	service Service
	settled bool
	err     error // nil if it was confirmed
}

// guess tries the usual names of the domain.
func (h *hunt) guess(ctx context.Context, s *step) (found, error) {
	all, acceptable := h.usualNames(ctx, h.who.Domain)
	return h.confirm(ctx, s, all, acceptable)
}

// usualNames are the candidates of a domain. A name that exists only as every other name there
// does says nothing, unless the certificate names it.
func (h *hunt) usualNames(ctx context.Context, domain string) (all []*guessed, acceptable func(string, []netip.Addr) error) {
	wild := h.wildcard(ctx, domain)
	for _, u := range usual {
		for _, name := range u.hosts {
			host := domain
			if name != "" {
				host = name + "." + host
			}
			all = append(all, h.candidates(u.protocol, host, u.ports)...)
		}
	}
	return all, func(host string, addrs []netip.Addr) error {
		if host != domain && len(wild) > 0 && !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !slices.Contains(wild, a) }) {
			return fmt.Errorf("exists only as every name below %s does", domain)
		}
		return nil
	}
}

// guessHost tries the hosts that take the domain's mail, and the usual names of their owner.
func (h *hunt) guessHost(ctx context.Context, s *step) (found, error) {
	hosts, err := h.mailHosts(ctx)
	if err != nil {
		return found{}, err
	}
	if first := hosts[0]; isFilter(first) {
		return found{result: noOwner(first)}, nil
	}
	hosts = hosts[:min(len(hosts), 2)]
	what := strings.Join(hosts, ", ")
	var all []*guessed
	for _, u := range usual {
		for _, host := range hosts {
			all = append(all, h.candidates(u.protocol, host, u.ports)...)
		}
	}
	acceptable := func(string, []netip.Addr) error { return nil }
	if owner := registrable(hosts[0]); owner != h.who.Domain && ownersMail(hosts[0]) {
		what += ", the usual names of " + owner
		more, check := h.usualNames(ctx, owner)
		all = append(all, more...)
		acceptable = func(host string, addrs []netip.Addr) error {
			if slices.Contains(hosts, host) {
				return nil
			}
			return check(host, addrs)
		}
	}
	for _, g := range all {
		g.service.Insecure = h.forgeable(g.service.Host)
	}
	h.asked(s, what)
	return h.confirm(ctx, s, all, acceptable)
}

func (h *hunt) candidates(protocol, host string, ports [2]int) (all []*guessed) {
	for i, security := range [...]string{TLS, StartTLS} {
		all = append(all, &guessed{service: Service{
			Protocol: protocol, Host: host, Port: ports[i], Security: security, Username: h.who.user("address"), Confidence: Guessed,
		}})
	}
	return all
}

// wildcard returns the addresses of every name below a domain, if it has such: those of a
// name that nobody has made.
func (h *hunt) wildcard(ctx context.Context, domain string) []netip.Addr {
	var label [10]byte
	if h.f.opt.Random == nil {
		return nil
	}
	if _, err := io.ReadFull(h.f.opt.Random, label[:]); err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	addrs, _ := h.addresses(ctx, "x"+hex.EncodeToString(label[:])+"."+domain)
	return addrs
}

// confirm talks to all candidates at once. Only those count that show a certificate for their
// name and speak the protocol. It ends when none that is better than what was found is out, and
// tells as much as it knows at every moment.
func (h *hunt) confirm(ctx context.Context, s *step, all []*guessed, acceptable func(string, []netip.Addr) error) (found, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		n    int
		auth []string
		err  error
	}
	outcomes := make(chan outcome, len(all))
	for n, g := range all {
		h.running.Go(func() {
			auth, err := h.confirmOne(ctx, g.service, acceptable)
			outcomes <- outcome{n, auth, err}
		})
	}
	var over <-chan time.Time
	for range all {
		var o outcome
		select {
		case o = <-outcomes:
		case <-over:
			return best(all), nil
		}
		g := all[o.n]
		g.settled, g.err, g.service.Auth = true, o.err, o.auth
		got := best(all)
		if len(got.services) > 0 {
			h.post(s, got)
		}
		if over == nil && certain(all, "imap") && certain(all, "smtp") && certain(all, "pop3") {
			t := time.NewTimer(linger) // for the other port of the same host
			defer t.Stop()
			over = t.C
		}
		h.mu.Lock()
		s.sure = certain(all, "imap") && certain(all, "smtp")
		h.mu.Unlock()
		h.wake()
	}
	got := best(all)
	if len(got.services) == 0 {
		got.result = failuresOf(all)
	}
	return got, nil
}

// confirmOne returns how one can sign in, if the candidate is what it may be.
func (h *hunt) confirmOne(ctx context.Context, s Service, acceptable func(string, []netip.Addr) error) ([]string, error) {
	addrs, err := h.addresses(ctx, s.Host)
	if err != nil {
		return nil, err
	}
	wild := acceptable(s.Host, addrs)
	t, err := h.converse(ctx, s)
	if wild != nil && !t.named(s.Host) {
		return nil, wild
	}
	if err != nil {
		return nil, err
	}
	auth := signInsOf(t.mechanisms(s.Protocol))
	if len(auth) == 0 {
		auth = []string{"password"}
	}
	return auth, nil
}

// named tells whether the certificate has the very name of the host: somebody has made it for that
// name, though every name below the domain exists.
func (t talk) named(host string) bool {
	return t.leaf != nil && slices.ContainsFunc(t.leaf.DNSNames, func(n string) bool { return strings.EqualFold(n, host) })
}

// certain tells that no candidate of the protocol that is still out is better than what is
// there, or that there is none.
func certain(all []*guessed, protocol string) bool {
	for _, g := range all {
		if g.service.Protocol != protocol {
			continue
		}
		if !g.settled {
			return false
		}
		if g.err == nil {
			return true
		}
	}
	return true
}

// best are, for each protocol, the confirmed ways to the likeliest host.
func best(all []*guessed) (got found) {
	host := map[string]string{}
	for _, g := range all {
		s := g.service
		if !g.settled || g.err != nil {
			continue
		}
		if host[s.Protocol] == "" {
			host[s.Protocol] = s.Host
		}
		if host[s.Protocol] == s.Host {
			got.services = append(got.services, s)
		}
	}
	return got
}

// failuresOf says why no candidate counts, each reason once.
func failuresOf(all []*guessed) string {
	var reasons []string
	absent := 0
	for _, g := range all {
		if fault.Is(g.err, fault.NotFound) {
			absent++
			continue
		}
		reasons = append(reasons, fmt.Sprintf("%s:%d %s", g.service.Host, g.service.Port, describe(g.err)))
	}
	if len(reasons) == 0 {
		return "none of the usual names exists"
	}
	return strings.Join(reasons[:min(len(reasons), 8)], "; ")
}
