package traffic

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Delivery is one message to one account.
type Delivery struct{ Token, Account string }

// fate is what the server said of a delivery: how often it must and may be there.
type fate struct {
	least, most int
	uid         string   // UIDVALIDITY and UID, if it told (RFC 4315)
	boxes       []string // where it may be; nil is anywhere
}

// spot is where a message was found.
type spot struct{ box, uid string }

// Ledger is what the server was told and has acknowledged. What is noted as tried and
// never answered may be there or not.
type Ledger struct {
	Sink *Sink // where mail to Elsewhere comes, maybe more than once; may be nil

	mu   sync.Mutex
	sent map[Delivery]fate
}

// NewLedger returns one with nothing in it.
func NewLedger() *Ledger { return &Ledger{sent: map[Delivery]fate{}} }

// try notes that a delivery is about to begin.
func (l *Ledger) try(token string, accounts ...string) {
	for _, a := range accounts {
		l.set(token, a, fate{most: 1})
	}
}

// said notes that the server took it.
func (l *Ledger) said(token, account, uid string, boxes ...string) {
	l.set(token, account, fate{1, 1, uid, boxes})
}

func (l *Ledger) set(token, account string, f fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent[Delivery{token, account}] = f
}

func (l *Ledger) get(token, account string) fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent[Delivery{token, account}]
}

// Counts returns how many deliveries the server was clear about, and how many were cut off.
func (l *Ledger) Counts() (clear, unknown int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.sent {
		if f.least == f.most {
			clear++
		} else {
			unknown++
		}
	}
	return clear, unknown
}

// one returns a delivery that must be there.
func (l *Ledger) one() (Delivery, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for d, f := range l.sent {
		if f.least == 1 {
			return d, true
		}
	}
	return Delivery{}, false
}

func (l *Ledger) drop(d Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sent, d)
}

// Verdict is how what was found differs from the ledger.
type Verdict struct {
	Lost, Dup, Strange int // acknowledged and absent; there too often; never sent, or elsewhere
	First              []string
}

// OK tells whether nothing differs.
func (v Verdict) OK() bool { return v.Lost+v.Dup+v.Strange == 0 }

func (v Verdict) String() string {
	return fmt.Sprintf("%d lost, %d double, %d not as told: %s", v.Lost, v.Dup, v.Strange, strings.Join(v.First, "; "))
}

func (v *Verdict) note(n *int, format string, args ...any) {
	*n++
	if len(v.First) < 10 {
		v.First = append(v.First, fmt.Sprintf(format, args...))
	}
}

// compare holds what was found against the ledger.
func (l *Ledger) compare(found map[Delivery][]spot) (v Verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for d, f := range l.sent {
		got := found[d]
		switch {
		case len(got) < f.least:
			v.note(&v.Lost, "%v is not there", d)
		case len(got) > f.most && f.most > 0:
			v.note(&v.Dup, "%v is there %d times: %v", d, len(got), got)
		case len(got) > f.most:
			v.note(&v.Strange, "%v is at %v and should be gone", d, got)
		}
		for _, s := range got {
			if f.most == 1 && (f.uid != "" && s.uid != f.uid || f.boxes != nil && !slices.Contains(f.boxes, s.box)) {
				v.note(&v.Strange, "%v is at %v, was told %q in %q", d, s, f.uid, f.boxes)
			}
		}
	}
	for d := range found {
		if _, ok := l.sent[d]; !ok {
			v.note(&v.Strange, "%v was never sent", d)
		}
	}
	return v
}

// Settle forgets deliveries that are gone for good, as was wanted: a run of days makes
// millions.
func (l *Ledger) Settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for d, f := range l.sent {
		if f.most == 0 {
			delete(l.sent, d)
		}
	}
}
