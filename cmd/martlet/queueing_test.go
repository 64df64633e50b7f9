package main

import (
	"context"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
)

// TestDomainSendLimits: what "martlet domain set" says a domain may send in an hour and in a
// day holds for its accounts together, and no longer than it is set. What was sent without any
// limit is not counted.
func TestDomainSendLimits(t *testing.T) {
	config := newConfig(t)
	onHouse(t, config, func(h *house) error {
		ctx := context.Background()
		if err := h.directory.AddDomain(ctx, "example.org"); err != nil {
			return err
		}
		for _, c := range []struct {
			key, value, span string
			may              int
		}{{"send-per-hour", "3", "hour", 3}, {"send-per-hour", "", "", 5}, {"send-per-day", "10", "day", 7}} {
			if err := h.directory.Set(ctx, "example.org", map[string]string{c.key: c.value}); err != nil {
				return err
			}
			for i := range c.may {
				if err := h.allowance.Spend(ctx, []string{"carol@example.org", "dave@example.org"}[i%2], 1, true); err != nil {
					t.Errorf("%s=%s: message %d: %v", c.key, c.value, i, err)
				}
			}
			err := h.allowance.Check(ctx, "carol@example.org", 1, true)
			if limited := fault.Is(err, fault.Limited) && strings.Contains(fault.Say(err), "in a "+c.span); limited != (c.value != "") {
				t.Errorf("%s=%s: one more: %v", c.key, c.value, err)
			}
		}
		return nil
	})
}
