package store

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// putClock puts a body whose age is none, by whatever clock the engine dates bodies with: those
// of processes may differ from it and from each other.
func (s *Store) putClock(ctx context.Context) (mail.BlobRef, error) {
	p, err := s.Receive(ctx, strings.NewReader("\r\nThis body tells a sweep what time it is.\r\n"))
	if err == nil {
		p, err = p.Shared(ctx)
	}
	if err != nil {
		return mail.BlobRef{}, err
	}
	return p.sum, nil
}

// sweeper removes blobs that are old and not in use.
type sweeper struct {
	blobs   engine.Blobs
	used    map[mail.BlobRef]struct{}
	victims map[mail.BlobRef]victim
	before  time.Time
	clock   mail.BlobRef // a body that is as old as nothing; zero: there is none
	done    *Swept
}

// victim is a blob that is to go.
type victim struct {
	at   int64 // second of its last Put
	size int64
}

func (sw *sweeper) run(ctx context.Context) error {
	err := sw.blobs.List(ctx, func(name mail.BlobRef, at time.Time, size int64) bool {
		sw.done.Blobs++
		if name == sw.clock && !name.IsZero() {
			if latest := at.Add(-SweepAge); latest.Before(sw.before) {
				sw.before = latest
			}
		} else if _, ok := sw.used[name]; !ok && at.Before(sw.before) {
			sw.victims[name] = victim{at.Unix(), size}
		}
		return ctx.Err() == nil
	})
	maps.DeleteFunc(sw.victims, func(_ mail.BlobRef, v victim) bool { return v.at >= sw.before.Unix() })
	if err == nil {
		err = sw.spareNeeded(ctx)
	}
	for name := range sw.victims {
		if err != nil {
			return err
		}
		_, err = sw.remove(ctx, name)
	}
	return cmp.Or(err, ctx.Err())
}

// spareNeeded takes what blobs need off the victims, but for those blobs that are victims
// themselves and go. They go first: one that is put again meanwhile stays, and who puts
// it need not put what it needs. Blobs that are needed need none. Whoever puts one with what
// it needs after this makes all of it young.
func (sw *sweeper) spareNeeded(ctx context.Context) error {
	spare := func(needs []mail.BlobRef) {
		for _, need := range needs {
			delete(sw.victims, need)
		}
	}
	unused := map[mail.BlobRef][]mail.BlobRef{}
	err := sw.blobs.Needs(ctx, func(name mail.BlobRef, _ time.Time, needs []mail.BlobRef) bool {
		if _, ok := sw.victims[name]; ok {
			unused[name] = slices.Clone(needs)
		} else {
			spare(needs)
		}
		return ctx.Err() == nil
	})
	if err != nil {
		return err
	}
	for name, needs := range unused {
		gone, err := sw.remove(ctx, name)
		if err != nil {
			return err
		}
		if !gone {
			spare(needs)
		}
	}
	return nil
}

// remove removes a victim, unless it has become young or gone.
func (sw *sweeper) remove(ctx context.Context, name mail.BlobRef) (gone bool, err error) {
	size := sw.victims[name].size
	delete(sw.victims, name)
	if gone, err = sw.blobs.Delete(ctx, name, sw.before); gone {
		sw.done.Removed++
		sw.done.Bytes += size
	}
	return gone, err
}
