package store

import (
	"context"
	"math"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/record"
)

// What is removed for its age follows a time of its own, which a clock that steps ahead cannot
// carry along: from one reading to the next it goes on by so much at most, and while it is
// behind, by a quarter more than passes. A clock that has gone steadily for as long as
// things are kept is believed: what was there when it last stepped is old enough by now,
// whatever it is dated. Readings are on record.
const (
	steadyCatch = 4  // a quarter
	steadySlack = 60 // seconds that a clock may be set back, and still goes steadily
)

// pace is how a time follows the clock.
type pace struct {
	most  time.Duration // that may pass between two readings of a clock that goes steadily
	steps bool          // whether a step ahead counts, as so much
	hold  time.Duration // after which a clock that has gone steadily is believed
}

// sweepHold is a week of sweeps.
const sweepHold = 7 * 24 * time.Hour

// reading is what is known of a time when the clock is read.
type reading struct {
	clock    int64 // what it said
	trusted  int64 // the second to which the time has come
	steadily int64 // seconds for which the clock has gone steadily, up to the hold
}

// next returns what is known now. The clock may have shown a lower time since it was last read;
// what was put into the store then has that time.
func (p pace) next(r reading, low, now int64) reading {
	if low = min(low, now); low < r.clock {
		if r.clock-low > steadySlack {
			r.steadily = 0
		}
		r.clock, r.trusted = low, min(r.trusted, low)
	}
	passed, most := now-r.clock, int64(p.most/time.Second)
	switch {
	case passed <= most:
		r.steadily = min(r.steadily+passed, int64(p.hold/time.Second))
	case p.steps:
		r.steadily, passed = 0, most
	default:
		r.steadily, passed = 0, 0
	}
	r.clock, r.trusted = now, steady(passed, r.trusted, now)
	if r.steadily >= int64(p.hold/time.Second) {
		r.trusted = now
	}
	return r
}

// keptTime reads the clock and returns the second to which the time of deleted mail has come. A
// step ahead counts as so much, which is right after weeks without a server, too.
func (s *Store) keptTime(ctx context.Context, most time.Duration) (int64, error) {
	return s.steadyTime(ctx, famKeepTime, math.MaxInt64, pace{most, true, s.opt.Keep.For})
}

// sweepTime reads the clock and returns the second to which the time of the sweep has come. A step
// ahead does not count at all, and if the clock was behind meanwhile it goes on from there.
func (s *Store) sweepTime(ctx context.Context) (int64, error) {
	if s.shared != nil { // when another process has read its clock is not known here, and blobs have the engine's time
		return s.steadyTime(ctx, famSweeping, math.MaxInt64, pace{sweepStep, false, sweepHold})
	}
	s.seeClock()
	low := s.lowest.Swap(math.MaxInt64)
	trusted, err := s.steadyTime(ctx, famSweeping, low, pace{sweepStep, false, sweepHold})
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
func (s *Store) steadyTime(ctx context.Context, family byte, low int64, p pace) (int64, error) {
	key, now := []byte{family}, s.opt.Now().Unix()
	var was, is reading
	err := s.eng.Update(ctx, registryShard, func(w engine.Writer) error {
		was = reading{min(low, now), min(low, now), 0}
		v, ok, err := w.Get(key)
		if err == nil && ok {
			was, err = decodeReading(v)
		}
		if err != nil {
			return err
		}
		is = p.next(was, low, now)
		return w.Put(key, is.encode())
	})
	if back := was.clock - min(low, now); err == nil && back > steadySlack {
		s.opt.Log.Warn("the clock was set back; until it has gone steadily for some time, what is removed for its age is kept longer",
			"from", time.Unix(was.clock, 0).UTC(), "to", time.Unix(min(low, now), 0).UTC(), "for", p.hold)
	}
	return is.trusted, err
}

func (r reading) encode() []byte {
	var e enc
	e.I(r.clock)
	e.I(r.trusted)
	e.I(r.steadily)
	return seal(recSteadyTime, e)
}

func decodeReading(v []byte) (r reading, err error) {
	kind, p, err := record.Open(v)
	if err == nil && kind != recKeepTime { // of earlier versions
		p, err = unseal(recSteadyTime, v)
	}
	if err != nil {
		return r, err
	}
	d := dec{Rest: p}
	r.clock, r.trusted = d.I(), d.I()
	if kind == recSteadyTime {
		r.steadily = d.I()
	}
	return r, d.End("readings of the clock")
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
