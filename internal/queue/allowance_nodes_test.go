package queue

import (
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/fault"
)

// What an account sends through several nodes counts together, after some seconds, and no
// count is lost. The control are two processes that do not know of each other.
func TestAllowanceOverNodes(t *testing.T) {
	for _, control := range []bool{false, true} {
		b := newBench(t, nil)
		ctx, l := t.Context(), Limits{MessagesPerHour: 30}
		var nodes []*Allowance
		for _, n := range enginetest.Nodes(b.eng, 3) {
			o := AllowanceOptions{Engine: n, Default: l, Now: b.clock.now}
			if control {
				o.Engine = b.eng
			}
			nodes = append(nodes, NewAllowance(o))
		}
		sent := 0
		for range 40 {
			for _, a := range nodes {
				if a.Spend(ctx, "mallory@martlet.test", 2, false) == nil {
					sent++
				}
				if err := a.Flush(ctx); err != nil {
					t.Fatal(err)
				}
			}
			b.clock.add(5 * time.Second)
		}
		if ok := sent >= 30 && sent <= 33; ok == control {
			t.Errorf("control %v: %d were sent", control, sent)
		}
		if control {
			continue
		}
		lines, err := nodes[1].Sent(ctx)
		if err != nil || len(lines) != 1 || lines[0].MessagesInHour != int64(sent) || lines[0].RecipientsInHour != int64(2*sent) {
			t.Errorf("%d were sent, and %+v are written down: %v", sent, lines, err)
		}
		if err := NewAllowance(nodes[0].opt).Check(ctx, "mallory@martlet.test", 1, false); !fault.Is(err, fault.Limited) {
			t.Errorf("after a restart: %v", err)
		}
		b.clock.add(2 * time.Hour)
		if err := nodes[2].Spend(ctx, "mallory@martlet.test", 1, false); err != nil {
			t.Errorf("later: %v", err)
		}
	}
}
