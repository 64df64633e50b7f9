package store

import (
	"context"
	"math"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
)

// What is removed for its age follows a time of its own, which a clock that steps ahead cannot
// carry along: from one reading to the next it goes on by so much at most, and while it is
// behind, by a quarter more than passes. Readings are on record.
const steadyCatch = 4 // a quarter

// keptTime reads the clock and returns the second to which the time of deleted mail has come. A
// step ahead counts as so much, which is right after weeks without a server, too.
func (s *Store) keptTime(ctx context.Context, most time.Duration) (int64, error) {
	return s.steadyTime(ctx, famKeepTime, math.MaxInt64, func(read, trusted, now int64) int64 {
		return steady(min(now-read, int64(most/time.Second)), trusted, now)
	})
}

// sweepTime reads the clock and returns the second to which the time of the sweep has come. A step
// ahead does not count at all, and if the clock was behind meanwhile it goes on from there: what
// was put into the store then has that time.
func (s *Store) sweepTime(ctx context.Context) (int64, error) {
	s.seeClock()
	low := s.lowest.Swap(math.MaxInt64)
	trusted, err := s.steadyTime(ctx, famSweeping, low, func(read, trusted, now int64) int64 {
		passed := now - read
		if passed > int64(sweepStep/time.Second) {
			passed = 0
		}
		return steady(passed, trusted, now)
	})
	if err != nil {
		s.lower(low)
	}
	return trusted, err
}

// seeClock notes the lowest time that the clock has shown since the last sweep began.
func (s *Store) seeClock() { s.lower(s.opt.Now().Unix()) }

func (s *Store) lower(to int64) {
	for low := s.lowest.Load(); to < low && !s.lowest.CompareAndSwap(low, to); low = s.lowest.Load() {
	}
}

// steadyTime reads the clock, which may have shown a lower time since it was last read, and
// moves the time on record on.
func (s *Store) steadyTime(ctx context.Context, family byte, low int64, move func(read, trusted, now int64) int64) (trusted int64, err error) {
	key, now := []byte{family}, s.opt.Now().Unix()
	err = s.eng.Update(ctx, registryShard, func(w engine.Writer) error {
		read := min(low, now)
		trusted = read
		if v, ok, err := w.Get(key); err != nil {
			return err
		} else if ok {
			p, err := unseal(recKeepTime, v)
			if err != nil {
				return err
			}
			d := dec{Rest: p}
			read, trusted = d.I(), d.I()
			if low < read {
				read, trusted = low, min(trusted, low)
			}
			if err := d.End("readings of the clock"); err != nil {
				return err
			}
		}
		trusted = move(read, trusted, now)
		var e enc
		e.I(now)
		e.I(trusted)
		return w.Put(key, seal(recKeepTime, e))
	})
	return trusted, err
}

// steady returns how far a time has come when so much has passed.
func steady(passed, trusted, now int64) int64 {
	if passed > 0 {
		if trusted+passed < now {
			passed += passed / steadyCatch
		}
		trusted += passed
	}
	return min(trusted, now)
}
