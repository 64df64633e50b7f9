package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	db "github.com/cockroachdb/pebble/v2"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

const ledgerShards = 2

// entryID is one record of the workload: the n-th of a shard.
type entryID struct {
	shard engine.Shard
	n     uint64
}

// ledger writes through an engine and notes what was acknowledged, so that it can
// be compared with what is there after a crash.
//
// Record n of a shard is two keys with the same value, which names a blob; "last"
// is the number of records. So half a change, a gap and a lost blob all show.
type ledger struct {
	mu     sync.Mutex
	said                      // what is certain now
	doomed map[entryID]bool   // a deletion was begun
	errs   map[fault.Kind]int // failed calls by kind
}

// said is what the engine has told so far.
type said struct {
	acked map[entryID]mail.BlobRef
	gone  map[entryID]bool        // deletion acknowledged
	seen  map[engine.Shard]uint64 // number of records a View has told of
}

func newLedger() *ledger {
	return &ledger{
		said:   said{map[entryID]mail.BlobRef{}, map[entryID]bool{}, map[engine.Shard]uint64{}},
		doomed: map[entryID]bool{}, errs: map[fault.Kind]int{},
	}
}

// now returns what has been told up to this moment.
func (l *ledger) now() said {
	l.mu.Lock()
	defer l.mu.Unlock()
	return said{maps.Clone(l.acked), maps.Clone(l.gone), maps.Clone(l.seen)}
}

func (l *ledger) note(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn()
}

// write does n random operations on a shard.
func (l *ledger) write(e *Engine, rng *rand.Rand, shard engine.Shard, n int) {
	var mine []entryID
	for range n {
		var err error
		switch r := rng.IntN(10); {
		case r < 2:
			err = l.view(e, shard)
		case r < 3 && len(mine) > 0:
			err = l.remove(e, mine[0])
			mine = mine[1:]
		default:
			var id entryID
			if id, err = l.append(e, rng, shard); err == nil {
				mine = append(mine, id)
			}
		}
		if err != nil {
			l.note(func() { l.errs[fault.Of(err)]++ })
		}
	}
}

func (l *ledger) append(e *Engine, rng *rand.Rand, shard engine.Shard) (id entryID, err error) {
	ctx := context.Background()
	size := rng.IntN(8_000)
	if rng.IntN(40) == 0 {
		size += 600_000
	}
	name := nameFor(rng.Uint64(), size)
	if err := e.Blobs().Put(ctx, name, int64(size), bytes.NewReader(bodyFor(name))); err != nil {
		return id, err
	}
	err = e.Update(ctx, shard, func(w engine.Writer) error {
		n, err := last(w)
		id = entryID{shard, n}
		return errors.Join(err,
			w.Put(engine.Key('r', n), name[:]),
			w.Put([]byte("last"), binary.BigEndian.AppendUint64(nil, n+1)),
			w.Put(engine.Key('s', n), name[:]))
	})
	if err == nil {
		l.note(func() { l.acked[id] = name })
	}
	return id, err
}

// remove deletes a record and then its blob, which nothing else names.
func (l *ledger) remove(e *Engine, id entryID) error {
	ctx := context.Background()
	var name mail.BlobRef
	l.note(func() { l.doomed[id] = true; name = l.acked[id] })
	err := e.Update(ctx, id.shard, func(w engine.Writer) error {
		return errors.Join(w.Delete(engine.Key('r', id.n)), w.DeleteRange(engine.Key('s', id.n), engine.Key('s', id.n+1)))
	})
	if err != nil {
		return err
	}
	l.note(func() { l.gone[id] = true; delete(l.acked, id) })
	_, err = e.Blobs().Delete(ctx, name, time.Now().AddDate(100, 0, 0))
	return err
}

func (l *ledger) view(e *Engine, shard engine.Shard) error {
	var n uint64
	err := e.View(context.Background(), shard, func(r engine.Reader) (err error) {
		n, err = last(r)
		return err
	})
	if err == nil {
		l.note(func() { l.seen[shard] = max(l.seen[shard], n) })
	}
	return err
}

// run writes from four goroutines until each has done n operations.
func (l *ledger) run(e *Engine, seed uint64, n int) {
	var wg sync.WaitGroup
	for i := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, i))
		wg.Go(func() { l.write(e, rng, engine.Shard(i%ledgerShards), n) })
	}
	wg.Wait()
}

// verify compares what is there with what had been told when the power went.
func (l *ledger) verify(e *Engine, then said) error {
	var errs []error
	for shard := range engine.Shard(ledgerShards) {
		err := e.View(context.Background(), shard, func(r engine.Reader) error {
			return l.verifyShard(e, r, shard, then)
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("shard %d: %w", shard, err))
		}
	}
	return errors.Join(append(errs, verifyBlobs(e))...)
}

// verifyBlobs checks that every blob is whole, whether a record names it or not, and
// that there are no pieces without a blob that Open would not find.
func verifyBlobs(e *Engine) error {
	known := map[mail.BlobRef]bool{}
	var errs []error
	err := e.Blobs().List(context.Background(), func(name mail.BlobRef, _ time.Time, size int64) bool {
		known[name] = true
		got, err := readAll(e, name)
		if err != nil || !bytes.Equal(got, bodyFor(name)) || int64(len(got)) != size {
			errs = append(errs, fmt.Errorf("blob of %d bytes is wrong: %w", size, err))
		}
		return true
	})
	it, err2 := e.db.NewIter(&db.IterOptions{LowerBound: []byte{spacePieces}, UpperBound: []byte{spacePartial + 1}})
	if err2 != nil {
		return err2
	}
	for ok := it.Last(); ok; ok = it.Prev() { // the marks of partial blobs come first
		name := mail.BlobRef(it.Key()[1:33])
		if it.Key()[0] == spacePartial {
			known[name] = true
		}
		if !known[name] {
			errs = append(errs, errors.New("a piece without a blob"))
		}
	}
	return errors.Join(append(errs, err, it.Close())...)
}

func readAll(e *Engine, name mail.BlobRef) ([]byte, error) {
	r, err := e.Blobs().Open(context.Background(), name, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func (l *ledger) verifyShard(e *Engine, r engine.Reader, shard engine.Shard, then said) error {
	total, err := last(r)
	if err != nil {
		return err
	}
	if total < then.seen[shard] {
		return fmt.Errorf("a View told of %d records, there are %d", then.seen[shard], total)
	}
	for id := range then.acked {
		if id.shard == shard && id.n >= total {
			return fmt.Errorf("record %d was acknowledged, there are %d", id.n, total)
		}
	}
	for n := range total {
		if err := l.verifyRecord(e, r, entryID{shard, n}, then); err != nil {
			return fmt.Errorf("record %d: %w", n, err)
		}
	}
	return nil
}

func (l *ledger) verifyRecord(e *Engine, r engine.Reader, id entryID, then said) error {
	a, ok, err := r.Get(engine.Key('r', id.n))
	b, second, err2 := r.Get(engine.Key('s', id.n))
	switch {
	case err != nil || err2 != nil:
		return errors.Join(err, err2)
	case ok != second || !bytes.Equal(a, b):
		return fmt.Errorf("half a change: %x %x", a, b)
	case !ok && !l.doomed[id]:
		return errors.New("missing")
	case ok && then.gone[id]:
		return errors.New("deleted and back again")
	case !ok:
		return nil
	case then.acked[id] != mail.BlobRef{} && then.acked[id] != mail.BlobRef(a):
		return errors.New("names another blob than was acknowledged")
	}
	got, err := readAll(e, mail.BlobRef(a))
	if err != nil || !bytes.Equal(got, bodyFor(mail.BlobRef(a))) {
		return fmt.Errorf("blob of %d bytes is wrong: %w", len(got), err)
	}
	return nil
}

func last(r engine.Reader) (uint64, error) {
	v, ok, err := r.Get([]byte("last"))
	if err != nil || !ok {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

// nameFor makes a name from which the blob can be made again.
func nameFor(seed uint64, size int) (name mail.BlobRef) {
	binary.BigEndian.PutUint64(name[:], seed)
	binary.BigEndian.PutUint64(name[24:], uint64(size))
	return name
}

func bodyFor(name mail.BlobRef) []byte {
	b := make([]byte, binary.BigEndian.Uint64(name[24:]))
	for i := 0; i+8 <= len(b); i += 8 {
		copy(b[i:], name[:8])
		b[i] = byte(i >> 3)
	}
	return b
}
