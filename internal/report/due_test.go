package report_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// asking is a resolver that notes which TXT records are asked for, and for how long.
type asking struct {
	dnsx.Resolver
	mu      sync.Mutex
	names   []string
	longest time.Duration
}

func (a *asking) LookupTXT(ctx context.Context, name string) ([]string, dnsx.Info, error) {
	a.mu.Lock()
	a.names = append(a.names, name)
	end, ok := ctx.Deadline()
	if left := time.Until(end); !ok || left > a.longest {
		a.longest = max(left, 0)
		if !ok {
			a.longest = 1 << 62
		}
	}
	a.mu.Unlock()
	if strings.Contains(name, "slow") {
		return nil, dnsx.Info{}, fault.New(fault.Unavailable, "no answer")
	}
	return nil, dnsx.Info{}, fault.New(fault.NotFound, "no such name")
}

// asked returns how many names with a word in them were asked for since the last call.
func (a *asking) asked(words ...string) (n []int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, word := range words {
		sum := 0
		for _, name := range a.names {
			if strings.Contains(name, word) {
				sum++
			}
		}
		n = append(n, sum)
	}
	a.names = nil
	return n
}

// Of one tick each kind of report has its share, and what one does not need the other has.
// Those whose DNS does not answer come after all that were tried less, and none may ask long.
func TestShares(t *testing.T) {
	h := newHouse(t, "")
	dns := &asking{}
	h.opt.Resolver = dns
	h.restart()
	owes(h, 700, "slow%d.test", "v=DMARC1; p=none; rua=mailto:r@elsewhere.test")
	owes(h, 300, "aslow%d.test", "") // in the order of keys these are before the next
	owes(h, 300, "quick%d.test", "")
	h.send(midnight.Add(5 * time.Hour))
	if n := dns.asked("_dmarc.slow", "_smtp._tls."); n[0] != 250 || n[1] != 250 {
		t.Errorf("%d of DMARC and %d of TLS", n[0], n[1])
	}
	if dns.longest > 10*time.Second || dns.longest == 0 {
		t.Errorf("DNS may take %v", dns.longest)
	}
	h.send(midnight.Add(7 * time.Hour)) // now those that were tried are due again
	if n := dns.asked("_dmarc.slow", "_smtp._tls.quick", "_smtp._tls.aslow"); n[0] != 250 || n[1] != 200 || n[2] != 50 {
		t.Errorf("%d of DMARC, %d and %d of TLS", n[0], n[1], n[2])
	}
	for range 4 {
		h.send(midnight.Add(9 * time.Hour))
	}
	if left := h.owed(); strings.Contains(left, "quick") {
		t.Error("a report that nothing keeps was not tried")
	}

	h = newHouse(t, "")
	dns = &asking{}
	h.opt.Resolver = dns
	h.restart()
	owes(h, 600, "d%d.test", "")
	saw(h, "one.test", "v=DMARC1; p=none; rua=mailto:r@elsewhere.test")
	h.send(midnight.Add(5 * time.Hour))
	if n := dns.asked("_smtp._tls."); n[0] != 499 {
		t.Errorf("%d of TLS", n[0])
	}
}
