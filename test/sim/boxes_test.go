package sim

import (
	"maps"
	"slices"
)

// box is all that sessions were ever told of one mailbox: none of it may be taken back.
type box struct {
	name     string
	there    bool // CREATE said so
	validity uint32
	next     uint32 // the highest UIDNEXT told
	modseq   uint64 // the highest HIGHESTMODSEQ told
	facts    map[uint32]fact
	complete uint32          // below this UIDNEXT all messages were told of
	gone     map[uint32]bool // told to be gone
	moving   map[uint32]bool // somebody has tried to move it away
	removing map[uint32]string
	removed  map[uint32]bool // an expunge of it was acknowledged
	known    *state          // of some client that goes away now
}

// fact is what was told of a message, as of a modseq.
type fact struct {
	token  string
	flags  string
	modseq uint64
}

// state is what a client remembers of a mailbox.
type state struct {
	validity uint32
	modseq   uint64
	facts    map[uint32]fact
	all      bool // it wants to be told of all messages, not only of those it knows
}

func (l *ledger) box(user, name string) *box {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[user]
	if a.boxes[name] == nil {
		a.boxes[name] = &box{name: name, facts: map[uint32]fact{}, gone: map[uint32]bool{}, moving: map[uint32]bool{}, removing: map[uint32]string{}, removed: map[uint32]bool{}}
	}
	return a.boxes[name]
}

// exists tells whether anybody was told that there is such a mailbox.
func (l *ledger) exists(b *box) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return b.there || b.validity != 0
}

func (l *ledger) created(b *box) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.there = true
}

// floor is what has been told of a mailbox by now: who asks from now on is told no less.
func (l *ledger) floor(b *box) (next uint32, modseq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return b.next, b.modseq
}

// toldBox notes what SELECT or STATUS has said, and holds it against the floor of when it
// was asked.
func (l *ledger) toldBox(b *box, validity, next uint32, modseq uint64, floorNext uint32, floorModSeq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.validity != 0 && validity != 0 && validity != b.validity {
		l.w.wrong("%s: UIDVALIDITY was %d and is %d", b.name, b.validity, validity)
	}
	if next != 0 && next < floorNext {
		l.w.wrong("%s: UIDNEXT was %d and is %d", b.name, floorNext, next)
	}
	if modseq != 0 && modseq < floorModSeq {
		l.w.wrong("%s: HIGHESTMODSEQ was %d and is %d", b.name, floorModSeq, modseq)
	}
	b.validity, b.next, b.modseq = max(b.validity, validity), max(b.next, next), max(b.modseq, modseq)
}

// toldFact notes what FETCH has said of a message. Fields that were not said are zero.
func (l *ledger) toldFact(b *box, uid uint32, f fact) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, known := b.facts[uid]
	if known && f.token != "" && old.token != "" && f.token != old.token {
		l.w.wrong("%s: UID %d was %s and is %s", b.name, uid, old.token, f.token)
	}
	if f.token == "" {
		f.token = old.token
	}
	if f.modseq == 0 || f.modseq < old.modseq { // said of an older state, as one session may see it
		old.token = f.token
		b.facts[uid] = old
		return
	}
	if f.modseq == old.modseq && f.flags != old.flags {
		l.w.wrong("%s: UID %d had (%s) at modseq %d, and has (%s)", b.name, uid, old.flags, f.modseq, f.flags)
	}
	b.facts[uid] = f
}

func (l *ledger) toldGone(b *box, uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.facts[uid].token != "" || b.facts[uid].modseq > 0 {
		if !b.mayGo(uid) {
			l.w.lost(b.name + ": a message is told to be gone that nobody has removed: " + b.facts[uid].token)
		}
		b.gone[uid] = true
	}
}

func (b *box) mayGo(uid uint32) bool { return b.removing[uid] != "" || b.moving[uid] }

// compare holds a whole mailbox, as a fresh session sees it while nobody changes it,
// against all that was told.
func (l *ledger) compare(user string, b *box, now state, next uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, uid := range slices.Sorted(maps.Keys(b.facts)) {
		old := b.facts[uid]
		is, there := now.facts[uid]
		switch {
		case !there && !b.mayGo(uid):
			l.w.lost(user + " " + b.name + ": a message that was told of is not there: " + old.token)
		case !there:
		case is.modseq < old.modseq:
			l.w.wrong("%s %s: UID %d had modseq %d and has %d", user, b.name, uid, old.modseq, is.modseq)
		case is.modseq == old.modseq && is.flags != old.flags:
			l.w.wrong("%s %s: UID %d had (%s) at modseq %d and has (%s)", user, b.name, uid, old.flags, old.modseq, is.flags)
		case old.token != "" && is.token != "" && is.token != old.token:
			l.w.wrong("%s %s: UID %d was %s and is %s", user, b.name, uid, old.token, is.token)
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(now.facts)) {
		if _, known := b.facts[uid]; !known && uid < b.complete {
			l.w.wrong("%s %s: UID %d is new, and UIDNEXT was %d", user, b.name, uid, b.complete)
		}
		if uid >= next {
			l.w.wrong("%s %s: UID %d is there, and UIDNEXT is %d", user, b.name, uid, next)
		}
		if b.gone[uid] || b.removed[uid] && b.removing[uid] != "" {
			l.w.wrong("%s %s: UID %d (%s) was gone and is there", user, b.name, uid, now.facts[uid].token)
		}
		if now.facts[uid].modseq > now.modseq {
			l.w.wrong("%s %s: UID %d has modseq %d, the mailbox %d", user, b.name, uid, now.facts[uid].modseq, now.modseq)
		}
	}
	b.complete = max(b.complete, next)
	for uid, f := range now.facts {
		b.facts[uid] = f
	}
	for uid := range b.facts {
		if _, there := now.facts[uid]; !there {
			b.gone[uid] = true
		}
	}
}
