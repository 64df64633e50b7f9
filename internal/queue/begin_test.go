package queue

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

// denied is a tenure that does not get the term it needs.
type denied struct{}

func (denied) Term() uint64   { return 1 }
func (denied) Holder() string { return "denied" }
func (denied) Begin() bool    { return true }
func (denied) End() bool      { return true }
func (denied) Above(context.Context, uint64) error {
	return fault.New(fault.Busy, "another node has the lease")
}

// Work that may not begin lasts as long as its right: whoever gave that would take an end of
// its own for one for good, and the part would be abandoned.
func TestWorkThatMayNotBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newCrew(t, 1, 6).list[0]
		h.start()
		err := h.handle.Update(t.Context(), PartShard(1), func(w engine.Writer) error { return w.Put([]byte{famOwner}, holding{term: 1000}.encode(1)) })
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.q.Work(ctx, t.Context(), 1, denied{}) }()
		time.Sleep(time.Hour)
		select {
		case <-done:
			t.Error("it has ended, with its right to go on")
		default:
		}
		stop()
		<-done
	})
}

// leased is a tenure in the hands of a test.
type leased struct {
	mu     sync.Mutex
	term   uint64
	holder string
	lost   bool
}

func (l *leased) Term() uint64   { l.mu.Lock(); defer l.mu.Unlock(); return l.term }
func (l *leased) Holder() string { return l.holder }
func (l *leased) Begin() bool    { return true }
func (l *leased) End() bool      { return true }
func (l *leased) Above(_ context.Context, term uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost {
		return fault.New(fault.Busy, "another node has the lease")
	}
	l.term = max(l.term, term) + 1
	return nil
}

// After a failover that has lost the taking of a lease the next one has the same term. Only
// one of the two works, whatever was lost of the record of the owner, and whoever begins
// first; what an earlier version wrote is nobody's.
func TestEqualTerms(t *testing.T) {
	work := func(h *hand, l *leased) (ctx context.Context, stop func()) {
		ctx, cancel := context.WithCancel(h.crew.t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.q.Work(ctx, h.crew.t.Context(), 9, l) }()
		synctest.Wait()
		d := &duty{q: h.q.partOf(9), t: l}
		return context.WithValue(ctx, dutyKey{}, d), func() { cancel(); <-done }
	}
	may := func(h *hand, ctx context.Context) bool {
		err := h.q.partOf(9).write(ctx, func(engine.Writer) error { return nil })
		if err != nil && !fault.Is(err, fault.Busy) {
			h.crew.t.Error(err)
		}
		return err == nil
	}
	for _, c := range []struct {
		form uint64
		term uint64 // on record before
		all  bool   // what a wrote is lost, too
	}{{2, 0, false}, {2, 5, false}, {1, 5, false}, {2, 0, true}} {
		synctest.Test(t, func(t *testing.T) {
			crew := newCrew(t, 2, 7)
			crew.start()
			a, b := crew.list[0], crew.list[1]
			if c.term > 0 {
				err := a.handle.Update(t.Context(), PartShard(9), func(w engine.Writer) error {
					return w.Put([]byte{famOwner}, holding{c.term, "a"}.encode(c.form))
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			// What a took was lost, and it does not know yet: b has the lease.
			late, right := &leased{term: 5, holder: "a", lost: true}, &leased{term: 5, holder: "b"}
			at, stop := work(a, late)
			defer stop()
			if c.all {
				if err := a.handle.Update(t.Context(), PartShard(9), func(w engine.Writer) error { return w.Delete([]byte{famOwner}) }); err != nil {
					t.Fatal(err)
				}
			}
			bt, end := work(b, right)
			defer end()
			if may(a, at) || !may(b, bt) {
				t.Errorf("%+v: a works: %v, b: %v", c, may(a, at), may(b, bt))
			}
			if right.Term() <= 5 && !c.all {
				t.Errorf("%+v: the term is %d", c, right.Term())
			}
			end()
			again, end := work(a, late)
			defer end()
			if may(a, again) {
				t.Errorf("%+v: a works after b", c)
			}
		})
	}
}

// Where an engine loses the record of the owner and not that of the lease, or has an older one or a
// damaged one, the holder of the lease works on, under a higher term.
func TestOwnerIsLost(t *testing.T) {
	for what, lose := range map[string]func(w engine.Writer) error{
		"nobody":               func(w engine.Writer) error { return w.Delete([]byte{famOwner}) },
		"an earlier":           func(w engine.Writer) error { return w.Put([]byte{famOwner}, holding{0, "b"}.encode(formOfOwner)) },
		"a later":              func(w engine.Writer) error { return w.Put([]byte{famOwner}, holding{70, "b"}.encode(formOfOwner)) },
		"what nobody can read": func(w engine.Writer) error { return w.Put([]byte{famOwner}, []byte("damaged")) },
		"half of one": func(w engine.Writer) error {
			e := newEnc()
			e.U(70)
			return w.Put([]byte{famOwner}, record.Seal(ownerVersion, e.Enc))
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newCrew(t, 2, 7)
			c.start()
			a, b := c.list[0], c.list[1]
			read := func() (is holding) {
				err := b.handle.View(t.Context(), PartShard(a.q.part), func(r engine.Reader) (err error) { is, err = owner(r); return err })
				if err != nil && !fault.Is(err, fault.Corrupt) {
					t.Fatal(err)
				}
				return is
			}
			was := read()
			if err := b.handle.Update(t.Context(), PartShard(a.q.part), lose); err != nil {
				t.Fatal(err)
			}
			lost := read()
			id := a.put("a@martlet.test", "b@example.org")
			time.Sleep(2 * maxSleep)
			if is := read(); c.copies(id) != 1 || is.holder != was.holder || is.term <= max(was.term, lost.term) {
				t.Errorf("%s is on record: %d copies, then the owner is %+v; it was %+v", what, c.copies(id), is, was)
			}
			again := a.put("a@martlet.test", "c@example.org")
			time.Sleep(time.Second)
			if c.copies(again) != 1 {
				t.Errorf("%s is on record: the next message has %d copies", what, c.copies(again))
			}
		})
	}
}

// The record of the owner names him while all nodes can read that, and is read in either form.
func TestOwnerRecord(t *testing.T) {
	for form, want := range map[uint64]holding{1: {term: 7}, 2: {7, "a"}} {
		if is, err := decodeOwner(holding{7, "a"}.encode(form)); err != nil || is != want {
			t.Errorf("form %d: %+v, %v", form, is, err)
		}
	}
}
