package store

import (
	"cmp"
	"context"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
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
	if d.update == nil || ctx.Value(foregroundKey{}) == nil {
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

// Who could not give an account up, or does not know whether he has got it, keeps nobody in his
// process from it; in another he does, until he has stood still for long enough.
func TestOccupyAfterDoubt(t *testing.T) {
	for name, occupy := range map[string]func(d *doubtful, a *Account) error{
		"not given up": func(d *doubtful, a *Account) error {
			_, leave, err := a.Occupy(foreground, still)
			if err != nil {
				return nil
			}
			d.update = notMade
			return leave(foreground)
		},
		"not known to be had": func(d *doubtful, a *Account) error {
			d.update = inDoubt
			_, _, err := a.Occupy(foreground, still)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			all, nodes := worlds(t, 2)
			d := &doubtful{Shared: nodes[0]}
			a := worldOn(t, d, all[0].clock)
			if err := occupy(d, a.a); err == nil {
				t.Fatal("it went well: nothing is tried")
			}
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
			if len(a.over) != 0 {
				t.Errorf("%d are remembered for nothing", len(a.over))
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
