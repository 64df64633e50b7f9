package store

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// sweptFor sweeps day by day and returns how many bodies went, and the last error.
func sweptFor(w *world, days int) (removed int, err error) {
	for range days {
		w.clock.t = w.clock.t.Add(24 * time.Hour)
		var s Swept
		s, err = w.Sweep(ctx)
		removed += s.Removed
	}
	return removed, err
}

func (w *world) problems(t *testing.T) (list []Problem) {
	t.Helper()
	if _, err := w.Verify(ctx, func(p Problem) { list = append(list, p) }, nil); err != nil {
		t.Fatal(err)
	}
	return list
}

func anyOf(list []Problem, id mail.AccountID, what string) bool {
	return slices.ContainsFunc(list, func(p Problem) bool { return p.Account == id && strings.Contains(p.What, what) })
}

func (w *world) lose(t *testing.T, shard engine.Shard, key []byte) {
	t.Helper()
	if err := w.eng.Update(ctx, shard, func(wr engine.Writer) error { return wr.Delete(key) }); err != nil {
		t.Fatal(err)
	}
}

// An account that the list of accounts has lost keeps its bodies.
func TestSweepWithoutTheListOfAccounts(t *testing.T) {
	w := newWorld(t)
	w.deliver(t, "INBOX", "Subject: x\r\n\r\n"+randText(100_000))
	w.lose(t, registryShard, engine.Key(famRegistry, 1))
	if removed, err := sweptFor(w, 5); removed > 0 || err != nil {
		t.Errorf("%d bodies of an account that is there are removed: %v", removed, err)
	}
	if list := w.problems(t); !anyOf(list, 1, "not in the list") {
		t.Errorf("verify says %v", list)
	}
	w.expunge(t, "INBOX", 1)
	if removed, err := sweptFor(w, 5); removed == 0 || err != nil { // the control
		t.Errorf("%d bodies that nobody needs any more are removed: %v", removed, err)
	}
}

// While an account has records but not its own, no body is removed, and all else is tidied up.
func TestSweepOfAnAccountWithoutItsRecord(t *testing.T) {
	w := newWorld(t)
	w.deliver(t, "INBOX", "Subject: x\r\n\r\n"+randText(100_000))
	if err := w.CreateAccount(ctx, 2, Quota{}); err != nil {
		t.Fatal(err)
	}
	record := w.get(t, 1, []byte{famAccount})
	w.lose(t, w.a.shard, []byte{famAccount})
	removed, err := sweptFor(w, 5)
	if removed > 0 || !fault.Is(err, fault.Corrupt) {
		t.Errorf("%d bodies of an account that has lost its record are removed: %v", removed, err)
	}
	if list := w.problems(t); !anyOf(list, 1, "not its own") {
		t.Errorf("verify says %v", list)
	}
	// The control: with the record, bodies that nobody needs go again.
	if err := w.eng.Update(ctx, w.a.shard, func(wr engine.Writer) error { return wr.Put([]byte{famAccount}, record) }); err != nil {
		t.Fatal(err)
	}
	w.expunge(t, "INBOX", 1)
	if removed, err := sweptFor(w, 5); removed == 0 || err != nil {
		t.Errorf("%d bodies that nobody needs any more are removed: %v", removed, err)
	}
	w.verify(t)
}

// An account that is listed and has nothing was being made, or removed, when the power went.
func TestSweepOfAnAccountThatIsEmpty(t *testing.T) {
	w := newWorld(t)
	if err := w.CreateAccount(ctx, 2, Quota{}); err != nil {
		t.Fatal(err)
	}
	if err := w.eng.Update(ctx, ShardOf(2), func(wr engine.Writer) error { return wr.DeleteRange(nil, nil) }); err != nil {
		t.Fatal(err)
	}
	if _, err := sweptFor(w, 2); err != nil {
		t.Error(err)
	}
	w.verify(t)
}

func (w *world) get(t *testing.T, id mail.AccountID, key []byte) (value []byte) {
	t.Helper()
	err := w.eng.View(ctx, ShardOf(id), func(r engine.Reader) error {
		v, _, err := r.Get(key)
		value = append(value, v...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// randText returns text that does not compress well.
func randText(n int) string {
	var b strings.Builder
	for x := uint64(88172645463325252); b.Len() < n; b.WriteString("\r\n") {
		for range 60 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			b.WriteByte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"[x%64])
		}
	}
	return b.String()
}
