package backup

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
)

// everyKind is a world in which each kind of record that mail leads to is there: also one
// that lies in pieces.
func everyKind(t *testing.T) *world {
	w := populated(t, "a", "b")
	w.mixed(t, "a", 20, 0)
	w.mixed(t, "b", 20, 1)
	rng := rand.New(rand.NewPCG(3, 4))
	long, line := "X: y\r\n", make([]byte, 48)
	for range 3000 {
		for i := range line {
			line[i] = byte(rng.Uint32())
		}
		long += " " + base64.StdEncoding.EncodeToString(line) + "\r\n"
	}
	w.append(t, "b", "INBOX", long+"\r\nof a long header\r\n", 0)
	p, err := w.Store.Receive(ctx, strings.NewReader(letter(rng, "queued", 300_000)))
	w.must(t, err)
	_, err = w.queue.Enqueue(ctx, queue.Entry{Key: "k", Envelope: mail.Envelope{To: []mail.Recipient{{Address: mail.Address{Local: "x", Domain: "far.example"}}}}, Parcel: p})
	w.must(t, err)
	return w
}

// families returns the first key of each family of a shard that has a value.
func (w *world) families(t *testing.T, sh engine.Shard) (keys [][]byte) {
	t.Helper()
	w.must(t, w.Engine.View(ctx, sh, func(r engine.Reader) error {
		return r.Scan(nil, nil, false, func(k, v []byte) bool {
			if len(v) > 0 && !bytes.ContainsRune([]byte("gz"), rune(k[0])) && (len(keys) == 0 || keys[len(keys)-1][0] != k[0]) {
				keys = append(keys, bytes.Clone(k))
			}
			return true
		})
	}))
	return keys
}

// hurt turns over a bit of a record.
func (w *world) hurt(t *testing.T, sh engine.Shard, key []byte) {
	t.Helper()
	w.must(t, w.Engine.Update(ctx, sh, func(wr engine.Writer) error {
		v, _, err := wr.Get(key)
		if err != nil {
			return err
		}
		v = bytes.Clone(v)
		v[len(v)/2] ^= 1
		return wr.Put(key, v)
	}))
}

// TestBackupTellsOfEveryDamagedRecord damages a record of each kind: the backup tells of it,
// and where, and that once.
func TestBackupTellsOfEveryDamagedRecord(t *testing.T) {
	w := everyKind(t)
	w.save(t, t.TempDir(), SaveOptions{}) // nothing is said of what is whole
	seen := ""
	for sh, where := range map[engine.Shard]string{
		store.DirectoryShard: "in the directory", store.QueueShard: "in the queue", store.RegistryShard: "in the list of accounts", w.shardOf(t, "b"): "in account ",
	} {
		for _, key := range w.families(t, sh) {
			if sh == store.QueueShard && key[0] == 'a' {
				continue // an alarm is a key; what it has beside that has no checksum
			}
			seen += string(key[0])
			w.hurt(t, sh, key)
			var problems told
			s, err := w.Save(ctx, t.TempDir(), SaveOptions{Problem: problems.add})
			if err != nil || s.Lost != 1 || len(problems) != 1 || !strings.Contains(problems[0], fmt.Sprintf("%x", key)) || !strings.Contains(problems[0], where) {
				t.Errorf("%s, %q: lost %d, %q, %v", where, key, s.Lost, problems, err)
			}
			w.hurt(t, sh, key)
		}
	}
	for _, family := range "abfhjlmnpqsty" {
		if !strings.ContainsRune(seen, family) {
			t.Errorf("there is no record %c among %s", family, seen)
		}
	}
}

// TestDamagedRecordCostsNoMore saves a server with a damaged record, one of each kind at a time,
// and brings everything back: what the others have is all there, the one who is hurt can be
// opened, and no UID is given out again.
func TestDamagedRecordCostsNoMore(t *testing.T) {
	w := everyKind(t)
	want := content(t, w.account(t, "a"))
	next := uidNexts(t, w.account(t, "b"))
	for _, sh := range []engine.Shard{store.DirectoryShard, store.QueueShard, store.RegistryShard, w.shardOf(t, "b")} {
		for _, key := range w.families(t, sh) {
			t.Run(fmt.Sprintf("%d %q", sh, key), func(t *testing.T) {
				w.hurt(t, sh, key)
				defer w.hurt(t, sh, key)
				dir := t.TempDir()
				_, err := w.Save(ctx, dir, SaveOptions{Problem: func(Problem) {}})
				w.must(t, err)
				o, err := Open(disk, dir, time.Time{})
				w.must(t, err)
				defer o.Close()
				eng := inMemory(t)
				var problems told
				done, err := o.Whole(ctx, eng, RestoreOptions{Problem: problems.add})
				w.must(t, err)
				e := newWorldOn(t, eng)
				failed, err := Depart(ctx, e.Store, e.Directory, RestoreOptions{Problem: problems.add})
				if alarm := sh == store.QueueShard && key[0] == 'a'; err != nil || done.Failed+failed != int64(len(problems)) || !alarm && len(problems) == 0 {
					t.Fatalf("%v: %d and %d failed, %q", err, done.Failed, failed, problems)
				}
				sameContent(t, "a", apart(content(t, e.account(t, "a"))), apart(want))
				for name, now := range uidNexts(t, e.account(t, "b")) {
					if was := next[name]; was[0] == now[0] && now[1] < was[1]+1<<20 {
						t.Errorf("%s: UIDVALIDITY and UIDNEXT were %v and are %v", name, was, now)
					}
				}
				w.must(t, e.Store.Repair(ctx, nil, func(store.Mended) {}))
				if sh == store.QueueShard {
					w.must(t, queue.Repair(ctx, eng, e.Store, time.Now(), func(queue.Mended) error { return nil }))
				}
				e.verify(t)
				if got := len(readable(e.account(t, "b"))); got < 19 {
					t.Errorf("%d messages of b can be read", got)
				}
			})
		}
	}
}

// uidNexts returns UIDVALIDITY and UIDNEXT of the mailboxes of an account.
func uidNexts(t *testing.T, a *store.Account) map[string][2]uint32 {
	t.Helper()
	got := map[string][2]uint32{}
	if err := a.View(ctx, func(s *store.Snapshot) error {
		boxes, err := s.Mailboxes()
		for _, m := range boxes {
			got[m.Name] = [2]uint32{m.UIDValidity, uint32(m.UIDNext)}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestDamagedRecordOfAnAccountThatIsGone brings back an account of which a record was damaged.
func TestDamagedRecordOfAnAccountThatIsGone(t *testing.T) {
	w := everyKind(t)
	next := uidNexts(t, w.account(t, "b"))
	for i, key := range w.families(t, w.shardOf(t, "b")) {
		w := w
		if i > 0 {
			w = everyKind(t) // the same again: each random number is
		}
		w.hurt(t, w.shardOf(t, "b"), key)
		dir := t.TempDir()
		_, err := w.Save(ctx, dir, SaveOptions{Problem: func(Problem) {}})
		w.must(t, err)
		w.must(t, w.Directory.RemoveAccount(ctx, addr("b")))
		var problems told
		done, err := w.RestoreAccount(ctx, dir, time.Time{}, addr("b"), AccountOptions{RestoreOptions: RestoreOptions{Problem: problems.add}})
		if err != nil || done.Failed == 0 || done.Failed != int64(len(problems)) || done.Messages < 20 {
			t.Fatalf("%q: %+v, %q, %v", key, done, problems, err)
		}
		for name, now := range uidNexts(t, w.account(t, "b")) {
			if was := next[name]; was[0] == now[0] && now[1] < was[1]+1<<20 {
				t.Errorf("%q, %s: UIDVALIDITY and UIDNEXT were %v and are %v", key, name, was, now)
			}
		}
	}
}
