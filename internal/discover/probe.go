package discover

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// probe looks at each mail server of an answer, and says where it is not as the source has it.
func (h *hunt) probe(ctx context.Context, a *Answer) {
	ctx, cancel := context.WithTimeout(ctx, h.f.opt.Deadline)
	defer cancel()
	h.ctx = ctx
	clear(h.hosts) // lookups that were given up are asked again
	if h.f.opt.Dial == nil || h.f.opt.Resolver == nil {
		return
	}
	var looking sync.WaitGroup
	for i := range a.Services {
		s := &a.Services[i]
		if _, ok := dialects[s.Protocol]; !ok || h.here(*s) {
			continue
		}
		looking.Go(func() { s.Probe = h.look(ctx, *s) })
	}
	looking.Wait()
	h.running.Wait()
	for _, s := range a.Services {
		a.Notes = append(a.Notes, differences(s)...)
		if _, mail := dialects[s.Protocol]; mail && h.here(s) {
			a.Notes = append(a.Notes, s.Host+" is this machine: the program that is to run here was not connected to (--allow-private does)")
		}
	}
	a.Notes = unique(a.Notes)
}

// here tells that a server is a program of the person's own on this machine, which a table may say.
func (h *hunt) here(s Service) bool {
	return onThisMachine(s.Host) && !h.f.opt.AllowPrivate
}

func onThisMachine(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

func (h *hunt) look(ctx context.Context, s Service) *Probe {
	t, err := h.converse(ctx, s)
	p := &Probe{TLS: t.tls, Expires: t.expires(), Greeting: t.greeting, Offers: t.offers}
	if err != nil {
		p.Error = describe(err)
		return p
	}
	p.OK, p.Auth = true, t.mechanisms(s.Protocol)
	if t.leaf != nil {
		p.Names = t.leaf.DNSNames[:min(len(t.leaf.DNSNames), 20)]
	}
	return p
}

// differences are sentences about what a source promises and the server does not do.
func differences(s Service) (notes []string) {
	p := s.Probe
	if p == nil {
		return nil
	}
	at := fmt.Sprintf("%s at %s:%d", strings.ToUpper(s.Protocol), s.Host, s.Port)
	if !p.OK {
		return []string{at + " does not work as it was found: " + p.Error}
	}
	offered := signInsOf(p.Auth)
	wanted := s.Auth
	for i, w := range wanted {
		if w == "app-password" {
			wanted = slices.Clone(wanted)
			wanted[i] = "password"
		}
	}
	if len(wanted) > 0 && len(offered) > 0 && !slices.ContainsFunc(wanted, func(w string) bool { return slices.Contains(offered, w) }) {
		notes = append(notes, fmt.Sprintf("%s is to be signed in to by %s, and offers only %s", at, strings.Join(s.Auth, " or "), strings.Join(p.Auth, ", ")))
	}
	if slices.Contains(wanted, "oauth2") && !slices.Contains(offered, "oauth2") {
		notes = append(notes, at+" does not offer OAuth2, though the source says so")
	}
	return notes
}
