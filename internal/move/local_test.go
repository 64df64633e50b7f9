package move

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/disk"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/turn"
)

var ctx = context.Background()

// world is a store with one account.
type world struct {
	*store.Store
	*Local
	closeAll func()
}

func newWorld(t testing.TB, quota store.Quota) *world {
	t.Helper()
	w := newWorldFor(t)
	t.Cleanup(w.closeAll)
	if err := w.Store.Account(1).Update(ctx, func(tx *store.Tx) error { tx.SetQuota(quota); return nil }); err != nil {
		t.Fatal(err)
	}
	return w
}

func newWorldFor(t interface{ Fatal(...any) }) *world {
	now := func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }
	fs := vfs.NewMem()
	eng, err := pebble.Open("data", pebble.Options{FS: fs, MemTableBytes: 4 << 20, Now: now, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	spool := disk.NewSpool(fs, "data")
	s, err := store.Open(eng, store.Options{Now: now, MaxMessage: 4 << 20, Spool: func() (store.SpoolFile, error) { return spool.File() }})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreateAccount(ctx, 1, store.Quota{}); err != nil {
		t.Fatal(err)
	}
	return &world{s, NewLocal(s, 1), func() { s.Close(); eng.Close() }}
}

func (w *world) verify(t testing.TB) {
	t.Helper()
	if _, err := w.Verify(ctx, func(p store.Problem) { t.Errorf("verify: %+v", p) }, nil); err != nil {
		t.Error(err)
	}
}

func (w *world) open(t testing.TB, source string, m Mailbox) (Place, bool) {
	t.Helper()
	at, kept, err := w.Open(ctx, source, m)
	if err != nil {
		t.Fatal(err)
	}
	return at, kept
}

func (w *world) place(t testing.TB, name string) Place {
	t.Helper()
	list, err := w.Mailboxes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no mailbox %q among %v", name, list)
	return Place{}
}

func incoming(item Item, text string) Incoming {
	return Incoming{Item: item, Size: int64(len(text)), Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
}

func letter(i int) string {
	return fmt.Sprintf("From: a@example.org\r\nSubject: %d\r\nMessage-ID: <%d@example.org>\r\nDate: Mon, 2 Feb 2026 10:00:00 +0000\r\n\r\nText %d\r\n", i, i, i)
}

func bytesOf(s string) io.Reader { return strings.NewReader(s) }

func contentOfText(s string) Content {
	c, _ := contentOf(strings.NewReader(s))
	return c
}

// The content of a message is what the store says it is, however it is written.
func TestContentIsTheStores(t *testing.T) {
	w := newWorld(t, store.Quota{})
	long := strings.Repeat("X: "+strings.Repeat("y", 90)+"\r\n", 4000)
	for i, text := range []string{
		"", "\r\n", "\n", "\r\nbody", "\nbody", "A: b", "A: b\r\n", "A: b\r\n\r\n", "A: b\n\nc", "A: b\r\n\r\nc", letter(1), "A: b\r\n\r\n" + strings.Repeat("z", 200<<10),
		long + "\r\nbody", long, long[:headCut-4] + "\r\n\r\nbody", strings.Repeat("y", headCut+5),
	} {
		p, err := w.Receive(ctx, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []int{1, 7, 4096, 1 << 20} {
			if step == 1 && len(text) > 1000 {
				continue
			}
			var s Summer
			for part := range slices.Chunk([]byte(text), step) {
				s.Write(part)
			}
			if s.Content() != p.Fingerprint() || s.Size() != int64(len(text)) {
				t.Errorf("message %d in steps of %d has another content", i, step)
			}
		}
	}
	if contentOfText("a\r\n\r\nb") == contentOfText("a\r\n\r\nc") || contentOfText("a\r\n\r\n") == contentOfText("b\r\n\r\n") {
		t.Error("different messages have the same content")
	}
}

func TestNamesHere(t *testing.T) {
	for name, want := range map[string]string{
		"inbox": "INBOX", "Inbox/a": "INBOX/a", "a/b": "a/b", "Entwürfe": "Entwürfe", "a=b": "a=b", "50%": "50=25", "a*": "a=2A", "a\x01": "a=01",
		"a//b": "a/=/b", "": "=", ".": "=2E", "a/..": "a/=2E=2E", "=25": "=25", "%=25": "=25=3D25", "=25=3D25": "=25=3D25", "a\xff": "a=FF", " a ": " a ", "a\\b": "a\\b",
	} {
		if got := NameHere(name); got != want {
			t.Errorf("%q is %q here, not %q", name, got, want)
		}
	}
	seen := map[string]string{}
	for _, name := range []string{strings.Repeat("a", 900), strings.Repeat("a", 901), strings.Repeat("é", 500), strings.Repeat("a/", 100) + "b", strings.Repeat("*", 500), "\u2028", strings.Repeat("/", 70)} {
		got := NameHere(name)
		if clean, err := store.CleanName(got); err != nil || clean != got || seen[got] != "" {
			t.Errorf("%q is %q here: %q %v %q", name, got, clean, err, seen[got])
		}
		seen[got] = name
	}
	for name, want := range map[string]string{
		"$Forwarded": "$Forwarded", "$forwarded": "$Forwarded", "Très bien": "Tr=C3=A8s=20bien", "": "=", "(a)": "=28a=29", `\Weird`: "=5CWeird", "=20": "=20", "( =20": "=28=20=3D20",
	} {
		if got := KeywordHere(name); got != want {
			t.Errorf("keyword %q is %q here, not %q", name, got, want)
		}
	}
	if k := KeywordHere(strings.Repeat("k", 300)); len(k) > store.MaxKeyword {
		t.Error(k)
	}
}

func TestPutOnce(t *testing.T) {
	w := newWorld(t, store.Quota{})
	box := Box{"s", "INBOX"}
	at, kept := w.open(t, "s", Mailbox{Name: "INBOX", Source: "INBOX", Role: mail.RoleInbox, UIDValidity: 77})
	if !kept || at.UIDValidity != 77 {
		t.Errorf("%+v %v", at, kept)
	}
	date := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	big := "Subject: big\r\n\r\n" + strings.Repeat(fmt.Sprintf("%x\r\n", sha256.Sum256(nil)), 10_000)
	list := []Incoming{
		incoming(Item{Key: "77.5", UID: 5, Flags: mail.Seen | mail.Flagged, Keywords: []string{"$Forwarded", "très"}, Date: date}, letter(5)),
		incoming(Item{Key: "77.9", UID: 9, Places: []string{"Work/Label", "INBOX"}}, big),
		incoming(Item{Key: "77.9", UID: 9}, big),
		incoming(Item{Key: "77.10", UID: 10}, strings.Repeat("x", 5<<20)),
		incoming(Item{Key: "77.11", UID: 11}, "Content-Type: text/plain\r\n\r\na\x00b\r\n"),
	}
	for round := range 2 {
		out, err := w.Put(ctx, box, at.ID, list)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range out {
			before := round == 1 || i == 2
			if i == 3 {
				if o.Refused == "" || o.UID != 0 {
					t.Errorf("%+v", o)
				}
				continue
			}
			if o.UID != list[i].Item.UID || o.Before != before || o.Refused != "" {
				t.Errorf("round %d, message %d: %+v", round, i, o)
			}
		}
		if round == 0 && (out[0].Changed == "" || out[4].Changed == "" || out[1].Changed != "") {
			t.Errorf("%+v", out)
		}
	}
	var got []string
	err := w.EachTie(Proving(ctx), box, func(tie Tie, now *Now) error {
		got = append(got, fmt.Sprint(tie.Key, " ", tie.UID, " ", now.Mailbox, " ", now.Flags, now.Keywords, now.Date.Format(time.RFC3339), now.Content == tie.Stored, tie.Content == tie.Stored))
		return nil
	})
	want := []string{
		`77.11 11 INBOX  []2026-03-01T12:00:00Ztrue false`, `77.5 5 INBOX \Seen \Flagged [$Forwarded tr=C3=A8s]2020-02-03T04:05:06Ztrue true`, `77.9 9 INBOX  []2026-03-01T12:00:00Ztrue true`,
	}
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\n%s\n%s", err, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if l := w.place(t, "Work/Label"); l.Messages != 1 {
		t.Errorf("%+v", l)
	}
	w.verify(t)
}

func TestPutOverQuota(t *testing.T) {
	w := newWorld(t, store.Quota{Messages: 2})
	at, _ := w.open(t, "s", Mailbox{Name: "INBOX", Source: "INBOX"})
	var list []Incoming
	for i := range 4 {
		list = append(list, incoming(Item{Key: fmt.Sprint(i)}, letter(i)))
	}
	list[0].Item.Places = []string{"a", "b"} // three messages
	out, err := w.Put(ctx, Box{"s", "INBOX"}, at.ID, list)
	if err != nil || out[0].Refused == "" || out[1].Refused != "" || out[2].Refused != "" || out[3].Refused == "" {
		t.Errorf("%+v %v", out, err)
	}
	w.verify(t)
}

// More keywords than a mailbox takes, and records larger than a commit, stop nothing.
func TestPutMuch(t *testing.T) {
	w := newWorld(t, store.Quota{})
	at, _ := w.open(t, "s", Mailbox{Name: "many", Source: "many"})
	var list []Incoming
	for i := range 1100 {
		list = append(list, incoming(Item{Key: fmt.Sprint(i), Keywords: []string{fmt.Sprint("k", i)}}, letter(i)+strings.Repeat("Lorem ipsum ", 1000)))
	}
	out, err := w.Put(ctx, Box{"s", "many"}, at.ID, list)
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for i, o := range out {
		if o.UID != mail.UID(i+1) {
			t.Fatalf("message %d has UID %d", i, o.UID)
		}
		if o.Changed != "" {
			lost++
		}
	}
	if lost != 1100-store.MaxKeywords {
		t.Errorf("%d keywords were left out", lost)
	}
	w.verify(t)
}

func TestOpenMailboxes(t *testing.T) {
	w := newWorld(t, store.Quota{})
	for _, c := range []struct {
		m    Mailbox
		want string
		kept bool
	}{
		{Mailbox{Name: "Sent Items", Source: "Sent Items", Role: mail.RoleSent, UIDValidity: 9}, "Sent", true},
		{Mailbox{Name: "Sent Mail", Source: "Sent Mail", Role: mail.RoleSent, UIDValidity: 9}, "Sent", false},
		{Mailbox{Name: "All", Source: "All", Role: mail.RoleAll}, "All", false},
		{Mailbox{Name: "New/Below", Source: "New.Below", UIDValidity: 9, Subscribed: true}, "New/Below", true},
		{Mailbox{Name: "50%", Source: "50%"}, "50=25", false},
		{Mailbox{Name: "inbox", Source: "INBOX", UIDValidity: 1<<32 - 1}, "INBOX", false},
	} {
		for range 2 {
			at, kept := w.open(t, "s", c.m)
			if at.Name != c.want || kept != c.kept || kept && at.UIDValidity != 9 {
				t.Errorf("%+v went to %+v, %v", c.m, at, kept)
			}
		}
	}
	// It stays the same when it is renamed here, and a new one comes when it is gone.
	acct := w.Store.Account(1)
	update := func(fn func(*store.Tx) error) {
		if err := acct.Update(ctx, fn); err != nil {
			t.Fatal(err)
		}
	}
	update(func(tx *store.Tx) error { return tx.RenameMailbox("All", "Everything") })
	if at, _ := w.open(t, "s", Mailbox{Name: "All", Source: "All"}); at.Name != "Everything" {
		t.Errorf("%+v", at)
	}
	update(func(tx *store.Tx) error { return tx.DeleteMailbox("Everything") })
	if at, _ := w.open(t, "s", Mailbox{Name: "All", Source: "All"}); at.Name != "All" {
		t.Errorf("%+v", at)
	}
	w.verify(t)
}

func TestChange(t *testing.T) {
	w := newWorld(t, store.Quota{})
	box := Box{"s", "a"}
	at, _ := w.open(t, "s", Mailbox{Name: "a", Source: "a"})
	item := Item{Key: "k", Flags: mail.Seen, Keywords: []string{"x", "y"}}
	put := func(item Item) mail.UID {
		out, err := w.Put(ctx, box, at.ID, []Incoming{incoming(item, letter(1))})
		if err != nil {
			t.Fatal(err)
		}
		return out[0].UID
	}
	now := func(key string) *Now {
		var found *Now
		if err := w.EachTie(ctx, box, func(tie Tie, now *Now) error {
			if tie.Key == key {
				found = now
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return found
	}
	change := func(c Change) {
		if err := w.Change(ctx, box, []Change{{Key: "none", Gone: true}, c}); err != nil {
			t.Fatal(err)
		}
	}
	uid := put(item)
	acct := w.Store.Account(1)
	// Here: flagged, unseen, x taken away. There: answered, y taken away, z added.
	if _, err := acct.SetFlags(ctx, at.ID, mail.SetOf(uid), store.FlagChange{Op: store.ReplaceFlags, Flags: mail.Flagged, Keywords: []string{"y"}}); err != nil {
		t.Fatal(err)
	}
	change(Change{Key: "k", Flags: mail.Seen | mail.Answered, Keywords: []string{"x", "z"}})
	if n := now("k"); n.Flags != mail.Flagged|mail.Answered || !slices.Equal(n.Keywords, []string{"z"}) {
		t.Errorf("%+v", n)
	}
	change(Change{Key: "k", Flags: mail.Seen | mail.Answered, Keywords: []string{"x", "z"}, MoveTo: "b/c"})
	if n := now("k"); n.Mailbox != "b/c" || n.Flags != mail.Flagged|mail.Answered {
		t.Errorf("%+v", n)
	}
	for i, want := range []string{"Trash", ""} {
		change(Change{Key: "k", Gone: true})
		n := now("k")
		if i == 0 && (n == nil || n.Mailbox != want) || i == 1 && n != nil {
			t.Errorf("gone: %+v", n)
		}
	}
	item.Key, item.Places = "l", []string{"b", "d"}
	put(item)
	change(Change{Key: "l", Gone: true})
	if n := now("l"); n.Mailbox != "Trash" || w.place(t, "b").Messages != 1 || w.place(t, "d").Messages != 1 || w.place(t, "a").Messages != 0 || w.place(t, "Trash").Messages != 1 {
		t.Errorf("%+v", n)
	}
	// What was expunged here does not come again.
	if uid := put(item); w.place(t, "a").Messages != 0 {
		t.Errorf("it is back: %d", uid)
	}
	w.verify(t)
}

func TestStateAndForget(t *testing.T) {
	w := newWorld(t, store.Quota{})
	box := Box{"s", "a"}
	if st, err := w.State(ctx, box); st != nil || err != nil {
		t.Error(st, err)
	}
	if err := w.SetState(ctx, box, []byte("xyz")); err != nil {
		t.Fatal(err)
	}
	w.open(t, "s", Mailbox{Name: "a", Source: "a", UIDValidity: 7})
	if st, err := w.State(ctx, box); !bytes.Equal(st, []byte("xyz")) || err != nil {
		t.Error(st, err)
	}
	list, err := w.Sources(ctx)
	if err != nil || len(list) != 1 || list[0] != (Brought{box, "a"}) {
		t.Errorf("%+v %v", list, err)
	}
	if err := w.SetState(ctx, box, make([]byte, 5000)); err == nil {
		t.Error("a state of any size was kept")
	}
	if err := w.Forget(ctx, "s", ""); err != nil {
		t.Fatal(err)
	}
	if st, err := w.State(ctx, box); st != nil || err != nil {
		t.Error(st, err)
	}
}

// What is put for an account beside others takes no turn that it does not give back.
func TestTurnsAreGivenBack(t *testing.T) {
	w := newWorld(t, store.Quota{})
	at, _ := w.open(t, "s", Mailbox{Name: "INBOX", Source: "INBOX"})
	g := turn.NewGate(2)
	other, mine := g.Turn(), g.Turn()
	other.Take("other")
	for n := range 5 {
		var list []Incoming
		for i := range n {
			list = append(list, incoming(Item{Key: fmt.Sprint(n, ".", i)}, letter(i)))
		}
		mine.Take("mine")
		if _, err := w.Put(turn.With(ctx, &mine), Box{"s", "m"}, at.ID, list); err != nil {
			t.Fatal(err)
		}
		if mine.Over() {
			t.Errorf("after %d messages there are more turns than one", n)
		}
		mine.Give()
	}
	other.Give()
}
