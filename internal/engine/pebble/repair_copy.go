package pebble

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	db "github.com/cockroachdb/pebble/v2"

	"github.com/martlet-mail/martlet/internal/fault"
)

// copy brings all that can be read into a new store.
func (r *repair) copy() error {
	cache := db.NewCache(r.opt.CacheBytes)
	defer cache.Unref()
	quick := r.opt
	quick.brake = 1 // nobody tries again
	e := &Engine{opt: quick, dir: r.dir + linkedName, disk: newDisk(r.dir+linkedName, quick)}
	r.disk = e.disk
	settings := e.settings(cache)
	settings.ReadOnly = true
	var err error
	if r.from, err = db.Open(e.dir, settings); err != nil {
		return fault.Wrap(fault.Corrupt, "what is left of the store cannot be opened; restore a backup", err)
	}
	if number, err := formatOf(r.from); err == nil && number > format { // the file does not say so
		return errors.Join(newer(number, "by a newer version"), r.from.Close())
	}
	to, err := Open(r.dir+freshName, r.opt)
	if err != nil {
		return errors.Join(err, r.from.Close())
	}
	stop, copied := to.disk.stop(), make(chan error, 1)
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	r.ctx = ctx
	go func() { copied <- r.into(to) }()
	select {
	case err = <-copied:
		return errors.Join(err, to.Close(), r.from.Close())
	case <-stop: // it may never return
		err = cmp.Or(to.disk.check(r.dir+freshName, r.opt.Now(), 0), error(errFull))
		return errors.Join(fault.Wrap(fault.Unavailable, "the new store cannot be written; it needs as much space as the damaged one has", err), to.disk.abandon(), r.disk.abandon())
	}
}

// into fills the new store.
func (r *repair) into(to *Engine) (err error) {
	r.to, r.batch = to.db, to.db.NewBatch()
	for _, space := range []byte{spaceHeaders, spacePieces, spacePartial, spaceShards} {
		if err == nil {
			err = r.keys([]byte{space}, []byte{space + 1})
		}
	}
	if err == nil {
		err = r.batch.Commit(db.Sync)
	}
	if err == nil {
		err = r.replay()
	}
	if err == nil {
		err = r.dropTorn()
	}
	if err == nil {
		err = to.db.Flush()
	}
	return err
}

// replay applies what the logs hold once more: it is newer than what the tables do, also of
// keys in ranges that could not be read.
func (r *repair) replay() error {
	names, err := r.fs.List(r.dir + linkedName)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		number, ok := logNumber(name)
		if !ok || number < r.count.minLog {
			continue
		}
		b, err := readWhole(r.fs, r.linked(name))
		if err != nil {
			return err
		}
		for _, record := range salvageLog(b, uint32(number)) {
			batch := r.to.NewBatch()
			if err := batch.SetRepr(bytes.Clone(record)); err != nil || batch.Empty() {
				continue // no batch of ours
			}
			if err := batch.Commit(db.NoSync); err != nil {
				return err
			}
		}
	}
	return nil
}

// put brings one key over.
func (r *repair) put(key, value []byte) error {
	if err := r.batch.Set(key, value, nil); err != nil {
		return err
	}
	r.done.Keys++
	r.done.Bytes += int64(len(key) + len(value))
	if r.batch.Len() < batchBytes {
		return nil
	}
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if r.progress != nil {
		r.progress(r.done)
	}
	if err := r.batch.Commit(db.NoSync); err != nil {
		return err
	}
	r.batch = r.to.NewBatch()
	return nil
}

// keys copies the keys of a range, and goes on behind what cannot be read.
func (r *repair) keys(lower, upper []byte) error {
	for lower != nil {
		last, failed, err := r.scan(lower, upper)
		if err != nil || !failed {
			return err
		}
		next := behind(last, upper, r.allEdges(), func(key []byte) bool { return r.fails(last, upper, key) })
		r.done.Gaps++
		if err := r.gap(last, next, upper); err != nil {
			return err
		}
		lower = next
	}
	return nil
}

// scan copies until it cannot read on. last is the first key it has not seen.
func (r *repair) scan(lower, upper []byte) (last []byte, failed bool, err error) {
	it, err := r.from.NewIter(&db.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, false, err
	}
	last = lower
	for ok := it.First(); ok; ok = it.Next() {
		last = append(bytes.Clone(it.Key()), 0)
		value, unreadable := it.ValueAndErr()
		if unreadable != nil || last[0] == spacePieces && !soundPiece(value) {
			r.done.Values++
			r.hole("", it.Key(), last)
			continue
		}
		if err := r.put(it.Key(), value); err != nil {
			return nil, false, errors.Join(err, it.Close())
		}
	}
	failed = it.Error() != nil
	_ = it.Close()
	return last, failed, nil
}

// fails tells whether a seek does.
func (r *repair) fails(from, upper, key []byte) bool {
	it, err := r.from.NewIter(&db.IterOptions{LowerBound: from, UpperBound: upper})
	if err != nil {
		return true
	}
	it.SeekGE(key)
	failed := it.Error() != nil
	_ = it.Close()
	return failed
}
