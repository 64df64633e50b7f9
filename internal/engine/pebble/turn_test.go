package pebble

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/turn"
)

// A call that has waited goes on at once, though others of its party have taken all
// processors that they may have meanwhile: it may have a lock, the shard's or its caller's, that
// everybody needs.
func TestWaitEndsAtOnce(t *testing.T) {
	const id = engine.Shard(7)
	put := func(ctx context.Context, e *Engine) error {
		return e.Update(ctx, id, func(w engine.Writer) error { return w.Put([]byte("k"), []byte("v")) })
	}
	view := func(ctx context.Context, e *Engine) error {
		return e.View(ctx, id, func(engine.Reader) error { return nil })
	}
	for name, c := range map[string]struct {
		call  func(context.Context, *Engine) error
		after bool // a commit of somebody that is on its way
		alone bool // somebody is alone on the shard
	}{
		"commit":         {call: put},
		"earlier commit": {call: view, after: true},
		"shard":          {call: put, alone: true},
	} {
		t.Run(name, func(t *testing.T) {
			fs := &heldFS{FS: vfs.NewMem()}
			e := open(t, "data", small(fs))
			if err := put(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			left := make(chan error, 3)
			let, in := make(chan struct{}), make(chan struct{})
			if c.alone {
				go func() {
					left <- e.Update(t.Context(), id, func(engine.Writer) error { close(in); <-let; return nil })
				}()
				<-in
			} else {
				fs.hold()
			}
			if c.after {
				go func() { left <- put(t.Context(), e) }()
				for e.pending(id) == nil || durable(e.pending(id)) {
					time.Sleep(time.Millisecond)
				}
			}
			g := turn.NewGate(2)
			other := g.Turn()
			other.Take("bob")
			work := g.Turn()
			work.Take("mallory")
			returned := make(chan error, 1)
			go func() { returned <- c.call(turn.With(t.Context(), &work), e) }()
			beside := make([]turn.Turn, 16) // they are all in only if the call rests
			var full sync.WaitGroup
			for i := range beside {
				beside[i] = g.Turn()
				full.Go(func() { beside[i].Take("mallory") })
			}
			full.Wait()
			if c.alone {
				close(let)
			} else {
				fs.release()
			}
			select {
			case err := <-returned:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(10 * time.Second):
				t.Error("it has not returned after 10 s")
			}
			for i := range beside {
				beside[i].Give()
			}
			work.Give()
			other.Give()
		})
	}
}

func durable(c *commit) bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}
