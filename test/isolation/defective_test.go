// Package isolation shows that what goes wrong in one session stays there: a defect that
// is met anywhere below a protocol ends that session, or is an error to its client, and
// nobody else notices.
//
// The whole server runs in the test's process over real sockets, on an engine that can be
// told to panic; the server's own code has no such command.
package isolation

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/martlet-mail/martlet/internal/engine"
)

// defective is an engine that panics at a call of our choice, with whatever locks are
// held there.
type defective struct {
	engine.Engine
	calls atomic.Int64
	at    atomic.Int64 // 0: never
}

// arm makes the nth call from now on panic; 0 makes none.
func (d *defective) arm(n int64) {
	d.at.Store(0)
	d.calls.Store(0)
	d.at.Store(n)
}

// hit reports whether the call came, and disarms.
func (d *defective) hit() bool {
	at := d.at.Swap(0)
	return at > 0 && d.calls.Load() >= at
}

func (d *defective) step() {
	if n := d.calls.Add(1); n == d.at.Load() {
		panic(fmt.Sprintf("planted at call %d", n))
	}
}

func (d *defective) View(ctx context.Context, id engine.Shard, fn func(engine.Reader) error) error {
	return d.Engine.View(ctx, id, func(r engine.Reader) error {
		err := fn(reader{r, d})
		d.step()
		return err
	})
}

func (d *defective) Update(ctx context.Context, id engine.Shard, fn func(engine.Writer) error) error {
	return d.Engine.Update(ctx, id, func(w engine.Writer) error {
		err := fn(writer{w, d})
		d.step()
		return err
	})
}

type reader struct {
	engine.Reader
	d *defective
}

func (r reader) Get(key []byte) ([]byte, bool, error) {
	r.d.step()
	return r.Reader.Get(key)
}

func (r reader) Scan(from, to []byte, reverse bool, fn func(key, value []byte) bool) error {
	r.d.step()
	return r.Reader.Scan(from, to, reverse, fn)
}

type writer struct {
	engine.Writer
	d *defective
}

func (w writer) Get(key []byte) ([]byte, bool, error) {
	w.d.step()
	return w.Writer.Get(key)
}

func (w writer) Put(key, value []byte) error {
	w.d.step()
	return w.Writer.Put(key, value)
}
