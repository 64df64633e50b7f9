package queue

import (
	"fmt"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
)

const year = 365 * 24 * time.Hour

// wrong are ways in which a clock is wrong for a while: by how much, and whether the
// server is started anew once it is right.
func wrong(t *testing.T, test func(t *testing.T, by time.Duration, restart bool)) {
	for _, by := range []time.Duration{time.Hour, 10 * year, time.Millisecond, time.Second, 0, -time.Hour, -10 * year} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v restart %v", by, restart), func(t *testing.T) { test(t, by, restart) })
		}
	}
}

// Once the clock is right again, mail is tried when it would have been, or as soon after
// as if it had just failed; and never all the time.
func TestClockThatWasWrong(t *testing.T) {
	wrong(t, func(t *testing.T, by time.Duration, restart bool) {
		b := newBench(t, nil)
		b.courier.script = always(greylist)
		b.put("alice@martlet.test", "bob@example.org")
		b.pump()
		b.pass(2*time.Minute, time.Minute)
		b.clock.add(by)
		b.pass(10*time.Minute, time.Minute)
		b.clock.add(-by)
		if restart {
			b.restart()
		}
		// 12 minutes have passed: tries at 0 and 5, one more for a leap in each direction.
		before := b.courier.count()
		if before > 4 {
			t.Errorf("%d attempts", before)
		}
		b.courier.script = alwaysOK
		gap := 11 * time.Minute // of the second attempt
		if before > 2 {
			gap = 22 * time.Minute
		}
		if restart && by < away && by > 0 {
			gap = max(gap, by) // nobody saw it; still less than the longest gap
		}
		b.pass(gap+2*time.Minute, time.Minute)
		b.empty()
		if n := b.courier.count() - before; n != 1 {
			t.Errorf("%d attempts after that", n)
		}
		if r := b.reports.all(); len(r) != 0 {
			t.Errorf("%q", r)
		}
		b.sound()
	})
}

// The control: without a look at the clock the mail would lie for ten years.
func TestClockControl(t *testing.T) {
	b := newBench(t, nil)
	b.courier.script = always(greylist)
	b.put("alice@martlet.test", "bob@example.org")
	b.clock.add(10 * year)
	b.pump()
	b.clock.add(-10 * year)
	for range 365 {
		b.clock.add(24 * time.Hour)
		if _, err := b.q.dispatch(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.q.jobs.Wait()
	}
	if n := b.courier.count(); n != 1 {
		t.Errorf("%d attempts: the test could not see a queue that is frozen", n)
	}
}

// A lane's pause may not last any longer either, nor a lane that ever new mail keeps busy hide
// what waits behind it.
func TestClockAndPauses(t *testing.T) {
	b := newBench(t, nil)
	b.courier.script = alwaysOff
	b.put("alice@martlet.test", "bob@example.org")
	b.clock.add(10 * year)
	b.pump()
	b.clock.add(-10 * year)
	b.put("alice@martlet.test", "carol@example.org")
	b.courier.script = alwaysOK
	b.pass(13*time.Minute, time.Minute)
	b.empty()
	b.sound()
}

// Mail is not given up because a clock is ahead, nor kept for years because it was: it has its
// lifetime from when the clock is right, and the sender hears of it once.
func TestClockGivesNothingUp(t *testing.T) {
	for _, restart := range []bool{false, true} {
		b := newBench(t, func(o *Options) { o.DelayAfter = -1 })
		b.courier.script = always(greylist)
		key := Entry{Envelope: envelope("alice@martlet.test", "bob@example.org"), Parcel: b.parcel(sample), Key: "once"}
		first := b.enqueue(key)
		b.pass(2*time.Hour, 10*time.Minute)
		b.clock.add(10 * year)
		if restart {
			b.restart()
		}
		ahead := b.put("alice@martlet.test", "carol@example.org")
		b.pass(3*time.Hour, 10*time.Minute)
		b.clock.add(-10 * year)
		if restart {
			b.restart()
		}
		b.pass(4*24*time.Hour, 30*time.Minute)
		if r := b.reports.all(); len(r) != 0 || len(b.list()) != 2 {
			t.Errorf("restart %v: after four days: %d wait, %q", restart, len(b.list()), r)
		}
		if again := b.enqueue(key); again != first {
			t.Errorf("restart %v: the key of %v is forgotten: %v", restart, first, again)
		}
		b.sound()
		b.pass(4*24*time.Hour, 30*time.Minute)
		if r := b.reports.all(); len(r) != 2 || len(b.list()) != 0 {
			t.Errorf("restart %v: after eight days: %d wait, of them %v; %d reports", restart, len(b.list()), ahead, len(r))
		}
		b.pass(8*24*time.Hour, time.Hour)
		if n := b.keys("mprgqltak"); n != 0 {
			t.Errorf("restart %v: %d records are left", restart, n)
		}
	}
}

// The record of the last look may be damaged without harm.
func TestClockRecordDamaged(t *testing.T) {
	b := newBench(t, nil)
	err := b.eng.Update(t.Context(), shard, func(w engine.Writer) error { return w.Put([]byte{famLook}, []byte("x")) })
	if err != nil {
		t.Fatal(err)
	}
	b.put("alice@martlet.test", "bob@example.org")
	b.pump()
	b.empty()
}

// slowly lets mail to slow.test live for two weeks.
func slowly(o *Options) {
	o.DelayAfter = -1
	o.Rules = func(d string) Rules {
		if d == "slow.test" {
			return Rules{Lifetime: 14 * 24 * time.Hour}
		}
		return Rules{}
	}
}

// Mail to a domain with a long life of its own has it, through restarts, whether or not it
// is to be released later; other mail is given up meanwhile.
func TestLongLifetime(t *testing.T) {
	b := newBench(t, slowly)
	b.courier.script = always(greylist)
	b.put("alice@martlet.test", "bob@slow.test")
	b.put("alice@martlet.test", "carol@example.org")
	b.asking(b.later(24*time.Hour), "dan@slow.test")
	for day := 1; day <= 16; day++ {
		if day%3 == 0 {
			b.restart()
		}
		b.pass(24*time.Hour, time.Hour)
		want := map[bool]int{day < 5: 3, day > 5 && day < 14: 2}[true]
		if n := len(b.list()); want != 0 && n != want {
			t.Errorf("day %d: %d messages wait", day, n)
		}
	}
	if n := len(b.reports.all()); n != 3 || len(b.list()) != 0 {
		t.Errorf("after 16 days there are %d reports", n)
	}
	b.sound()
}

// A clock that was ahead does not make it longer.
func TestLongLifetimeAndClock(t *testing.T) {
	for _, restart := range []bool{false, true} {
		b := newBench(t, slowly)
		b.courier.script = always(greylist)
		b.clock.add(10 * year)
		b.put("alice@martlet.test", "bob@slow.test")
		b.pass(time.Hour, 10*time.Minute)
		b.clock.add(-10 * year)
		if restart {
			b.restart()
		}
		b.pass(13*24*time.Hour, time.Hour)
		if n := len(b.list()); n != 1 {
			t.Errorf("restart %v: given up within 13 days", restart)
		}
		b.pass(2*24*time.Hour, time.Hour)
		if n := len(b.list()); n != 0 {
			t.Errorf("restart %v: it is there after 15 days", restart)
		}
		b.sound()
	}
}
