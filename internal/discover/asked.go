package discover

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// asked is a resolver that remembers whether anybody answers at all.
type asked struct {
	dnsx.Resolver

	mu       sync.Mutex
	answered bool
	failure  error // the last, of questions that nobody answered
}

// saw keeps what came of a question. A denial is an answer.
func (r *asked) saw(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil, fault.Is(err, fault.NotFound):
		r.answered = true
	case !errors.Is(err, context.Canceled):
		r.failure = err
	}
}

// dead is an error if questions were asked and no name server answered one of them.
func (r *asked) dead() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answered || r.failure == nil {
		return nil
	}
	return fault.Wrap(fault.Unavailable, "no name server answered, so nothing could be looked for: "+describe(r.failure)+"; see whether this machine is connected, or name one with --resolver", r.failure)
}

func (r *asked) LookupIP(ctx context.Context, host string, six bool) ([]netip.Addr, dnsx.Info, error) {
	all, info, err := r.Resolver.LookupIP(ctx, host, six)
	r.saw(err)
	return all, info, err
}

func (r *asked) LookupMX(ctx context.Context, domain string) ([]dnsx.MX, dnsx.Info, error) {
	all, info, err := r.Resolver.LookupMX(ctx, domain)
	r.saw(err)
	return all, info, err
}

func (r *asked) LookupTXT(ctx context.Context, name string) ([]string, dnsx.Info, error) {
	all, info, err := r.Resolver.LookupTXT(ctx, name)
	r.saw(err)
	return all, info, err
}

func (r *asked) LookupSRV(ctx context.Context, name string) ([]dnsx.SRV, dnsx.Info, error) {
	all, info, err := r.Resolver.LookupSRV(ctx, name)
	r.saw(err)
	return all, info, err
}

func (r *asked) LookupCNAME(ctx context.Context, name string) (string, dnsx.Info, error) {
	target, info, err := r.Resolver.LookupCNAME(ctx, name)
	r.saw(err)
	return target, info, err
}

// quietly keeps a host that did not answer within its own time; one that others were faster than is
// not such a host.
func (h *hunt) quietly(host string, err error) {
	if err == nil || !errors.Is(err, context.DeadlineExceeded) || h.ctx.Err() != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Contains(h.silent, host) {
		h.silent = append(h.silent, host)
	}
}

// silence names the hosts that did not answer.
func (h *hunt) silence() string {
	if len(h.silent) == 0 {
		return ""
	}
	names := slices.Sorted(slices.Values(h.silent))
	const most = 6
	if len(names) > most {
		names = append(names[:most], "others")
	}
	return "no answer came from " + strings.Join(names, ", ")
}
