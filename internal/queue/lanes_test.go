package queue

import (
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// TestNewPriorityDelaysNobody: mail of a priority that a destination had none of, which is to
// be released in a month, does not push back what waits there: a retry, mail that is to be
// released earlier, or mail that an earlier version queued.
func TestNewPriorityDelaysNobody(t *testing.T) {
	month := func(b *bench) {
		b.asking(func(e *mail.Envelope) {
			b.later(30 * 24 * time.Hour)(e)
			e.Priority = 1
		}, "carol@example.org")
	}
	t.Run("retry", func(t *testing.T) {
		b := newBench(t, nil)
		b.courier.script = always(greylist)
		b.put("alice@martlet.test", "bob@example.org")
		b.pump()
		b.courier.script = alwaysOK
		month(b)
		b.sound()
		b.pass(2*time.Hour, time.Minute)
		if n := b.courier.count(); n != 2 {
			t.Errorf("%d attempts in two hours for mail whose second was due after 5 minutes", n)
		}
	})
	t.Run("release", func(t *testing.T) {
		b := newBench(t, nil)
		from := b.clock.now()
		b.asking(b.later(time.Hour), "bob@example.org")
		month(b)
		b.pass(12*time.Hour, time.Minute)
		if got := b.courier.times(from); got != "[1h0m0s]" {
			t.Errorf("HOLDFOR=3600 was released after %s", got)
		}
		b.sound()
	})
	t.Run("old lane", func(t *testing.T) {
		b := newBench(t, nil)
		b.courier.script = always(greylist)
		id := b.put("alice@martlet.test", "bob@example.org")
		b.pump()
		err := b.q.update(t.Context(), func(x tx) error { // as version 1 had it: the lane is the destination
			g, err := x.look().group(id, 0)
			if err != nil {
				return err
			}
			m, _, err := x.message(id)
			if err != nil {
				return err
			}
			old := *g
			g.lane = destOf(g.lane)
			return x.relist(m, 0, true, &old, g)
		})
		if err != nil {
			t.Fatal(err)
		}
		b.courier.script = alwaysOK
		month(b)
		b.sound()
		b.pass(2*time.Hour, time.Minute)
		if n := b.courier.count(); n != 2 {
			t.Errorf("%d attempts in two hours", n)
		}
	})
}
