package backup

import (
	"context"
	"encoding/hex"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// SaveOptions are how a backup is made.
type SaveOptions struct {
	Full     bool           // trust nothing that is there already
	Progress func(Progress) // may be nil
	Problem  func(Problem)  // may be nil
}

// Saved is what a backup has done.
type Saved struct {
	Snapshot
	Unchanged int           // accounts that had not changed since the snapshot before
	Objects   int64         // that were new
	Took      time.Duration // in all
}

// Save adds a snapshot of the server to the repository in dir, which it makes if there is
// none. What was acknowledged before it began is in it. When it returns nil, it is durable;
// whenever it is cut short, earlier snapshots are as they were and the next Save goes on
// with what this one has stored. Faults: Busy if somebody else writes there.
func (h House) Save(ctx context.Context, dir string, opt SaveOptions) (Saved, error) {
	r, err := open(h.Disk, dir, toAdd)
	if err != nil {
		return Saved{}, err
	}
	defer r.close()
	release, err := h.Store.HoldBodies(ctx)
	if err != nil {
		return Saved{}, err
	}
	defer release()
	crossed, stop, err := h.Store.NoteCrossings(ctx)
	if err != nil {
		return Saved{}, err
	}
	defer stop()
	s := saver{
		house: h, repo: r, opt: opt, began: h.Now(), wanted: map[name][]name{}, sound: map[object]bool{},
		crossed: crossed, read: map[mail.AccountID]reading{}, damaged: map[string]bool{},
	}
	defer s.abandon()
	return s.run(ctx)
}

// saver makes one snapshot.
type saver struct {
	house  House
	repo   *repository
	opt    SaveOptions
	began  time.Time
	snap   snapshot
	before map[engine.Shard]snapShard // of the snapshot before, as far as it is trusted
	pack   *packWriter
	wanted map[name][]name // bodies to store, and what they need
	sound  map[object]bool // of a full one: what has been read and is as it should be
	chunk  chunk
	raw    []byte
	zipped []byte

	parts   []engine.Shard                   // of the queue, but for the first
	crossed func() ([]store.Crossing, error) // since the Save began
	read    map[mail.AccountID]reading

	spoilt  []spoilt        // records of the shard that is being read
	damaged map[string]bool // records that were told of, by shard and key

	done Saved
}

func (s *saver) run(ctx context.Context) (Saved, error) {
	s.snap.head = snapHead{snapFormat, s.house.Version, s.moment(), s.opt.Full, ourSchema()}
	if err := s.parent(); err != nil {
		return Saved{}, err
	}
	// The queue first: what goes from it into an account meanwhile is in both, and the
	// account knows that it has it. Bodies after all records: they are held.
	if err := s.queue(ctx); err != nil {
		return Saved{}, err
	}
	if err := s.accounts(ctx); err != nil {
		return Saved{}, err
	}
	for _, sh := range [...]engine.Shard{linksShard, nodesShard} {
		if err := s.ifAny(ctx, sh); err != nil {
			return Saved{}, err
		}
	}
	if err := s.bodies(ctx); err != nil {
		return Saved{}, err
	}
	return s.finish()
}

// moment is when the snapshot is of, to the accuracy of its name, and after all others.
func (s *saver) moment() time.Time { return s.began.UTC().Truncate(time.Millisecond) }

// aheadTold is how far ahead a snapshot must be dated to be told of.
const aheadTold = time.Minute

// parent finds the snapshot before, whose lists of chunks may be used again.
func (s *saver) parent() error {
	all, _, err := s.repo.snapshots()
	if err != nil || len(all) == 0 {
		return err
	}
	last := all[len(all)-1]
	if !last.head.Time.Before(s.snap.head.Time) {
		s.snap.head.Time = last.head.Time.Add(time.Millisecond) // the clock went back
		if ahead := last.head.Time.Sub(s.began); ahead > aheadTold {
			s.problem(Problem{"", "the newest snapshot is dated " + last.head.Time.Format(time.RFC3339) + ", in the time to come; until then new ones are dated right after it. If the clock was wrong then, and is right now, begin a new folder for backups"})
		}
	}
	if s.opt.Full || !s.repo.whole || last.end.Line != s.house.line() || last.head.Schema != ourSchema() || last.info().Lost > 0 {
		return nil
	}
	s.before = map[engine.Shard]snapShard{}
	for _, sh := range last.shards {
		s.before[sh.Shard] = sh
	}
	return nil
}

func (h House) line() string { return h.Directory.Lineage() }

func (s *saver) sign(ctx context.Context, sh engine.Shard) (sign string, err error) {
	err = s.house.Engine.View(ctx, sh, func(r engine.Reader) error {
		b, err := store.Sign(r.Scan)
		sign = hex.EncodeToString(b[:])
		return err
	})
	return sign, err
}

func (s *saver) finish() (Saved, error) {
	if err := s.flush(); err != nil {
		return Saved{}, err
	}
	var messages, queued int64
	for _, sh := range s.snap.shards {
		if _, ok := sh.account(); ok {
			messages += sh.Messages
		} else {
			queued += sh.Messages
		}
	}
	s.done.Took = s.house.Now().Sub(s.began)
	slices.Sort(s.snap.end.Lost)
	s.snap.end = snapEnd{
		Accounts: s.done.Accounts, Messages: messages, Queued: queued, Seconds: s.done.Took.Seconds(),
		Objects: s.done.Objects, Bytes: s.done.Bytes, Lost: s.snap.end.Lost, Damaged: len(s.damaged), Line: s.house.line(),
	}
	b, err := s.snap.encode()
	if err != nil {
		return Saved{}, err
	}
	if err := s.repo.noteKnown(); err != nil { // there is no snapshot without it
		return Saved{}, err
	}
	if err := s.repo.disk.write(s.repo.disk.join(s.repo.dir, snapsDir, snapName(s.snap.head.Time)), b); err != nil {
		return Saved{}, err
	}
	s.done.Snapshot = s.snap.info()
	return s.done, nil
}

func (s *saver) progress(step string, done, total int64) {
	if s.opt.Progress != nil {
		s.opt.Progress(Progress{step, done, total, s.done.Bytes})
	}
}

func (s *saver) problem(p Problem) {
	if s.opt.Problem != nil {
		s.opt.Problem(p)
	}
}
