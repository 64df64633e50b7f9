package backup

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

func (w *world) boxOf(t testing.TB, name, box string) (id mail.MailboxID) {
	t.Helper()
	w.must(t, w.account(t, name).View(ctx, func(s *store.Snapshot) error {
		m, err := s.Mailbox(box)
		id = m.ID
		return err
	}))
	return id
}

// moveAll moves everything in one inbox to another.
func (w *world) moveAll(t testing.TB, from, to string) int {
	t.Helper()
	moved, err := w.account(t, from).MoveTo(ctx, w.boxOf(t, from, "INBOX"), store.All(), w.account(t, to), w.boxOf(t, to, "INBOX"))
	w.must(t, err)
	return len(moved)
}

// Accounts are read one after another; what moves meanwhile from one that is not read yet
// into one that has been read is in the snapshot all the same.
func TestMoveAcrossWhileSaving(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e"}
	again := 0
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 24))
		w := populated(t, names...)
		dir := t.TempDir()
		if seed%2 == 1 { // and those that have not changed are taken over
			w.save(t, dir, SaveOptions{})
		}
		var all []string
		for _, n := range names {
			for i := range 2 {
				text := letter(rng, fmt.Sprint(n, i), 300)
				all = append(all, text)
				w.append(t, n, "INBOX", text, 0)
			}
		}
		read := 0
		w.save(t, dir, SaveOptions{Progress: func(p Progress) {
			if p.Step != "accounts" {
				return
			}
			if read++; read > 12 { // people rest some time
				return
			}
			from, to := rng.IntN(len(names)), rng.IntN(len(names)-1)
			if to >= from {
				to++
			}
			w.moveAll(t, names[from], names[to])
			if rng.IntN(4) == 0 {
				w.must(t, w.Directory.RemoveAccount(ctx, addr(names[from])))
				w.add(t, names[from])
			}
		}})
		again += max(0, read-len(names))
		clean(t, dir)
		e := elsewhere(t, dir, time.Time{})
		e.verify(t)
		got := map[string]int{}
		for _, n := range names {
			for text, k := range texts(content(t, e.account(t, n))) {
				got[text] += k
			}
		}
		for _, text := range all {
			if got[text] == 0 {
				t.Errorf("seed %d: a message that moved is in no account: %.90q", seed, text)
			}
		}
	}
	if again == 0 {
		t.Error("no account was read again: nothing moved past the backup")
	}
}
