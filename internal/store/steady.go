package store

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
)

// What is removed for its age follows a time of its own, which a clock that steps ahead cannot
// carry along: from one reading to the next it goes on by a step at most, and while it is
// behind, by a quarter more than passes. Readings are on record.
const steadyCatch = 4 // a quarter

// steadyTime reads the clock and returns the second to which the time of a key has come.
func (s *Store) steadyTime(ctx context.Context, family byte, step time.Duration) (trusted int64, err error) {
	key, now := []byte{family}, s.opt.Now().Unix()
	err = s.eng.Update(ctx, registryShard, func(w engine.Writer) error {
		read := now
		trusted = now
		if v, ok, err := w.Get(key); err != nil {
			return err
		} else if ok {
			p, err := unseal(recKeepTime, v)
			if err != nil {
				return err
			}
			d := dec{Rest: p}
			read, trusted = d.I(), d.I()
			if err := d.End("readings of the clock"); err != nil {
				return err
			}
		}
		trusted = steady(read, trusted, now, step)
		var e enc
		e.I(now)
		e.I(trusted)
		return w.Put(key, seal(recKeepTime, e))
	})
	return trusted, err
}

// steady returns how far the time has come, when the clock was last read and is read now.
func steady(read, trusted, now int64, step time.Duration) int64 {
	passed := min(now-read, int64(step/time.Second))
	if passed > 0 {
		if trusted+passed < now {
			passed += passed / steadyCatch
		}
		trusted += passed
	}
	return min(trusted, now)
}
