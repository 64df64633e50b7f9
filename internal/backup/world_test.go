package backup

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
)

var ctx = context.Background()

// disk is the real one, with locks of this process.
var disk = on(vfs.Default)

func on(fs vfs.FS) Disk {
	var l locks
	return Disk{fs, l.lock}
}

// locks are those of a process.
type locks struct {
	mu   sync.Mutex
	held map[string]int // how many have it; -1: one alone
}

func (l *locks) lock(name string, alone bool) (func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[string]int{}
	}
	if n := l.held[name]; n < 0 || alone && n > 0 {
		return nil, fault.New(fault.Busy, "locked")
	}
	if alone {
		l.held[name] = -2
	}
	l.held[name]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.held[name]--; alone {
			l.held[name] = 0
		}
	}, nil
}

// world is a server without doors, on an engine in memory.
type world struct {
	House
	queue *queue.Queue
	clock time.Time
}

// nowhere is a courier that is never asked: the queue does not run.
type nowhere struct{}

func (nowhere) Deliver(context.Context, queue.Job) []queue.Result { return nil }

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, inMemory(t))
}

func inMemory(t testing.TB) *pebble.Engine {
	t.Helper()
	eng, err := pebble.Open("data", pebble.Options{FS: vfs.NewMem(), Now: time.Now, CacheBytes: 1 << 20, MemTableBytes: 1 << 20, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	return eng
}

func newWorldOn(t testing.TB, eng *pebble.Engine) *world {
	t.Helper()
	w := &world{clock: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	st, err := store.Open(eng, store.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	cheap := directory.Options{Now: time.Now, Rand: crand.Reader, Argon: directory.Argon{MemoryKiB: 8, Passes: 1, Lanes: 1}, ScramIterations: 4096}
	d, err := directory.Open(ctx, eng, st, cheap)
	if err != nil {
		t.Fatal(err)
	}
	w.queue = queue.New(eng, st, queue.Options{
		Now: time.Now, Rand: func() float64 { return 0.5 }, Random: crand.Reader, Hostname: "mail.example.org", Remote: nowhere{}, Local: nowhere{},
		Report: func(context.Context, string, mail.Envelope, io.Reader) error { return nil },
	})
	w.House = House{Disk: disk, Engine: eng, Store: st, Directory: d, Version: "test", Rand: crand.Reader, Now: func() time.Time { w.clock = w.clock.Add(time.Second); return w.clock }}
	t.Cleanup(func() {
		d.Close()
		st.Close()
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// populated is a world with a domain and accounts.
func populated(t testing.TB, names ...string) *world {
	t.Helper()
	w := newWorld(t)
	w.must(t, w.Directory.AddDomain(ctx, "example.org"))
	for _, n := range names {
		w.add(t, n)
	}
	return w
}

func (w *world) add(t testing.TB, name string) {
	t.Helper()
	_, err := w.Directory.AddAccount(ctx, addr(name), "secret of "+name, store.Quota{})
	w.must(t, err)
}

func (w *world) must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addr(name string) mail.Address { return mail.Address{Local: name, Domain: "example.org"} }

func (w *world) account(t testing.TB, name string) *store.Account {
	t.Helper()
	a, err := w.Directory.Lookup(ctx, addr(name))
	w.must(t, err)
	return w.Store.Account(a.ID)
}

// letter is a message with a body of about so many bytes that does not compress.
func letter(rng *rand.Rand, token string, size int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "From: a@example.net\r\nTo: b@example.org\r\nSubject: %s\r\nMessage-ID: <%s@example.net>\r\n\r\n", token, token)
	for b.Len() < size {
		fmt.Fprintf(&b, "%016x%016x%016x%016x\r\n", rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64())
	}
	return b.String()
}

// withFile is a message with an attachment, which the store keeps apart.
func withFile(rng *rand.Rand, token string, size int) string {
	line := strings.Repeat("QUJD", 19)
	var b strings.Builder
	fmt.Fprintf(&b, "Subject: %s\r\nMIME-Version: 1.0\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n", token)
	for b.Len() < size {
		b.WriteString(line[:72] + fmt.Sprintf("%04x\r\n", rng.Uint64()&0xffff))
	}
	return b.String()
}

func (w *world) append(t testing.TB, name, box, text string, flags mail.Flags) mail.UID {
	t.Helper()
	p, err := w.Store.Receive(ctx, strings.NewReader(text))
	w.must(t, err)
	var uid mail.UID
	w.must(t, w.account(t, name).Update(ctx, func(tx *store.Tx) error {
		m, err := tx.Mailbox(box)
		if err != nil {
			return err
		}
		uid, err = tx.Append(m.ID, store.NewMessage{Parcel: p, Flags: flags})
		return err
	}))
	return uid
}

func (w *world) expunge(t testing.TB, name, box string, uids ...mail.UID) {
	t.Helper()
	w.must(t, w.account(t, name).Update(ctx, func(tx *store.Tx) error {
		m, err := tx.Mailbox(box)
		if err != nil {
			return err
		}
		_, err = tx.Expunge(m.ID, mail.SetOf(uids...), false)
		return err
	}))
}

func (w *world) save(t testing.TB, dir string, opt SaveOptions) Saved {
	t.Helper()
	opt.Problem = func(p Problem) { t.Errorf("saving: %v", p) }
	s, err := w.Save(ctx, dir, opt)
	w.must(t, err)
	return s
}

// is is how one message is, with all that stays when it comes back as it was.
type is struct {
	uid      mail.UID
	modSeq   mail.ModSeq
	flags    mail.Flags
	keywords string
	internal int64
	text     string
}

// content is what an account has: mailboxes by name, each with its UIDVALIDITY in front.
func content(t testing.TB, a *store.Account) map[string][]is {
	t.Helper()
	all := map[string][]is{}
	var boxes []store.Mailbox
	if err := a.View(ctx, func(s *store.Snapshot) (err error) { boxes, err = s.Mailboxes(); return err }); err != nil {
		t.Fatal(err)
	}
	for _, b := range boxes {
		list := []is{{uid: mail.UID(b.UIDValidity)}}
		pic, err := a.Picture(ctx, b.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range pic.Messages(store.All()) {
			r, err := a.Open(ctx, m.ID, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(r)
			r.Close()
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, is{m.UID, m.ModSeq, m.Flags, strings.Join(pic.Keywords(m), " "), m.Internal, string(text)})
		}
		all[b.Name] = list
	}
	return all
}

func sameContent(t testing.TB, what string, got, want map[string][]is) {
	t.Helper()
	if g, w := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(g, w) {
		t.Fatalf("%s: mailboxes %v, want %v", what, g, w)
	}
	for box := range want {
		if !slices.Equal(got[box], want[box]) {
			t.Fatalf("%s: %s has %d messages, want %d, or they differ", what, box, len(got[box])-1, len(want[box])-1)
		}
	}
}

// apart is what an account has, without the modseqs: those are others after a restore.
func apart(all map[string][]is) map[string][]is {
	for _, list := range all {
		for i := range list {
			list[i].modSeq = 0
		}
	}
	return all
}

// texts counts the messages of an account by their text.
func texts(all map[string][]is) map[string]int {
	n := map[string]int{}
	for _, list := range all {
		for _, m := range list[1:] {
			n[m.text]++
		}
	}
	return n
}

// verify looks through the whole world.
func (w *world) verify(t testing.TB) {
	t.Helper()
	_, err := w.Store.Verify(ctx, func(p store.Problem) { t.Errorf("verify: %+v", p) }, nil)
	w.must(t, err)
	w.must(t, w.Directory.Verify(ctx, func(what string) { t.Errorf("directory: %s", what) }, func(id mail.AccountID) {
		if err := w.Store.Account(id).View(ctx, func(*store.Snapshot) error { return nil }); err != nil {
			t.Errorf("account %d: %v", id, err)
		}
	}))
	_, err = w.queue.Verify(ctx, func(id queue.ID, what string) { t.Errorf("queue %s: %s", id, what) })
	w.must(t, err)
}

// clean wants a repository in which all is in order.
func clean(t testing.TB, dir string) Verified {
	t.Helper()
	v, err := Verify(ctx, disk, dir, func(p Problem) { t.Errorf("backup: %v", p) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// elsewhere brings a whole backup back into a new world.
func elsewhere(t testing.TB, dir string, at time.Time) *world {
	t.Helper()
	eng := inMemory(t)
	o, err := Open(disk, dir, at)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if _, err := o.Whole(ctx, eng, RestoreOptions{Problem: func(p Problem) { t.Errorf("restoring: %v", p) }}); err != nil {
		t.Fatal(err)
	}
	return newWorldOn(t, eng)
}

// depart sets a world that was brought back whole apart.
func depart(t testing.TB, w *world) {
	t.Helper()
	n, err := Depart(ctx, w.Store, w.Directory, RestoreOptions{Problem: func(p Problem) { t.Errorf("departing: %v", p) }})
	if n > 0 || err != nil {
		t.Fatal(n, err)
	}
}
