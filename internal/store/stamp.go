package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// A store that several nodes share may lose what it has acknowledged, while they run: a standby
// that lacks the last commits takes over, or an administrator goes back in time. Modseqs and
// UIDs are then given again, to other things. So each commit draws a stamp, and writes it into
// the record of each mailbox that it changes and into the line of its log: what is in memory of
// a mailbox is of the past of what is on record if the log has, at the modseq of the one, its
// stamp. docs/decisions/0052.

// stamps are those that one process draws.
type stamps struct {
	seed  uint64
	drawn atomic.Uint64
}

// begin takes the seed, without which processes that begin at one moment draw the same.
func (s *stamps) begin(from io.Reader, now time.Time) error {
	s.seed = uint64(now.UnixNano())
	if from == nil {
		return nil
	}
	return binary.Read(from, binary.BigEndian, &s.seed)
}

// draw returns one of 2^28-1. That two are equal by chance, at one modseq of one mailbox and
// after a loss, is as rare; each costs the log four bytes.
func (s *stamps) draw() uint32 { return s.next().Uint32N(1<<28-1) + 1 }

// number returns one of 2^64.
func (s *stamps) number() uint64 { return s.next().Uint64() }

// first returns one of 2^64, always the same.
func (s *stamps) first() uint64 { return rand.New(rand.NewPCG(s.seed, 0)).Uint64() }

func (s *stamps) next() *rand.Rand { return rand.New(rand.NewPCG(s.seed, s.drawn.Add(1))) }

// stampsForm is the form of stored records from which on there are stamps.
const stampsForm = 2

// newStamp draws a stamp for a commit; 0 is none.
func (s *Store) newStamp() uint32 {
	if s.opt.Format != nil && s.opt.Format() < stampsForm {
		return 0
	}
	return s.stamps.draw()
}

// ErrSetBack is what calls of an Account of Upon fail with when the mailbox does not go on from
// the picture: the store has lost changes that the picture shows.
var ErrSetBack = fault.New(fault.Unavailable, "the store was set back to an earlier state; connect again")

// Upon returns the account for who acts on what a picture shows, such as its UIDs: all its calls
// fail with ErrSetBack if the mailbox does not go on from there. Where no other process changes
// accounts that cannot be, and is not looked for.
func (a *Account) Upon(p *Picture) *Account {
	if a.store.shared == nil {
		return a
	}
	return &Account{accountState: a.accountState, as: a.as, upon: p}
}

// Line returns a number that pictures of a mailbox share as long as each goes on from the one
// before. Two of different lines may show other messages under the same UIDs. It is 0 where no
// other process changes accounts.
func (p *Picture) Line() uint64 { return p.line }

func (s *Store) newLine() uint64 {
	if s.shared == nil {
		return 0
	}
	return s.lines.Add(1)
}

// isOf tells whether the picture shows what is on record.
func (p *Picture) isOf(m *Mailbox) bool {
	return p.box.HighestModSeq == m.HighestModSeq && p.box.stamp == m.stamp
}

func (p *Picture) inLine(line uint64) *Picture {
	p.line = line
	return p
}

// follows tells whether a mailbox goes on from what a picture shows. If the log does not reach
// back so far, nothing says that it does not.
func (s *Snapshot) follows(m *Mailbox, p *Picture) (bool, error) {
	at := p.box.HighestModSeq
	switch {
	case m.HighestModSeq <= at:
		return p.isOf(m), nil
	case s.account.store.shared == nil, at <= m.LogFloor:
		return true, nil
	}
	line := engine.Key(famLog, uint64(m.ID), uint64(at))
	follows, bad := p.box.stamp == 0, error(nil) // where there were no stamps yet there may be no line
	// Whoever asks is going to read the lines after it, and an engine that is not on this
	// machine reads on.
	err := s.r.Scan(line, engine.Key(famLog, uint64(m.ID)+1), false, func(k, v []byte) bool {
		if bytes.Equal(k, line) {
			var stamp uint32
			stamp, _, bad = openLog(v)
			follows = stamp == p.box.stamp
		}
		return false
	})
	return follows && err == nil && bad == nil, cmp.Or(err, bad)
}

// stillUpon fails if the mailbox of a picture does not go on from there. That there is none any
// more shows without this.
func (s *Snapshot) stillUpon(p *Picture) error {
	m, err := s.mailbox(p.box.ID)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	follows, err := s.follows(&m, p)
	if err == nil && !follows {
		err = ErrSetBack
	}
	return err
}

// stillUpon fails if what is shown now does not go on from what the user acts upon.
func (a *Account) stillUpon(ctx context.Context, now *Picture) error {
	if a.upon == nil || a.upon.line == now.line || a.upon.box.ID != now.box.ID {
		return nil
	}
	return a.view(ctx, func(*Snapshot) error { return nil })
}

// setBack forgets how far changes have been seen: they have begun anew somewhere before.
func (a *accountState) setBack() {
	if a.store.shared == nil {
		return
	}
	a.attendance.setBacks.Add(1)
	a.attendance.seen.Store(0)
	a.lose(1)
}

// lose tells who follows that any mailbox may have changed since a modseq, and wakes all.
func (a *accountState) lose(since mail.ModSeq) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for f := range a.followers {
		f.lose(since)
		if f.wake != nil {
			f.wake()
		}
	}
	for _, w := range a.watchers {
		w.wake()
	}
}
