package store

import (
	"cmp"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/fault"
)

// changing makes a change; with an error it makes none, and returns that.
type changing func(instead error) error

// doubtful is a node whose changes may fail before or after they are made, but for those of the
// background.
type doubtful struct {
	engine.Shared
	update func(shard engine.Shard, change changing) error // nil: all go well
}

type foregroundKey struct{}

var foreground = context.WithValue(ctx, foregroundKey{}, true)

func (d *doubtful) Update(ctx context.Context, shard engine.Shard, fn func(engine.Writer) error) error {
	change := func(instead error) error {
		return d.Shared.Update(ctx, shard, func(w engine.Writer) error { return cmp.Or(fn(w), instead) })
	}
	if ctx.Value(foregroundKey{}) == nil || d.update == nil {
		return change(nil)
	}
	return d.update(shard, change)
}

var (
	errAway error = fault.New(fault.Unavailable, "the database is away")
	errLost error = fault.New(fault.Unknown, "nobody knows what became of it")
)

// notMade and inDoubt are what becomes of all changes.
func notMade(_ engine.Shard, change changing) error { return change(errAway) }

func inDoubt(_ engine.Shard, change changing) error { return cmp.Or(change(nil), errLost) }

const still = 11 * time.Minute

// ends are ways in which an account is on record as somebody's who has it no more.
var ends = map[string]func(t *testing.T, d *doubtful, a *Account){
	"not given up": func(t *testing.T, d *doubtful, a *Account) {
		_, leave, err := a.Occupy(foreground, still)
		if err != nil {
			t.Fatal(err)
		}
		d.update = notMade
		if leave(foreground) == nil {
			t.Fatal("it went well: nothing is tried")
		}
	},
	"not known to be had": func(t *testing.T, d *doubtful, a *Account) {
		d.update = inDoubt
		if _, _, err := a.Occupy(foreground, still); err == nil {
			t.Fatal("it went well: nothing is tried")
		}
	},
	"given up, and that was lost": func(t *testing.T, d *doubtful, a *Account) {
		_, leave, err := a.Occupy(foreground, still)
		if err != nil {
			t.Fatal(err)
		}
		shard := occupyShards + engine.Shard(a.id)%occupyShared
		before, err := enginetest.RecordsOf(ctx, d, shard)
		if err == nil {
			err = leave(foreground)
		}
		if err == nil {
			err = before.SetBack(ctx, d, shard)
		}
		if err != nil {
			t.Fatal(err)
		}
	},
}

// Who has left an account, or does not know whether he has got it, keeps nobody in his process from
// it, whatever is on record; in another he does, until he has stood still for long enough.
func TestOccupyAfterDoubt(t *testing.T) {
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			all, nodes := worlds(t, 2)
			d := &doubtful{Shared: nodes[0]}
			a := worldOn(t, d, all[0].clock)
			end(t, d, a.a)
			d.update = nil
			if _, _, err := all[1].a.Occupy(ctx, still); !fault.Is(err, fault.Busy) {
				t.Errorf("another process: %v", err)
			}
			renew, leave, err := a.a.Occupy(ctx, still)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := a.a.Occupy(ctx, still); !fault.Is(err, fault.Busy) {
				t.Errorf("two have it: %v", err)
			}
			if err := renew(ctx); err != nil {
				t.Error(err)
			}
			if err := leave(ctx); err != nil {
				t.Error(err)
			}
			if _, _, err := all[1].a.Occupy(ctx, still); err != nil {
				t.Error(err)
			}
			a.Close()
			if len(a.tenants) != 0 {
				t.Errorf("%d are remembered for nothing", len(a.tenants))
			}
		})
	}
}

// In another process he does so only until the database can be reached again.
func TestOccupyAfterOutage(t *testing.T) {
	for _, name := range []string{"not given up", "not known to be had"} {
		synctest.Test(t, func(t *testing.T) {
			all, nodes := worlds(t, 2)
			d := &doubtful{Shared: nodes[0]}
			a := worldOn(t, d, all[0].clock)
			defer a.Close()
			ends[name](t, d, a.a)
			nodes[0].Down(true)
			time.Sleep(still / 2)
			if _, _, err := all[1].a.Occupy(ctx, still); !fault.Is(err, fault.Busy) {
				t.Errorf("%s: while the database is away: %v", name, err)
			}
			nodes[0].Down(false)
			time.Sleep(longestPause)
			_, leave, err := all[1].a.Occupy(ctx, still)
			if err != nil {
				t.Fatalf("%s: when it is back: %v", name, err)
			}
			if _, _, err := a.a.Occupy(ctx, still); !fault.Is(err, fault.Busy) {
				t.Errorf("%s: two have it: %v", name, err)
			}
			time.Sleep(still)
			if err := leave(ctx); err != nil {
				t.Errorf("%s: it was given up for another: %v", name, err)
			}
		})
	}
}

// As long as a node of an earlier version may read the record it names no holder.
func TestHoldersWait(t *testing.T) {
	all, nodes := worlds(t, 2)
	form := uint64(1)
	all[0].opt.Format = func() uint64 { return form }
	for _, kind := range []byte{recOccupancy, recHeldOccupancy} {
		_, leave, err := all[0].a.Occupy(ctx, still)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recordsOf(t, nodes[1], occupyShards+engine.Shard(all[0].a.id)%occupyShared) {
			if r.Value[0] != kind {
				t.Errorf("form %d: kind %d", form, r.Value[0])
			}
		}
		if err := leave(ctx); err != nil {
			t.Fatal(err)
		}
		form = heldForm
	}
}
