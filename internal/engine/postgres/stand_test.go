package postgres

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
)

// TestRowOfWhoStandsStill: a node that stands still with a row in its hand, while its kernel answers
// for it, keeps others from the shard only until the server ends its transaction.
func TestRowOfWhoStandsStill(t *testing.T) {
	a, b, wire := beside(t, func(o *Options) { o.hold, o.statement = 200*time.Millisecond, time.Hour })
	putAll(t, a, 1, "x", "0")
	p := b.member(0).pool
	c, err := p.take(t.Context(), nil, p.long)
	if err != nil {
		t.Fatal(err)
	}
	defer p.give(p.long, c)
	c.call(stBegin, nil)
	c.call(stLock, []any{int64(1)})
	if _, err := c.run(p.opt.statement, nil); err != nil {
		t.Fatal(err)
	}
	wire.Pause()
	defer wire.Resume()
	if err := ends(t, func() error { return a.Update(t.Context(), 1, putting("x", "1")) }); err != nil {
		t.Error(err)
	}
	wire.Resume()
	c.call(stCommit, nil)
	if _, err := c.run(p.opt.statement, nil); !errors.Is(err, errBroken) {
		t.Errorf("its transaction goes on: %v", err)
	}
}

// TestWhoStoodStillBeginsAgain: a transaction that the server has ended meanwhile is begun again.
func TestWhoStoodStillBeginsAgain(t *testing.T) {
	_, b, _ := beside(t, func(o *Options) { o.hold = 200 * time.Millisecond })
	runs := 0
	err := b.ground(0).tx(t.Context(), []call{{stPlaceRow, []any{int64(acct)}}}, func(rows) ([]call, error) {
		if runs++; runs == 1 {
			time.Sleep(3 * b.opt.hold)
		}
		return []call{{stAddPlace, []any{int64(acct), int64(0)}}}, nil
	})
	if err != nil || runs != 2 || placeOf(t, b, acct) != 0 {
		t.Errorf("%v; it ran %d times", err, runs)
	}
}

// TestWorkUnderRowMayLast: a node that works with a row in its hand does not stand still, however long
// the function takes.
func TestWorkUnderRowMayLast(t *testing.T) {
	a, b, _ := beside(t, func(o *Options) { o.hold = time.Second })
	putAll(t, a, 1, "n", "0")
	runs := 0
	err := clashed(t.Context(), used(t, b, 1), func(w engine.Writer) error {
		if runs++; runs == 1 {
			time.Sleep(3 * b.opt.hold)
		}
		return add(w)
	})
	if doubts := b.Stats().Doubts.Load(); err != nil || runs != 1 || doubts != 0 {
		t.Errorf("%v; it ran %d times, and %d were in doubt", err, runs, doubts)
	}
	if n := number1(t, a); n != 1 {
		t.Errorf("%d, not 1", n)
	}
}

// TestMomentMayLast: a View that holds a moment still keeps nobody from anything, and may take its
// time between two things that it reads.
func TestMomentMayLast(t *testing.T) {
	a, b, _ := beside(t, func(o *Options) { o.hold = 200 * time.Millisecond })
	putAll(t, a, 1, "x", "0", "y", "0", "z", "0")
	runs := 0
	err := b.View(t.Context(), 1, func(r engine.Reader) error {
		runs++
		for _, k := range []string{"x", "y", "z"} {
			if _, _, err := r.Get([]byte(k)); err != nil {
				return err
			}
			if k == "y" && runs == 1 {
				time.Sleep(3 * b.opt.hold)
			}
		}
		return nil
	})
	if err != nil || runs != 1 || b.Stats().Snapshots.Load() != 1 {
		t.Errorf("%v; it ran %d times, with %d moments", err, runs, b.Stats().Snapshots.Load())
	}
}

// TestLoadLeavesHeldRows: changes that go together with one of a shard whose row somebody else holds
// are made without it, and that one is made once the row is free.
func TestLoadLeavesHeldRows(t *testing.T) {
	change := map[string]func(w engine.Writer) error{
		"puts": putting("x", "1"),
		"puts and deletes": func(w engine.Writer) error {
			return errors.Join(w.Delete([]byte("y")), w.Put([]byte("x"), []byte("1")))
		},
		"ranges": func(w engine.Writer) error {
			return errors.Join(w.DeleteRange([]byte("y"), []byte("z")), w.Put([]byte("x"), []byte("1")))
		},
	}
	for name, change := range change {
		t.Run(name, func(t *testing.T) {
			a, b, _ := beside(t)
			const held, free, fresh = engine.Shard(1), engine.Shard(2), engine.Shard(3)
			for _, id := range []engine.Shard{held, free} {
				putAll(t, a, id, "x", "0", "y", "0")
				look(t, b, id, "x")
			}
			releaseRow := holdRows(t, a, held)
			defer releaseRow()
			release := noCarriers(b)
			defer release()
			done := map[engine.Shard]chan error{}
			for _, id := range []engine.Shard{held, free, fresh} {
				end := make(chan error, 1)
				done[id] = end
				go func() { end <- b.Update(t.Context(), id, change) }()
			}
			lies(b, 3)
			clashes := b.Stats().Clashes.Load()
			release()
			for _, id := range []engine.Shard{free, fresh} {
				if err := ends(t, func() error { return <-done[id] }); err != nil {
					t.Error(err)
				}
			}
			select {
			case err := <-done[held]:
				t.Errorf("what was left out has ended: %v", err)
			default:
			}
			if got := fmt.Sprint(content(t, a, held)); got != "[x=0 y=0]" || b.Stats().Clashes.Load() == clashes {
				t.Errorf("the shard that was left out has %s, and %d clashes were counted", got, b.Stats().Clashes.Load()-clashes)
			}
			releaseRow()
			if err := <-done[held]; err != nil {
				t.Error(err)
			}
			for id := range done {
				if got := look(t, a, id, "x"); got != "1" {
					t.Errorf("shard %d: %q", id, got)
				}
			}
		})
	}
}

// TestCarriersWaitForNoRow: as many rows as there are carriers, held by somebody else, do not keep
// changes of other shards.
func TestCarriersWaitForNoRow(t *testing.T) {
	a, b, _ := beside(t)
	for id := range engine.Shard(carriers + 1) {
		putAll(t, a, id, "x", "0")
		look(t, b, id, "x")
	}
	release := holdRows(t, a, 0, 1, 2)
	defer release()
	others := make(chan error, carriers)
	for id := range engine.Shard(carriers) {
		before := b.Stats().Loads.Load()
		go func() { others <- b.Update(t.Context(), id, putting("x", "1")) }()
		for b.Stats().Loads.Load() == before { // each by itself
			time.Sleep(time.Millisecond)
		}
	}
	if err := ends(t, func() error { return b.Update(t.Context(), carriers, putting("x", "1")) }); err != nil {
		t.Error(err)
	}
	release()
	for range carriers {
		if err := <-others; err != nil {
			t.Error(err)
		}
	}
}
