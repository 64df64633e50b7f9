package backup

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// Pruning keeps what it is told to and the newest, frees what only the others needed, and
// what stays can be restored.
func TestPrune(t *testing.T) {
	w := populated(t, "carol")
	dir := t.TempDir()
	var times []time.Time
	want := map[time.Time]map[string][]is{}
	for i := range uint64(6) {
		w.mixed(t, "carol", 40, i)
		if i > 0 {
			w.expunge(t, "carol", "Archive", mail.UID(10*i-9), mail.UID(10*i-8), mail.UID(10*i-7), mail.UID(10*i-6))
		}
		s := w.save(t, dir, SaveOptions{})
		times = append(times, s.Time)
		want[s.Time] = content(t, w.account(t, "carol"))
		w.clock = w.clock.Add(24 * time.Hour)
	}
	if p, err := Prune(ctx, disk, dir, Keep{Last: 2}, w.clock, true); err != nil || len(p.Removed) != 4 || len(p.Kept) != 2 {
		t.Errorf("planned %+v, %v", p, err)
	}
	if list, _, _ := List(disk, dir); len(list) != 6 {
		t.Errorf("a plan removes: %d are left", len(list))
	}
	p, err := Prune(ctx, disk, dir, Keep{Days: 3}, w.clock, false)
	w.must(t, err)
	if len(p.Kept) != 2 || p.Packs == 0 || p.Bytes <= 0 {
		t.Errorf("%+v", p)
	}
	clean(t, dir)
	for _, at := range times[4:] {
		sameContent(t, fmt.Sprint(at), content(t, elsewhere(t, dir, at).account(t, "carol")), want[at])
	}
	if s := w.save(t, dir, SaveOptions{}); s.Unchanged != 1 {
		t.Errorf("after pruning, everything is read again: %+v", s)
	}
	if p, err := Prune(ctx, disk, dir, Keep{Last: 3}, w.clock, false); err != nil || len(p.Removed) != 0 || p.Packs != 0 {
		t.Errorf("nothing to do: %+v, %v", p, err)
	}
}

// A snapshot that cannot be read keeps pruning from removing what it may need.
func TestPruneRefusesWhatItCannotRead(t *testing.T) {
	w := populated(t, "carol")
	dir := t.TempDir()
	for i := range uint64(2) {
		w.mixed(t, "carol", 4, i)
		w.save(t, dir, SaveOptions{})
	}
	for path, b := range repositoryFiles(t, dir) {
		if strings.HasSuffix(path, snapEnding) {
			b[len(b)/2] ^= 1
			put(t, path, b)
			break
		}
	}
	before := len(repositoryFiles(t, dir))
	if _, err := Prune(ctx, disk, dir, Keep{Last: 1}, w.clock, false); !fault.Is(err, fault.Corrupt) {
		t.Errorf("%v", err)
	}
	if now := len(repositoryFiles(t, dir)); now != before {
		t.Errorf("%d files, were %d", now, before)
	}
}

// A restore of an account that is cut short leaves nobody, or after another call of AddAccount
// a new account, and not half of the old one.
func TestAdoptionCutShort(t *testing.T) {
	w := populated(t, "carol")
	w.mixed(t, "carol", 400, 1) // more than one Update writes
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	was := content(t, w.account(t, "carol"))
	w.must(t, w.Directory.RemoveAccount(ctx, addr("carol")))

	o, err := Open(disk, dir, time.Time{})
	w.must(t, err)
	defer o.Close()
	p, err := w.past(ctx, o)
	w.must(t, err)
	defer p.close()
	cut := errors.New("cut")
	_, err = w.Directory.Adopt(ctx, p.directory, addr("carol"), func(_ context.Context, _, id mail.AccountID, _ bool) error {
		c := carrier{ctx: ctx, from: o, into: w.Engine, put: map[name]bool{}}
		return w.Store.Adopt(ctx, id, func(put func(key, value []byte) error) error {
			n := 0
			return c.shard(store.ShardOf(id), func(key, value []byte) error {
				if n++; n == 900 || key == nil {
					return cut
				}
				return put(key, value)
			}, nil)
		}, nil)
	})
	if !errors.Is(err, cut) {
		t.Fatal(err)
	}
	if _, err := w.Directory.Lookup(ctx, addr("carol")); !fault.Is(err, fault.NotFound) {
		t.Errorf("half an account: %v", err)
	}
	w.verify(t)
	w.add(t, "carol")
	for box, list := range content(t, w.account(t, "carol")) {
		if len(list) > 1 {
			t.Errorf("%s of a new account has %d messages", box, len(list)-1)
		}
	}
	w.verify(t)
	w.must(t, w.Directory.RemoveAccount(ctx, addr("carol")))
	w.restore(t, dir, "carol", time.Time{}, AccountOptions{})
	sameContent(t, "carol", apart(content(t, w.account(t, "carol"))), apart(was))
}

// A body that the store has lost is told of; all else is saved and comes back.
func TestLostBody(t *testing.T) {
	w := populated(t, "carol")
	w.append(t, "carol", "INBOX", letter(rand.New(rand.NewPCG(1, 1)), "lost", 20_000), 0)
	w.append(t, "carol", "INBOX", letter(rand.New(rand.NewPCG(1, 2)), "there", 20_000), 0)
	var lost name
	w.must(t, w.account(t, "carol").View(ctx, func(s *store.Snapshot) error {
		f, err := s.Facts(1)
		lost = f.Body
		return err
	}))
	gone, err := w.Engine.Blobs().Delete(ctx, lost, time.Now().Add(time.Hour))
	if err != nil || !gone {
		t.Fatal(gone, err)
	}
	dir := t.TempDir()
	problems := 0
	s, err := w.Save(ctx, dir, SaveOptions{Problem: func(Problem) { problems++ }})
	if err != nil || s.Lost != 1 || problems != 1 {
		t.Fatalf("%+v, %d problems, %v", s, problems, err)
	}
	clean(t, dir)
	o, err := Open(disk, dir, time.Time{})
	w.must(t, err)
	defer o.Close()
	eng := inMemory(t)
	done, err := o.Whole(ctx, eng, RestoreOptions{})
	if err != nil || done.Failed != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	e := newWorldOn(t, eng)
	r, err := e.account(t, "carol").Open(ctx, 2, 0, -1)
	e.must(t, err)
	r.Close()
}

// Snapshots of a later version are refused by name of what made them.
func TestNewerRecords(t *testing.T) {
	w := populated(t, "carol")
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	all, _, err := (&repository{disk: disk, dir: dir}).snapshots()
	w.must(t, err)
	all[0].head.Schema.Store++
	all[0].head.Version = "9.9"
	b, err := all[0].encode()
	w.must(t, err)
	w.must(t, disk.write(disk.join(dir, snapsDir, all[0].file), b))
	if _, err := Open(disk, dir, time.Time{}); !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "9.9") {
		t.Errorf("%v", err)
	}
}

// An opened snapshot cannot be changed.
func TestSnapshotIsReadOnly(t *testing.T) {
	w := populated(t, "carol")
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	o, err := Open(disk, dir, time.Time{})
	w.must(t, err)
	defer o.Close()
	err = o.Update(ctx, store.DirectoryShard, func(tx engine.Writer) error { return tx.Put([]byte("x"), nil) })
	if !fault.Is(err, fault.Unsupported) {
		t.Errorf("%v", err)
	}
	if err := o.Blobs().Put(ctx, name{}, 0, strings.NewReader("")); !fault.Is(err, fault.Unsupported) {
		t.Errorf("%v", err)
	}
}

// What the sign of an account is made of: nothing that lasts changes without it.
func TestSignTells(t *testing.T) {
	w := populated(t, "carol", "dave")
	w.mixed(t, "carol", 8, 1)
	sign := func() (b [32]byte) {
		t.Helper()
		w.must(t, w.Engine.View(ctx, store.ShardOf(w.account(t, "carol").ID()), func(r engine.Reader) (err error) {
			b, err = store.Sign(r.Scan)
			return err
		}))
		return b
	}
	seen := map[[32]byte]string{sign(): "nothing"}
	a := w.account(t, "carol")
	box := w.mailbox(t, "carol", "INBOX")
	other := w.account(t, "dave").ID()
	for _, c := range []struct {
		what string
		do   func() error
	}{
		{"a message", func() error { w.append(t, "carol", "INBOX", "Subject: x\r\n\r\nx", 0); return nil }},
		{"a flag", func() error {
			return a.Update(ctx, func(tx *store.Tx) error {
				_, err := tx.SetFlags(box.ID, mail.SetOf(1), store.FlagChange{Op: store.AddFlags, Flags: mail.Flagged | mail.Draft})
				return err
			})
		}},
		{"a subscription", func() error { return a.Update(ctx, func(tx *store.Tx) error { return tx.Subscribe("Far", true) }) }},
		{"a quota", func() error {
			return a.Update(ctx, func(tx *store.Tx) error { tx.SetQuota(store.Quota{Bytes: 1 << 30}); return nil })
		}},
		{"a right", func() error {
			return a.Grant(ctx, box.ID, other, false, func(mail.Rights) mail.Rights { return mail.RightLookup | mail.RightRead })
		}},
		{"what somebody shares with it", func() error {
			return w.account(t, "dave").Grant(ctx, w.mailbox(t, "dave", "INBOX").ID, a.ID(), false, func(mail.Rights) mail.Rights { return mail.RightLookup | mail.RightRead })
		}},
		{"an annotation", func() error {
			return a.Update(ctx, func(tx *store.Tx) error { return tx.SetEntry(box.ID, 0, "/shared/comment", []byte("x")) })
		}},
		{"an expunge", func() error { w.expunge(t, "carol", "INBOX", 1); return nil }},
	} {
		w.must(t, c.do())
		now := sign()
		if before, ok := seen[now]; ok {
			t.Errorf("after %s the sign is that after %s", c.what, before)
		}
		seen[now] = c.what
	}
}

// Deleted mail that is kept is not there: what was deleted since comes back beside it, and
// what had been deleted before does not.
func TestDeletedMailThatIsKept(t *testing.T) {
	w := newWorld(t)
	st, err := store.Open(w.Engine, store.Options{Now: time.Now, Keep: store.Keep{For: 24 * time.Hour}})
	w.must(t, err)
	t.Cleanup(st.Close)
	w.Store = st
	w.must(t, w.Directory.AddDomain(ctx, "example.org"))
	w.add(t, "carol")
	for i := range 4 {
		w.append(t, "carol", "INBOX", fmt.Sprintf("Subject: %d\r\n\r\nx", i), 0)
	}
	w.expunge(t, "carol", "INBOX", 1)
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	w.expunge(t, "carol", "INBOX", 2, 3)
	for range 2 {
		w.restore(t, dir, "carol", time.Time{}, AccountOptions{Merge: true})
		all := content(t, w.account(t, "carol"))
		if n := len(all["INBOX"]) - 1; n != 3 {
			t.Errorf("INBOX has %d messages", n)
		}
		if n := len(all["Recently Deleted"]) - 1; n != 3 {
			t.Errorf("%d are kept", n)
		}
	}
	w.must(t, w.Directory.RemoveAccount(ctx, addr("carol")))
	w.restore(t, dir, "carol", time.Time{}, AccountOptions{})
	if all := content(t, w.account(t, "carol")); len(all["INBOX"]) != 4 || len(all["Recently Deleted"]) != 2 {
		t.Errorf("as it was: %v", all)
	}
}

// Many small packs become one.
func TestPruneGathersSmallPacks(t *testing.T) {
	w := populated(t, "carol")
	dir := t.TempDir()
	for i := range uint64(manySmall + 2) {
		w.mixed(t, "carol", 4, i)
		w.save(t, dir, SaveOptions{})
	}
	packs := func() (n int) {
		for path := range repositoryFiles(t, dir) {
			if strings.HasSuffix(path, packEnding) {
				n++
			}
		}
		return n
	}
	if n := packs(); n != manySmall+2 {
		t.Errorf("%d backups made %d packs", manySmall+2, n)
	}
	_, err := Prune(ctx, disk, dir, Keep{Last: 100}, w.clock, false)
	w.must(t, err)
	if n := packs(); n != 1 {
		t.Errorf("%d packs are left", n)
	}
	if v := clean(t, dir); v.Snapshots != manySmall+2 {
		t.Errorf("%+v", v)
	}
	elsewhere(t, dir, time.Time{}).verify(t)
}

// Who adds a shard to the store adds it to backups, too.
func TestAllShardsAreSaved(t *testing.T) {
	saved := []string{"DirectoryShard", "QueueShard", "registryShard", "accountBase"}
	f, err := parser.ParseFile(token.NewFileSet(), "../store/store.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			if of, ok := v.Type.(*ast.SelectorExpr); ok && of.Sel.Name == "Shard" {
				found = append(found, v.Names[0].Name)
			}
		}
		return true
	})
	if !slices.Equal(found, saved) {
		t.Errorf("the store has shards %v, backups have %v", found, saved)
	}
}
