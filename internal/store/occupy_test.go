package store

import (
	"context"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// doubtful is a node whose changes may fail before or after they are made.
type doubtful struct {
	engine.Shared
	before, after error
}

func (d *doubtful) Update(ctx context.Context, shard engine.Shard, fn func(engine.Writer) error) error {
	if d.before != nil {
		return d.before
	}
	if err := d.Shared.Update(ctx, shard, fn); err != nil {
		return err
	}
	return d.after
}

const still = 11 * time.Minute

// Who could not give an account up, or does not know whether he has got it, keeps nobody in his
// process from it; in another he does, until he has stood still for long enough.
func TestOccupyAfterDoubt(t *testing.T) {
	away, unknown := fault.New(fault.Unavailable, "away"), fault.New(fault.Unknown, "nobody knows")
	for name, occupy := range map[string]func(d *doubtful, a *Account) error{
		"not given up": func(d *doubtful, a *Account) error {
			_, leave, err := a.Occupy(ctx, still)
			if err != nil {
				return nil
			}
			d.before = away
			return leave(ctx)
		},
		"not known to be had": func(d *doubtful, a *Account) error {
			d.after = unknown
			_, _, err := a.Occupy(ctx, still)
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
			d.before, d.after = nil, nil
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
