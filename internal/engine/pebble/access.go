package pebble

import (
	"context"
	"errors"

	db "github.com/cockroachdb/pebble/v2"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// checkEvery is the number of keys a scan passes between looks at the context.
const checkEvery = 256

// source is where a reader reads.
type source interface {
	// get returns a copy of the value.
	get(key []byte) (value []byte, ok bool, err error)
	// iter returns an iterator over [lower, upper).
	iter(ctx context.Context, lower, upper []byte) (*db.Iterator, error)
}

// seek returns a copy of the value of a key. It asks the filters of every level, so
// that a key that is not there costs no read of a block: most questions of a
// delivery are whether something is there already.
func seek(it *db.Iterator, key []byte) ([]byte, bool, error) {
	if !it.SeekPrefixGE(key) {
		return nil, false, it.Error()
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return nil, false, err
	}
	return append(make([]byte, 0, len(v)), v...), true, nil
}

// bounded returns the options of an iterator over [lower, upper) for seek.
func bounded(lower, upper []byte) *db.IterOptions {
	return &db.IterOptions{LowerBound: lower, UpperBound: upper, UseL6Filters: true}
}

// moment is the state of a shard at one moment: that of an iterator. A snapshot of
// the database would do as well, but closing one may wait for the disk.
type moment struct{ it *db.Iterator }

func (m moment) get(key []byte) ([]byte, bool, error) { return seek(m.it, key) }

func (m moment) iter(ctx context.Context, lower, upper []byte) (*db.Iterator, error) {
	return m.it.CloneWithContext(ctx, db.CloneOptions{IterOptions: &db.IterOptions{LowerBound: lower, UpperBound: upper}})
}

// own is a batch on top of the newest state of its shard.
type own struct {
	batch *db.Batch
	opts  *db.IterOptions
	it    *db.Iterator // for get, made when first needed
	size  int          // of the batch as it sees it
}

func (o *own) get(key []byte) (_ []byte, _ bool, err error) {
	switch {
	case o.it == nil:
		if o.it, err = o.batch.NewIter(o.opts); err != nil {
			return nil, false, err
		}
	case o.size != o.batch.Len():
		o.it.SetOptions(o.opts) // brings it up to the batch
	}
	o.size = o.batch.Len()
	return seek(o.it, key)
}

func (o *own) iter(ctx context.Context, lower, upper []byte) (*db.Iterator, error) {
	return o.batch.NewIterWithContext(ctx, &db.IterOptions{LowerBound: lower, UpperBound: upper})
}

func (o *own) close() error {
	if o.it == nil {
		return nil
	}
	return o.it.Close()
}

// reader reads one shard.
type reader struct {
	e      *Engine
	ctx    context.Context
	from   source
	prefix []byte // of the shard
	key    []byte // scratch
}

// full returns the key with the shard's prefix, valid until the next call.
func (r *reader) full(key []byte) []byte {
	r.key = append(append(r.key[:0], r.prefix...), key...)
	return r.key
}

func (r *reader) Get(key []byte) ([]byte, bool, error) {
	if err := checkKey(key); err != nil {
		return nil, false, err
	}
	value, ok, err := r.from.get(r.full(key))
	if err != nil {
		return nil, false, r.e.failed(err)
	}
	return value, ok, nil
}

func (r *reader) Scan(from, to []byte, reverse bool, fn func(key, value []byte) bool) error {
	lower, upper := r.bounds(from, to)
	it, err := r.from.iter(r.ctx, lower, upper)
	if err != nil {
		return r.e.failed(err)
	}
	err = r.walk(it, reverse, fn)
	if closing := it.Close(); err == nil {
		err = closing
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return r.e.failed(err)
}

func (r *reader) walk(it *db.Iterator, reverse bool, fn func(key, value []byte) bool) error {
	first, next := it.First, it.Next
	if reverse {
		first, next = it.Last, it.Prev
	}
	n := 0
	for ok := first(); ok; ok = next() {
		if n++; n%checkEvery == 0 && r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if !fn(it.Key()[len(r.prefix):], value) {
			return nil
		}
	}
	return it.Error()
}

// bounds returns the range [from, to) of the shard as keys of the tree.
func (r *reader) bounds(from, to []byte) (lower, upper []byte) {
	lower = append(append([]byte(nil), r.prefix...), from...)
	if to == nil {
		return lower, engine.After(r.prefix)
	}
	return lower, append(append([]byte(nil), r.prefix...), to...)
}

// writer writes one shard into a batch that reads its own writes. Its first error
// stays, so that a change over a limit is not committed in part.
type writer struct {
	reader
	batch *db.Batch
	size  int
	err   error
}

func (w *writer) Put(key, value []byte) error {
	if len(value) > engine.MaxValue {
		return w.fail(fault.Newf(fault.TooLarge, "a record is over %d bytes", engine.MaxValue))
	}
	if err := w.admit(key, len(value)); err != nil {
		return err
	}
	return w.fail(w.e.failed(w.batch.Set(w.full(key), value, nil)))
}

func (w *writer) Delete(key []byte) error {
	if err := w.admit(key, 0); err != nil {
		return err
	}
	return w.fail(w.e.failed(w.batch.Delete(w.full(key), nil)))
}

func (w *writer) DeleteRange(from, to []byte) error {
	if w.err != nil {
		return w.err
	}
	if len(from) > engine.MaxKey || len(to) > engine.MaxKey {
		return w.fail(errKey)
	}
	if w.size += len(from) + len(to); w.size > engine.MaxUpdate {
		return w.fail(errUpdate)
	}
	lower, upper := w.bounds(from, to)
	if db.DefaultComparer.Compare(lower, upper) >= 0 {
		return nil
	}
	return w.fail(w.e.failed(w.batch.DeleteRange(lower, upper, nil)))
}

// admit checks the limits for one more key.
func (w *writer) admit(key []byte, value int) error {
	if w.err != nil {
		return w.err
	}
	if err := checkKey(key); err != nil {
		return w.fail(err)
	}
	if w.size += len(key) + value; w.size > engine.MaxUpdate {
		return w.fail(errUpdate)
	}
	return nil
}

func (w *writer) fail(err error) error {
	if w.err == nil {
		w.err = err
	}
	return err
}

var (
	errKey    = fault.Newf(fault.TooLarge, "a key is empty or over %d bytes", engine.MaxKey)
	errUpdate = fault.Newf(fault.TooLarge, "a change is over %d bytes", engine.MaxUpdate)
)

func checkKey(key []byte) error {
	if len(key) == 0 || len(key) > engine.MaxKey {
		return errKey
	}
	return nil
}
