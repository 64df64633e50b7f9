package backup

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/test/promise"
)

// writer changes one account, one change after the other, and knows what the account is
// after each.
type writer struct {
	t      testing.TB
	w      *world
	a      *store.Account
	rng    *rand.Rand
	boxes  [2]mail.MailboxID
	where  map[string]int // token -> box
	uids   map[string]mail.UID
	mu     sync.Mutex
	states []string // after the first n changes
	acked  atomic.Int64
}

func newWriter(t testing.TB, w *world, name string, seed uint64) *writer {
	r := &writer{t: t, w: w, a: w.account(t, name), rng: rand.New(rand.NewPCG(seed, 11)), where: map[string]int{}, uids: map[string]mail.UID{}}
	r.boxes = [2]mail.MailboxID{w.mailbox(t, name, "INBOX").ID, w.mailbox(t, name, "Archive").ID}
	r.states = []string{""}
	return r
}

// canonical writes where messages lie.
func canonical(where map[string]int) string {
	var list []string
	for token, box := range where {
		list = append(list, fmt.Sprintf("%s=%d", token, box))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// step makes one change: the state after it is noted before it is tried.
func (r *writer) step(n int) {
	token := fmt.Sprintf("m%d", n)
	var change func(tx *store.Tx) error
	next := func() {}
	some := ""
	for t := range r.where {
		if some == "" || t < some {
			some = t
		}
	}
	const most = 40 // messages
	k := r.rng.IntN(10)
	if len(r.where) >= most {
		k = 9
	}
	switch {
	case k < 6 || some == "":
		p, err := r.w.Store.Receive(ctx, strings.NewReader(letter(r.rng, token, []int{200, 9000}[n%2])))
		if err != nil {
			r.t.Error(err)
			return
		}
		box := r.rng.IntN(2)
		r.where[token] = box
		change = func(tx *store.Tx) error {
			uid, err := tx.Append(r.boxes[box], store.NewMessage{Parcel: p})
			next = func() { r.uids[token] = uid }
			return err
		}
	case k < 8:
		from := r.where[some]
		r.where[some] = 1 - from
		change = func(tx *store.Tx) error {
			moved, err := tx.Move(r.boxes[from], mail.SetOf(r.uids[some]), r.boxes[1-from])
			next = func() { r.uids[some] = moved[0].To }
			return err
		}
	default:
		from := r.where[some]
		delete(r.where, some)
		change = func(tx *store.Tx) error {
			_, err := tx.Expunge(r.boxes[from], mail.SetOf(r.uids[some]), false)
			return err
		}
	}
	r.mu.Lock()
	r.states = append(r.states, canonical(r.where))
	r.mu.Unlock()
	if err := r.a.Update(ctx, change); err != nil {
		r.t.Error(err)
		return
	}
	next()
	r.acked.Add(1)
}

// allows tells whether an account may be in a state: that after some changes, of which
// there are at least those acknowledged when the backup began.
func (r *writer) allows(state string, acked int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.states[acked:], state)
}

// stateOf reads the state of an account from a snapshot.
func stateOf(t testing.TB, a *store.Account) string {
	where := map[string]int{}
	for i, box := range []string{"INBOX", "Archive"} {
		for _, m := range content(t, a)[box][1:] {
			_, rest, _ := strings.Cut(m.text, "Subject: ")
			token, _, _ := strings.Cut(rest, "\r\n")
			where[token] = i
		}
	}
	return canonical(where)
}

// Backups made while accounts change are of one moment of each account: not before the
// backup began, and nothing torn.
func TestConsistentInTraffic(t *testing.T) {
	w := populated(t, "carol", "dave", "erin")
	var writers []*writer
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, name := range []string{"carol", "dave", "erin"} {
		r := newWriter(t, w, name, uint64(i))
		writers = append(writers, r)
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					r.step(n)
				}
			}
		})
	}
	dir := t.TempDir()
	backups := promise.Times(t, "R16_TRAFFIC", 12, 1000)
	wrong, moving := 0, 0
	for n := range backups {
		var acked [3]int64
		for i, r := range writers {
			acked[i] = r.acked.Load()
		}
		s := w.save(t, dir, SaveOptions{Full: n%5 == 4})
		o, err := Open(disk, dir, s.Time)
		w.must(t, err)
		p, err := w.past(ctx, o)
		w.must(t, err)
		for i, name := range []string{"carol", "dave", "erin"} {
			a, err := p.account(ctx, addr(name))
			w.must(t, err)
			if state := stateOf(t, a); !writers[i].allows(state, acked[i]) {
				wrong++
				t.Errorf("backup %d: %s was never like this: %.200s", n, name, state)
			} else if writers[i].allows(state, acked[i]+1) {
				moving++
			}
		}
		p.close()
		o.Close()
		time.Sleep(5 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	clean(t, dir)
	elsewhere(t, dir, time.Time{}).verify(t)
	if moving == 0 {
		t.Error("nothing changed while backups were made: too little for a proof")
	}
	// The test can see what it looks for: a state with one message less is none.
	r := writers[0]
	torn := strings.Join(strings.Fields(r.states[len(r.states)-1])[1:], " ")
	if len(r.where) > 2 && r.allows(torn+" x=0", 0) {
		t.Error("a torn state is not noticed")
	}
	promise.Kept(t, "R16", "backups in traffic", backups, "torn", wrong)
}

// A snapshot in which an account's mailboxes are of different moments: the comparison
// above must tell.
func TestTornSnapshotIsNoticed(t *testing.T) {
	w := populated(t, "carol")
	r := newWriter(t, w, "carol", 5)
	torn := 0
	for n := range 60 {
		r.step(n)
		if n < 10 {
			continue
		}
		now, before := strings.Fields(r.states[n+1]), strings.Fields(r.states[n-3])
		var mixed []string
		for _, s := range now {
			if strings.HasSuffix(s, "=0") {
				mixed = append(mixed, s)
			}
		}
		for _, s := range before {
			if strings.HasSuffix(s, "=1") {
				mixed = append(mixed, s)
			}
		}
		slices.Sort(mixed)
		if !r.allows(strings.Join(mixed, " "), 0) {
			torn++
		}
	}
	if torn < 10 {
		t.Errorf("%d torn states noticed", torn)
	}
}
