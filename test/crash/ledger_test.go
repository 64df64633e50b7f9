package crash

import (
	"errors"
	"fmt"
	"sync"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// state is where and how a message is.
type state struct {
	box   string // "" is nowhere
	uid   mail.UID
	flags mail.Flags
}

// history is all that was ever tried with one message, in order. Of these states
// the one at acked was the last that the store acknowledged.
type history struct {
	text   string
	states []state
	acked  int
}

// letter names one message in one account.
type letter struct {
	account mail.AccountID
	token   string
}

// place names a mailbox.
type place struct {
	account mail.AccountID
	box     string
}

// told is what a session showed to somebody.
type told struct {
	next   mail.UID
	modseq mail.ModSeq
}

// ledger is what the outside knows of the store. It must be noted there that a
// change is tried before it is, and that it is acknowledged after.
type ledger struct {
	mu      sync.Mutex
	letters map[letter]*history
	told    map[place]told
}

// moment is what had been acknowledged at one moment.
type moment struct {
	acked map[letter]int
	told  map[place]told
}

func newLedger() *ledger {
	return &ledger{letters: map[letter]*history{}, told: map[place]told{}}
}

func (l *ledger) now() moment {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := moment{map[letter]int{}, map[place]told{}}
	for id, h := range l.letters {
		m.acked[id] = h.acked
	}
	for p, t := range l.told {
		m.told[p] = t
	}
	return m
}

// arrives notes that a new message is about to be put into a mailbox.
func (l *ledger) arrives(id letter, text string, s state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.letters[id] = &history{text: text, states: []state{{}, s}}
}

// tries notes that a message is about to change.
func (l *ledger) tries(id letter, s state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.letters[id]
	h.states = append(h.states, s)
}

// acks notes that the last change of a message was acknowledged, with this UID.
func (l *ledger) acks(id letter, uid mail.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.letters[id]
	h.acked = len(h.states) - 1
	h.states[h.acked].uid = uid
}

// tells notes what a session showed.
func (l *ledger) tells(p place, m store.Mailbox) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.told[p]
	l.told[p] = told{max(t.next, m.UIDNext), max(t.modseq, m.HighestModSeq)}
}

// found is what a store holds.
type found struct {
	letters map[letter][]state
	texts   map[letter]string
	boxes   map[place]store.Mailbox
}

// compare tells how what was found differs from what had been told.
func (l *ledger) compare(f found, then moment) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for id := range f.letters {
		if l.letters[id] == nil {
			errs = append(errs, fmt.Errorf("%v was never sent", id))
		}
	}
	for id, h := range l.letters {
		if err := h.allows(f.letters[id], then.acked[id]); err != nil {
			errs = append(errs, fmt.Errorf("%v: %w", id, err))
		}
		if text, ok := f.texts[id]; ok && text != h.text {
			errs = append(errs, fmt.Errorf("%v: %d bytes, not the %d that were sent", id, len(text), len(h.text)))
		}
	}
	for p, t := range then.told {
		if m := f.boxes[p]; m.UIDNext < t.next || m.HighestModSeq < t.modseq {
			errs = append(errs, fmt.Errorf("%v: a session was told of UIDNEXT %d, HIGHESTMODSEQ %d; now they are %d, %d",
				p, t.next, t.modseq, m.UIDNext, m.HighestModSeq))
		}
	}
	return errors.Join(errs...)
}

// allows checks that a message is in the state last acknowledged, or in one that was
// tried since.
func (h *history) allows(got []state, acked int) error {
	if len(got) > 1 {
		return fmt.Errorf("it is there %d times: %v", len(got), got)
	}
	is := state{}
	if len(got) == 1 {
		is = got[0]
	}
	for _, s := range h.states[acked:] {
		if s.box == is.box && (s.uid == 0 || s.uid == is.uid) && s.flags == is.flags {
			return nil
		}
	}
	return fmt.Errorf("it is %+v; acknowledged or tried since: %+v", is, h.states[acked:])
}
