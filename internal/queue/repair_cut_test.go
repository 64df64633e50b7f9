package queue

import (
	"context"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
)

// endsAfter is a context that ends when it has been asked a number of times.
type endsAfter struct {
	context.Context
	n int
}

func (c *endsAfter) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}

// A repair that was cut short is run again before the queue is (the engine sees to that), and
// then all that waits has what wakes it.
func TestRepairCutShortIsDoneByTheNext(t *testing.T) {
	cuts := 0
	for n := 0; ; n++ {
		b := newBench(t, nil)
		b.put("alice@martlet.test", "bob@example.org")
		if err := b.eng.Update(context.Background(), shard, func(w engine.Writer) error { return w.Delete([]byte{famCount}) }); err != nil {
			t.Fatal(err)
		}
		lost := func(m Mended) error { t.Errorf("cut after %d: %+v", n, m); return nil }
		err := Repair(&endsAfter{context.Background(), n}, b.eng, b.store, b.clock.now(), lost)
		if err != nil {
			cuts++
			if err := Repair(context.Background(), b.eng, b.store, b.clock.now(), lost); err != nil {
				t.Fatal(err)
			}
		}
		alarms, lanes := 0, 0
		_ = b.eng.View(context.Background(), shard, func(r engine.Reader) error {
			_ = r.Scan([]byte{famLane}, []byte{famLane + 1}, false, func(_, _ []byte) bool { lanes++; return true })
			return r.Scan([]byte{famAlarm}, []byte{famAlarm + 1}, false, func(_, _ []byte) bool { alarms++; return true })
		})
		if alarms == 0 || lanes == 0 {
			t.Errorf("cut after %d: %d alarms, %d lanes", n, alarms, lanes)
		}
		if err == nil {
			break
		}
	}
	if cuts < 4 {
		t.Errorf("cut %d times", cuts)
	}
}
