// Package carry copies everything that one engine keeps into another, and proves by
// content that it is all there: from one machine to many, and back.
//
// A copy may be killed at any moment and begun again: each pass walks both sides in order
// and writes what differs, so that it goes on where it stood, and takes over what has
// changed on the source since. Until the proof is done the target is marked, and nobody may
// serve from it (Unfinished). Blobs come first, then the records that name them. The times
// of blobs on the target are those of the copy: as the contract has it, and later than those
// of the source, so that no sweep comes too early.
//
// The package knows nothing of mail, of processes that have an engine open, or of what of a
// store belongs to a machine: its caller sees to it that nobody works on either side, and
// says which shards to leave.
package carry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

// Shard is the shard of the target where a copy that is not finished is marked.
const Shard engine.Shard = 8

// Options configure Copy and Compare.
type Options struct {
	// Source names the source, the same in each run, so that a copy that was cut short is
	// not gone on with from another one.
	Source string

	// Leave tells of each shard whether it stays as it is on either side; nil leaves none.
	Leave func(engine.Shard) bool

	// Parallel is the number of blobs, or of shards, under way at a time; 0 is 4. A shard
	// takes up to 8 MB of memory.
	Parallel int

	// Progress is told now and then how far the work is, never twice at a time. nil is for
	// nobody.
	Progress func(Progress)

	// Begun is called once the target is marked, and before anything is written there. nil does
	// nothing.
	Begun func(context.Context) error

	// Proved is called once all is proved, and before the target's mark goes: as long as it
	// fails, nobody may serve from the target. nil does nothing.
	Proved func(context.Context) error
}

// Progress is how far a copy is. All counts are of the present stage.
type Progress struct {
	Stage Stage
	Round int // of the stage, from 1

	Shards, ShardsTotal       int
	Keys, Bytes               int64 // of records on the source, keys and values
	Blobs, BlobsTotal         int64
	BlobBytes, BlobBytesTotal int64
	Changed                   int64 // records and blobs of the target that were not as those of the source
}

// Stage is what a copy is at.
type Stage string

// The stages, in order. Verifying goes through everything again, by content.
const (
	Copying   Stage = "copy"
	Verifying Stage = "verify"
)

// verifications is how often the whole is verified before the copy is given up. The first
// that finds everything as it should be is the last.
const verifications = 3

// Copy makes the target hold what the source holds and nothing else, and returns nil once
// that is proved and durable; the progress is that of the last stage. A target that holds
// something, but no copy of this source that was cut short, is refused with kind Exists. After
// any other error Copy may be called again. What cannot be read on the source has the kind
// of the engine's error and is named.
func Copy(ctx context.Context, from, to engine.Engine, opt Options) (Progress, error) {
	c := newCopying(from, to, opt)
	if err := c.begin(ctx); err != nil {
		return Progress{}, err
	}
	if opt.Begun != nil {
		if err := opt.Begun(ctx); err != nil {
			return Progress{}, err
		}
	}
	if err := c.pass(ctx, pass{stage: Copying, round: 1, mend: true}); err != nil {
		return c.meter.now(), err
	}
	for round := 1; ; round++ {
		if err := c.pass(ctx, pass{stage: Verifying, round: round, mend: true, content: true}); err != nil {
			return c.meter.now(), err
		}
		at := c.meter.now()
		if at.Changed == 0 {
			return at, c.end(ctx)
		}
		if round == verifications {
			return at, fault.Newf(fault.Corrupt, "the target does not hold what was written to it, or the source changes: %d records or blobs differ after %d rounds; the first is %s", at.Changed, round, c.meter.first())
		}
	}
}

// Compare tells by content how the target differs from the source, and changes neither:
// Changed counts the records and blobs that differ, and what names the first of them.
func Compare(ctx context.Context, from, to engine.Engine, opt Options) (at Progress, what string, err error) {
	c := newCopying(from, to, opt)
	err = c.pass(ctx, pass{stage: Verifying, round: 1, content: true})
	return c.meter.now(), c.meter.first(), err
}

// Unfinished tells whether the engine is the target of a copy that has not been finished,
// and of which source. Nothing may be served from it.
func Unfinished(ctx context.Context, e engine.Engine) (source string, unfinished bool, err error) {
	err = e.View(ctx, Shard, func(r engine.Reader) error {
		value, ok, err := r.Get(markKey)
		source, unfinished = "", ok
		if err != nil || !ok {
			return err
		}
		source, err = decodeMark(value)
		return err
	})
	return source, unfinished, err
}

var markKey = []byte("m")

const markKind = 1

func encodeMark(source string) []byte {
	var e record.Enc
	e.Str(source)
	return record.Seal(markKind, e)
}

func decodeMark(b []byte) (string, error) {
	kind, payload, err := record.Open(b)
	if err != nil || kind != markKind {
		return "", fault.Wrap(fault.Corrupt, "the mark of an unfinished copy is damaged", err)
	}
	d := record.Dec{Rest: payload}
	source := d.Str()
	return source, d.End("mark of a copy")
}

// copying is one call of Copy or Compare.
type copying struct {
	from, to engine.Engine
	opt      Options
	meter    meter
}

func newCopying(from, to engine.Engine, opt Options) *copying {
	if opt.Parallel <= 0 {
		opt.Parallel = 4
	}
	return &copying{from: from, to: to, opt: opt, meter: meter{tell: opt.Progress}}
}

// pass is one walk over both sides.
type pass struct {
	stage   Stage
	round   int
	mend    bool // make the target as the source is
	content bool // read blobs that look alike
}

// begin marks an empty target as this copy's, or finds that it is so.
func (c *copying) begin(ctx context.Context) error {
	if of, unfinished, err := Unfinished(ctx, c.from); err != nil {
		return broken(err, source, "its mark")
	} else if unfinished {
		return fault.Newf(fault.Invalid, "the source is an unfinished copy of %q itself", of)
	}
	of, unfinished, err := Unfinished(ctx, c.to)
	switch {
	case err != nil:
		return broken(err, target, "its mark")
	case unfinished && of != c.opt.Source:
		return fault.Newf(fault.Exists, "the target holds an unfinished copy of another store, %q; finish that, or take an empty target", of)
	case unfinished:
		return nil
	}
	if err := c.refuseFull(ctx); err != nil {
		return err
	}
	err = c.to.Update(ctx, Shard, func(w engine.Writer) error { return w.Put(markKey, encodeMark(c.opt.Source)) })
	return broken(err, target, "its mark")
}

// refuseFull refuses a target that holds something.
func (c *copying) refuseFull(ctx context.Context) error {
	shards, err := c.shards(ctx, c.to, target)
	if err != nil {
		return err
	}
	some := false
	err = c.to.Blobs().List(ctx, func(mail.BlobRef, time.Time, int64) bool {
		some = true
		return false
	})
	if err != nil {
		return broken(err, target, "the list of its blobs")
	}
	if len(shards) > 0 || some {
		return fault.New(fault.Exists, "the target is not empty, and what it holds is no unfinished copy; take an empty one")
	}
	return nil
}

// end takes the mark away, if the caller agrees.
func (c *copying) end(ctx context.Context) error {
	if c.opt.Proved != nil {
		if err := c.opt.Proved(ctx); err != nil {
			return err
		}
	}
	err := c.to.Update(ctx, Shard, func(w engine.Writer) error { return w.Delete(markKey) })
	return broken(err, target, "its mark")
}

// pass goes over everything once.
func (c *copying) pass(ctx context.Context, p pass) error {
	list, err := c.allShards(ctx)
	if err != nil {
		return err
	}
	c.meter.begin(p, len(list))
	if err := c.blobs(ctx, p); err != nil {
		return err
	}
	return spread(ctx, c.opt.Parallel, func(yield func(engine.Shard) bool) error {
		for _, s := range list {
			if !yield(s) {
				break
			}
		}
		return nil
	}, func(ctx context.Context, s engine.Shard) error { return c.shard(ctx, p, s) })
}

// The two sides, as errors name them.
const (
	source = "source"
	target = "target"
)

// broken says on which side and at what something failed. The end of a context is nobody's
// failure.
func broken(err error, side, at string) error {
	var known *fault.Error
	if err == nil || errors.Is(err, context.Canceled) && !errors.As(err, &known) {
		return err
	}
	kind, what := fault.Of(err), "cannot be read or written"
	if side == source {
		what = "cannot be read"
		if kind == fault.Corrupt {
			what = "is damaged; run martlet verify on it"
		}
	}
	return fault.Wrap(kind, fmt.Sprintf("%s of the %s %s", at, side, what), err)
}

// spread has n goroutines do what feed yields. The first error ends it.
func spread[T any](ctx context.Context, n int, feed func(yield func(T) bool) error, do func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work, ended := make(chan T), make(chan error, n)
	for range n {
		go func() {
			var err error
			for item := range work {
				if err == nil {
					if err = do(ctx, item); err != nil {
						cancel(err)
					}
				}
			}
			ended <- err
		}()
	}
	err := feed(func(item T) bool {
		select {
		case <-ctx.Done():
			return false
		case work <- item:
			return true
		}
	})
	close(work)
	if err != nil {
		cancel(err)
	}
	for range n {
		<-ended
	}
	return context.Cause(ctx)
}

// merge yields what two sides have, both in order of key, each key once: what is valid only
// until the next, of either side or of both.
func merge[T any](a, b iter.Seq[T], compare func(x, y T) int) iter.Seq2[*T, *T] {
	return func(yield func(x, y *T) bool) {
		nextA, stopA := iter.Pull(a)
		defer stopA()
		nextB, stopB := iter.Pull(b)
		defer stopB()
		x, okA := nextA()
		y, okB := nextB()
		for okA || okB {
			order := 0
			switch {
			case !okB:
				order = -1
			case !okA:
				order = 1
			default:
				order = compare(x, y)
			}
			left, right := &x, &y
			if order > 0 {
				left = nil
			}
			if order < 0 {
				right = nil
			}
			if !yield(left, right) {
				return
			}
			if left != nil {
				x, okA = nextA()
			}
			if right != nil {
				y, okB = nextB()
			}
		}
	}
}
