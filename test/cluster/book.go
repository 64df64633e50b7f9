package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// tokenField is the header field that names a message in the book.
const tokenField = "X-Token: "

// Book is what was sent, and what the servers have said to it. A message has one token, one
// text and one account, and is sent until it is acknowledged, as mail hosts do.
type Book struct {
	mu      sync.Mutex
	mails   map[string]*letter
	acks    []time.Time // of all
	later   int         // 4xx
	cut     int         // ends without an answer
	refused []string    // 5xx, which nobody has deserved
}

// letter is one message.
type letter struct {
	account string
	acked   time.Time // zero: not yet
	acks    int
	cuts    int // sendings that ended without an answer: each may have left a copy
	removed int // 1: a session has expunged it, or 2: has tried to and not heard
}

// NewBook returns an empty one.
func NewBook() *Book { return &Book{mails: map[string]*letter{}} }

// Try notes that a message is about to be sent.
func (b *Book) Try(token, account string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mails[token] == nil {
		b.mails[token] = &letter{account: account}
	}
}

// Acked notes that it was taken.
func (b *Book) Acked(token string, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.mails[token]
	m.acked = at
	m.acks++
	b.acks = append(b.acks, at)
}

// Later notes that its sender was told to come again.
func (b *Book) Later() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.later++
}

// Cut notes that a sending ended without an answer, after the text was sent if sent.
func (b *Book) Cut(token string, sent bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cut++
	if sent {
		b.mails[token].cuts++
	}
}

// Refused notes that a server said never.
func (b *Book) Refused(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused = append(b.refused, what)
}

// Removing notes that a session is about to expunge a message, Removed that it has.
func (b *Book) Removing(token string) { b.remove(token, 2) }
func (b *Book) Removed(token string)  { b.remove(token, 1) }

func (b *Book) remove(token string, how int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m := b.mails[token]; m != nil && m.removed != 1 {
		m.removed = how
	}
}

// AckedBefore returns the tokens of an account that were acknowledged before a time, and that
// nobody has tried to remove.
func (b *Book) AckedBefore(account string, at time.Time) (tokens []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for t, m := range b.mails {
		if m.account == account && !m.acked.IsZero() && m.acked.Before(at) && m.removed == 0 {
			tokens = append(tokens, t)
		}
	}
	return tokens
}

// After returns those of some tokens that were acknowledged after a time.
func (b *Book) After(tokens []string, at time.Time) (late []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range tokens {
		if m := b.mails[t]; m != nil && m.acked.After(at) {
			late = append(late, t)
		}
	}
	return late
}

// Verdict is how what was found differs from the book.
type Verdict struct {
	Lost    []string // acknowledged and not there
	Doubled []string // there more often than any of its sendings accounts for
	Strange []string // never sent, or removed and there
	Again   int      // messages there once more for each answer that got lost on its way: no fault (RFC 1047)
}

// OK tells whether nothing differs.
func (v Verdict) OK() bool { return len(v.Lost)+len(v.Doubled)+len(v.Strange) == 0 }

func (v Verdict) String() string {
	return fmt.Sprintf("lost %v, doubled %v, strange %v, again %d", some(v.Lost), some(v.Doubled), some(v.Strange), v.Again)
}

func some(list []string) string {
	if len(list) > 5 {
		return fmt.Sprintf("%d: %s, ...", len(list), strings.Join(list[:5], ", "))
	}
	return fmt.Sprintf("%d: %s", len(list), strings.Join(list, ", "))
}

// Compare holds what an account shows, how often each token is there, against the book.
func (b *Book) Compare(account string, found map[string]int) (v Verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for t, m := range b.mails {
		if m.account != account {
			continue
		}
		n := found[t]
		if !m.acked.IsZero() && n == 0 && m.removed == 0 {
			v.Lost = append(v.Lost, t)
		}
		most := max(m.acks, 1) + m.cuts
		switch {
		case n > most:
			v.Doubled = append(v.Doubled, t)
		case n > max(m.acks, 1) || n > 0 && m.acks > 1:
			v.Again++
		}
		if n == most && m.removed == 1 {
			v.Strange = append(v.Strange, t+" is there and was expunged")
		}
	}
	for t := range found {
		if m := b.mails[t]; m == nil || m.account != account {
			v.Strange = append(v.Strange, t+" was never sent there")
		}
	}
	slices.Sort(v.Lost)
	slices.Sort(v.Doubled)
	slices.Sort(v.Strange)
	return v
}

// Outside holds what another host has taken against the book. Mail on its way may come twice
// when a node dies; each such is counted in Again.
func (b *Book) Outside(seen map[string]int) (v Verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for t, m := range b.mails {
		if m.account != outside {
			continue
		}
		switch n := seen[t]; {
		case n == 0 && !m.acked.IsZero():
			v.Lost = append(v.Lost, t)
		case n > 1:
			v.Again++
		}
	}
	return v
}

// outside is the account of messages that leave.
const outside = ""

// Forget drops what has been looked at and is gone for good.
func (b *Book) Forget(tokens map[string]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.mails, func(t string, _ *letter) bool { return tokens[t] })
}

// Figures are counts of what was said since a time.
type Figures struct {
	Acked, Later, Cut int
	Refused           []string
	Gap               time.Duration // longest time without an acknowledgement
}

// Since returns what was said since a time, and begins anew. The gap counts from then to now.
func (b *Book) Since(from, now time.Time) (f Figures) {
	b.mu.Lock()
	defer b.mu.Unlock()
	last := from
	slices.SortFunc(b.acks, time.Time.Compare)
	for _, at := range b.acks {
		if at.After(from) {
			f.Acked++
			f.Gap = max(f.Gap, at.Sub(last))
			last = at
		}
	}
	f.Gap = max(f.Gap, now.Sub(last))
	f.Later, f.Cut, f.Refused = b.later, b.cut, b.refused
	b.acks, b.later, b.cut, b.refused = nil, 0, 0, nil
	return f
}
