package backup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
)

// mixed fills an account with messages of all forms.
func (w *world) mixed(t testing.TB, name string, n int, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 7))
	for i := range n {
		token := fmt.Sprintf("%s-%d-%d", name, seed, i)
		switch i % 4 {
		case 0:
			w.append(t, name, "INBOX", letter(rng, token, 300), mail.Seen)
		case 1:
			w.append(t, name, "Archive", letter(rng, token, 20_000), 0)
		case 2:
			w.append(t, name, "INBOX", withFile(rng, token, 100_000), mail.Flagged)
		case 3:
			w.append(t, name, "Sent", letter(rng, token, 3000), mail.Answered|mail.Seen)
		}
	}
}

// What a backup of everything brings back is what there was.
func TestWhole(t *testing.T) {
	w := populated(t, "carol", "dave", "empty")
	w.mixed(t, "carol", 40, 1)
	w.mixed(t, "dave", 5, 2)
	p, err := w.Store.Receive(ctx, strings.NewReader(letter(rand.New(rand.NewPCG(1, 1)), "queued", 50_000)))
	w.must(t, err)
	_, err = w.queue.Enqueue(ctx, queue.Entry{Envelope: mail.Envelope{To: []mail.Recipient{{Address: mail.Address{Local: "x", Domain: "far.example"}}}}, Parcel: p})
	w.must(t, err)
	dir := filepath.Join(t.TempDir(), "backup")
	s := w.save(t, dir, SaveOptions{})
	if s.Accounts != 3 || s.Messages != 45 || s.Queued != 1 {
		t.Errorf("saved %+v", s)
	}
	clean(t, dir)
	want := map[string]map[string][]is{"carol": content(t, w.account(t, "carol")), "dave": content(t, w.account(t, "dave")), "empty": content(t, w.account(t, "empty"))}

	e := elsewhere(t, dir, time.Time{})
	e.verify(t)
	for name, was := range want {
		sameContent(t, name, content(t, e.account(t, name)), was)
	}
	depart(t, e)
	e.verify(t)
	for name, was := range want {
		sameContent(t, name+" after Depart", apart(content(t, e.account(t, name))), apart(was))
	}
	n, err := e.queue.Count(ctx)
	w.must(t, err)
	if n.Messages != 1 {
		t.Errorf("%d messages in the queue", n.Messages)
	}
}

// What has not changed is not stored again, nor read.
func TestIncremental(t *testing.T) {
	w := populated(t, "carol", "dave")
	w.mixed(t, "carol", 200, 1)
	w.mixed(t, "dave", 200, 2)
	dir := t.TempDir()
	first := w.save(t, dir, SaveOptions{})
	again := w.save(t, dir, SaveOptions{})
	if again.Objects != 0 || again.Unchanged != 2 {
		t.Errorf("a backup of nothing new: %+v", again)
	}
	w.append(t, "carol", "INBOX", letter(rand.New(rand.NewPCG(9, 9)), "new", 300), 0)
	third := w.save(t, dir, SaveOptions{})
	if third.Unchanged != 1 || third.Bytes > first.Bytes/10 || third.Objects > 25 {
		t.Errorf("a backup of one more message: %+v; the first was %+v", third, first)
	}
	if v := clean(t, dir); v.Snapshots != 3 {
		t.Errorf("%+v", v)
	}
	for _, at := range []time.Time{first.Time, third.Time} {
		e := elsewhere(t, dir, at)
		e.verify(t)
		want := 100
		if at.Equal(third.Time) {
			want = 101
		}
		if got := len(content(t, e.account(t, "carol"))["INBOX"]) - 1; got != want {
			t.Errorf("%v: %d messages, want %d", at, got, want)
		}
	}
}

// An account that was removed, and one that came, between two backups.
func TestAccountsComeAndGo(t *testing.T) {
	w := populated(t, "carol", "dave")
	w.mixed(t, "dave", 8, 1)
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	w.must(t, w.Directory.RemoveAccount(ctx, addr("carol")))
	w.add(t, "erin")
	w.mixed(t, "erin", 4, 3)
	w.save(t, dir, SaveOptions{})
	e := elsewhere(t, dir, time.Time{})
	e.verify(t)
	if _, err := e.Directory.Lookup(ctx, addr("carol")); !fault.Is(err, fault.NotFound) {
		t.Errorf("carol: %v", err)
	}
	if got := texts(content(t, e.account(t, "erin"))); len(got) != 4 {
		t.Errorf("erin has %d messages", len(got))
	}
}

// Two backups at a time: the second is refused, and so is pruning; reading is not.
func TestLocks(t *testing.T) {
	w := populated(t, "carol")
	w.mixed(t, "carol", 4, 1)
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	w.append(t, "carol", "INBOX", letter(rand.New(rand.NewPCG(9, 9)), "new", 300), 0)
	asked := false
	w.save(t, dir, SaveOptions{Progress: func(Progress) {
		if asked {
			return
		}
		asked = true
		if _, err := w.Save(ctx, dir, SaveOptions{}); !fault.Is(err, fault.Busy) {
			t.Errorf("a second backup: %v", err)
		}
		if _, err := Prune(ctx, disk, dir, Keep{Last: 1}, w.clock, false); !fault.Is(err, fault.Busy) {
			t.Errorf("pruning meanwhile: %v", err)
		}
		o, err := Open(disk, dir, time.Time{})
		if err != nil {
			t.Errorf("reading meanwhile: %v", err)
			return
		}
		o.Close()
	}})
	if !asked {
		t.Error("nobody asked")
	}
}

// A folder that is something else is left alone.
func TestStrangeFolders(t *testing.T) {
	w := populated(t)
	dir := t.TempDir()
	w.must(t, disk.write(filepath.Join(dir, "letter.txt"), []byte("dear")))
	if _, err := w.Save(ctx, dir, SaveOptions{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("%v", err)
	}
	if _, err := Open(disk, t.TempDir(), time.Time{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
	newer := t.TempDir()
	w.must(t, disk.write(filepath.Join(newer, formatFile), []byte(formatWords+"2\n")))
	if _, err := Open(disk, newer, time.Time{}); !fault.Is(err, fault.Unsupported) {
		t.Errorf("%v", err)
	}
}

// While anybody holds bodies nothing is swept; holding them waits for no other.
func TestHoldsBodies(t *testing.T) {
	w := populated(t, "carol")
	first, err := w.Store.HoldBodies(ctx)
	w.must(t, err)
	second, err := w.Store.HoldBodies(ctx)
	w.must(t, err)
	done := make(chan error)
	go func() { _, err := w.Store.Sweep(ctx); done <- err }()
	for _, release := range []func(){first, second} {
		select {
		case <-done:
			t.Error("a sweep did not wait")
		case <-time.After(30 * time.Millisecond):
		}
		release()
	}
	w.must(t, <-done)
	short, cancel := context.WithCancel(ctx)
	held, err := w.Store.HoldBodies(ctx)
	w.must(t, err)
	go func() { _, err := w.Store.Sweep(short); done <- err }()
	cancel()
	if err := <-done; err == nil {
		t.Error("a sweep that was given up went on")
	}
	held()
	if _, err := w.Store.Sweep(ctx); err != nil {
		t.Error(err)
	}
}
