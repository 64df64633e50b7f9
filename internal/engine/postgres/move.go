package postgres

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// The move of a shard from one group to another, while it is in use.
//
//	moving    the source keeps a journal of what its commits touch; the target is filled, and
//	          follows the journal; then the source is frozen, the last of the journal goes
//	          over, what has been touched is compared once more, and the place is changed:
//	          that is the commit of the move
//	flipped   the source is marked as moved, then the target goes live, then the source's
//	          records are removed
//	aborting  the source is live again, and the target's records are removed
//
// Each transaction of a mover locks the shard's term in the database where it works and holds
// it against its own, which it took from the shard's place when it began. So of two movers
// only the last can do anything, however long the other was asleep. Nodes are fenced by the
// state, the epoch and the home of the shard's row, which every commit is guarded by.

// States of a shard's row.
const (
	stateLive     = 0
	stateJournal  = 1 // live, and commits tell the journal what they touch
	stateFrozen   = 2 // may be read, and not be written
	stateMoved    = 3 // lives elsewhere; the row stays, for those who still look here
	stateIncoming = 4 // is being filled
)

// Steps of a move.
const (
	stepMoving   = 1
	stepFlipped  = 2
	stepAborting = 3
)

// MoveProgress is how far a move is.
type MoveProgress struct {
	Shard          engine.Shard
	Source, Target string // names of groups
	Step           string // "copy", "verify", "freeze", "flip", "clean", "undo", "done"

	Keys, Bytes int64         // that this step has been over; where it goes over none, the one before
	KeysTotal   int64         // about, on the source; 0 is not known
	BytesTotal  int64         //
	Journal     int64         // entries that have been followed
	Compared    int64         // keys that were compared once more
	Frozen      time.Duration // for how long changes had to wait
}

// limits of a move.
const (
	moveChunk    = 2 << 20 // bytes of records that are read or written at a time
	moveKeys     = 4096    // keys, likewise
	moveValues   = 128     // single keys, likewise
	journalBatch = 1000    // entries of the journal that are followed at a time
	shortJournal = 64      // entries with which the source may be frozen
	shortTouched = 512     // keys that may be compared while it is
	mostTouched  = 200_000 // keys to be compared again before the shard is too busy to be moved
	moveRounds   = 200     // of following the journal before the shard is too busy to be moved
	frozenLimit  = 10 * time.Second
)

var (
	errTaken   = fault.New(fault.Busy, "another node has taken over the move")
	errNoMove  = fault.New(fault.NotFound, "the account is not being moved; see martlet cluster moves")
	errTooBusy = fault.New(fault.Busy, "the account changes faster than it can be moved; try again later")
	errDiffers = fault.New(fault.Corrupt, "the copy in the target group does not hold what was written to it")
)

// mover carries out a move in one term.
type mover struct {
	shard engine.Shard
	term  atomic.Int64
	step  int64
	home  *ground // where places and moves are
	from  *ground
	to    *ground

	frozen time.Time // since when, zero: not by this mover

	now    func() time.Time
	token  func() int64
	tell   func(MoveProgress)
	hint   func(shard engine.Shard, group int64) // that the shard's row has changed there
	at     MoveProgress
	again  suspects // what is to be compared once more
	differ int64    // keys that were not the same, perhaps for being behind

	each     func(name string) error // of tests: before and after each transaction
	unfenced bool                    // of tests: never freezes the source nor marks it as moved
}

// run brings the move to its end, or to the next mover.
func (m *mover) run(ctx context.Context) error {
	switch m.step {
	case stepAborting:
		return m.undo(ctx)
	case stepMoving:
		if err := m.carry(ctx); err != nil {
			return err
		}
	}
	return m.finish(ctx)
}

// carry fills the target and changes the place.
func (m *mover) carry(ctx context.Context) error {
	if err := m.prepare(ctx); err != nil {
		return err
	}
	if err := m.count(ctx); err != nil {
		return err
	}
	m.stage("copy")
	if err := m.level(ctx, span{}, false); err != nil {
		return err
	}
	if err := m.follow(ctx); err != nil {
		return err
	}
	m.stage("verify")
	m.again = suspects{}
	if err := m.level(ctx, span{}, true); err != nil {
		return err
	}
	if err := m.settle(ctx); err != nil {
		return err
	}
	m.at.Step = "freeze"
	m.say()
	return m.window(ctx)
}

// stage begins a step that goes over all keys.
func (m *mover) stage(name string) {
	m.at.Step, m.at.Keys, m.at.Bytes = name, 0, 0
	m.say()
}

func (m *mover) say() {
	if m.tell != nil {
		m.tell(m.at)
	}
}

// settle follows the journal until little is left to do while the source is frozen: what was
// touched since the comparison began is compared again, and again.
func (m *mover) settle(ctx context.Context) error {
	for range moveRounds {
		if err := m.follow(ctx); err != nil {
			return err
		}
		if m.again.size() <= shortTouched {
			return nil
		}
		if _, err := m.compareAgain(ctx); err != nil {
			return err
		}
	}
	return errTooBusy
}

// window freezes the source and changes the place. It is given up, and the source thawed,
// when it lasts too long.
func (m *mover) window(ctx context.Context) error {
	begun := m.now()
	if err := m.freeze(ctx); err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, frozenLimit)
	err := m.last(short)
	cancel()
	if err == nil {
		err = m.flip(ctx)
	}
	if err != nil {
		return errors.Join(err, m.retreat(ctx, err))
	}
	m.frozen = begun
	return nil
}

// last does what is left once nothing changes any more.
func (m *mover) last(ctx context.Context) error {
	for {
		n, err := m.followOnce(ctx)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	differ, err := m.compareAgain(ctx)
	if err != nil {
		return err
	}
	if differ > 0 && !m.unfenced { // nothing is behind any more
		return errDiffers
	}
	return nil
}

// retreat thaws the source after a window that came to nothing, unless the place may have
// been changed: only a new term knows.
func (m *mover) retreat(ctx context.Context, cause error) error {
	if errors.Is(cause, errTaken) || errors.Is(cause, errHalt) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), frozenLimit)
	defer cancel()
	if err := m.claim(ctx, false); err != nil || m.step != stepMoving {
		return err
	}
	return m.thaw(ctx)
}

// finish does what follows once the place is changed. The source is marked before the target
// goes live, so that whoever reads the frozen source until then reads the truth.
func (m *mover) finish(ctx context.Context) error {
	m.at.Step = "flip"
	m.say()
	row, err := m.markMoved(ctx)
	if err != nil {
		return err
	}
	if err := m.goLive(ctx, row); err != nil {
		return err
	}
	if !m.frozen.IsZero() {
		m.at.Frozen = m.now().Sub(m.frozen)
	}
	m.hint(m.shard, m.from.id)
	m.hint(m.shard, m.to.id)
	m.stage("clean")
	if err := m.remove(ctx, m.from, stateMoved); err != nil {
		return err
	}
	if err := m.forget(ctx); err != nil {
		return err
	}
	m.at.Step, m.at.Keys, m.at.Bytes = "done", m.at.KeysTotal, m.at.BytesTotal
	m.say()
	return nil
}

// undo ends an aborted move.
func (m *mover) undo(ctx context.Context) error {
	m.stage("undo")
	if err := m.revive(ctx); err != nil {
		return err
	}
	m.hint(m.shard, m.from.id)
	if err := m.removeJournal(ctx, m.from, stateLive); err != nil {
		return err
	}
	if err := m.remove(ctx, m.to, stateIncoming); err != nil {
		return err
	}
	if err := m.markUnused(ctx); err != nil {
		return err
	}
	return m.forget(ctx)
}

// errHalt is how a test kills a mover.
var errHalt = errors.New("halt")
