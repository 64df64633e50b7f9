package store

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// fillBox puts n messages with the same content into INBOX.
func (w *world) fillBox(t testing.TB, n int) {
	t.Helper()
	inbox, p := w.box(t, "INBOX").ID, w.receive(t, letter(1))
	for n > 0 {
		some := min(n, 10_000)
		n -= some
		w.update(t, func(tx *Tx) error {
			for range some {
				if _, err := tx.Append(inbox, NewMessage{Parcel: p, Flags: mail.Seen, Keywords: []string{"$Work"}}); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// A whole large mailbox is expunged, and one deleted, in changes that each fit into an Update of
// the engine; what is kept is all of it, and all comes back.
func TestMassExpungeIsKept(t *testing.T) {
	n := 45_000
	if os.Getenv("MARTLET_LONG") != "" {
		n = 1_000_000
	}
	w := keepingWorld(t)
	w.fillBox(t, n)
	inbox := w.box(t, "INBOX")
	w.expungeAll(t)
	kept := w.box(t, keptName)
	if int(kept.Messages) != n || w.box(t, "INBOX").Messages != 0 {
		t.Fatalf("%d of %d are kept", kept.Messages, n)
	}
	if changes := w.box(t, "INBOX").HighestModSeq - inbox.HighestModSeq; int(changes) < n/bulkMessages {
		t.Errorf("%d changes", changes)
	}
	w.restart(Keep{For: time.Hour, Messages: int64(n / 2)})
	w.expunge(t, "INBOX", w.deliver(t, "INBOX", letter(2)))
	if m := int(w.box(t, keptName).Messages); m > n/2 || m < n/2-n/2/keptTrim {
		t.Errorf("%d are kept, %d may be", m, n/2)
	}
	if back := w.undelete(t, DeletedQuery{}); len(back) < n/2-n/2/keptTrim || int(w.box(t, "INBOX").Messages) != len(back) {
		t.Errorf("%d came back", len(back))
	}
	w.verify(t)
}

// Many at once: deliveries, expunges, moves, deletions of mailboxes, restorations and
// purging, by sessions that know nothing of each other. In the end each message that was
// taken in is once somewhere.
func TestKeepAtTheSameTime(t *testing.T) {
	w := keepingWorld(t)
	const workers, rounds = 6, 40
	var wg sync.WaitGroup
	fail := make(chan error, workers*rounds)
	for i := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 3))
			for n := range rounds {
				if err := w.stir(rng, i*rounds+n); err != nil {
					fail <- err
				}
			}
		})
	}
	wg.Wait()
	close(fail)
	for err := range fail {
		t.Error(err)
	}
	if err := w.a.Reap(ctx); err != nil {
		t.Fatal(err)
	}
	w.verify(t)
	w.undelete(t, DeletedQuery{})
	seen := map[string]int{}
	err := w.a.View(ctx, func(s *Snapshot) error {
		clear(seen)
		boxes, err := s.Mailboxes()
		for _, b := range boxes {
			p, err := s.load(b)
			if err != nil {
				return err
			}
			for _, m := range p.Messages(All()) {
				k, err := s.Keys(m.ID)
				if err != nil {
					return err
				}
				seen[string(k.Subject)]++
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range workers * rounds {
		if got := seen[fmt.Sprintf("letter %d", n)]; got != 1 {
			t.Errorf("letter %d is there %d times", n, got)
		}
	}
	w.verify(t)
}

// stir delivers a letter and does something with what there is.
func (w *world) stir(rng *rand.Rand, n int) error {
	p, err := w.Receive(ctx, strings.NewReader(letter(n)))
	if err != nil {
		return err
	}
	var inbox, work Mailbox
	err = w.a.Update(ctx, func(tx *Tx) (err error) {
		if inbox, err = tx.Mailbox("INBOX"); err != nil {
			return err
		}
		if work, err = tx.Mailbox("Work"); fault.Is(err, fault.NotFound) {
			work, err = tx.CreateMailbox("Work", "")
		}
		if err == nil {
			_, err = tx.Append(inbox.ID, NewMessage{Parcel: p})
		}
		return err
	})
	if err != nil {
		return err
	}
	from := mail.UID(rng.IntN(int(inbox.UIDNext)) + 1)
	set := mail.UIDSet{{From: from, To: from + mail.UID(rng.IntN(8))}}
	switch rng.IntN(6) {
	case 0, 1:
		_, err = w.a.Expunge(ctx, inbox.ID, set, false)
	case 2, 3:
		_, err = w.a.Move(ctx, inbox.ID, set, work.ID)
	case 4:
		if rng.IntN(3) == 0 {
			_, err = w.a.DeleteMailbox(ctx, "Work")
		} else {
			err = w.a.Undelete(ctx, DeletedQuery{}, func(Deleted) error { return nil })
		}
	default:
		_, err = w.Purge(ctx)
	}
	if fault.Is(err, fault.NotFound) { // somebody else deleted it
		err = nil
	}
	return err
}

// A power cut after any change of an expunge, a deletion and a purge loses nothing: what is on
// disk is a store that is whole, in which each letter is in its mailbox, or kept, or on its
// way there, or was purged because it was due.
func TestKeepSurvivesCrashes(t *testing.T) {
	const letters, due = 1500, 600
	fs := vfs.NewCrashableMem()
	w := crashableWorld(t, fs)
	if err := w.CreateAccount(ctx, 1, Quota{}); err != nil {
		t.Fatal(err)
	}
	w.update(t, func(tx *Tx) error { _, err := tx.CreateMailbox("Work", ""); return err })
	w.fillDifferent(t, "INBOX", 0, letters/2)
	w.fillDifferent(t, "Work", letters/2, letters)
	rng := rand.New(rand.NewPCG(25, 9))
	var cuts []*vfs.MemFS
	cut := w.a.Wake(func() {
		cuts = append(cuts, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}))
	})
	w.expunge(t, "INBOX", slices.Collect(mail.UIDSet{{From: 1, To: due}}.All())...)
	w.update(t, func(tx *Tx) error { return tx.DeleteMailbox("Work") })
	if err := w.a.Reap(ctx); err != nil {
		t.Fatal(err)
	}
	w.undelete(t, DeletedQuery{Mailbox: "Work"})
	whole := len(cuts)
	w.restart(Keep{})
	w.sweep(t)
	cut.Stop()
	if whole < 5 || len(cuts) < whole+2 {
		t.Fatalf("%d and %d changes are too few to show anything", whole, len(cuts)-whole)
	}
	for i, disk := range cuts {
		w := crashableWorld(t, disk)
		w.verify(t)
		w.undelete(t, DeletedQuery{})
		w.verify(t)
		n := int(w.box(t, "INBOX").Messages)
		if b, err := w.boxErr("Work"); err == nil {
			n += int(b.Messages)
		}
		if i < whole && n != letters || n > letters || n < letters-due {
			t.Errorf("change %d: %d of %d letters are there", i, n, letters)
		}
	}
	// The control: after the purge they are gone.
	if n := w.box(t, "INBOX").Messages; n != letters/2-due {
		t.Errorf("%d letters are left in INBOX", n)
	}
}

func crashableWorld(t *testing.T, fs *vfs.MemFS) *world {
	t.Helper()
	c := &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	eng, err := pebble.Open("data", pebble.Options{FS: fs, MemTableBytes: 1 << 20, Now: c.now, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	s, err := Open(eng, Options{Now: c.now, Keep: Keep{For: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	return &world{Store: s, a: s.Account(1), clock: c}
}

// A mailbox whose messages have more annotations than one Update may write is deleted and
// comes back with all of them.
func TestDeletedMailboxWithManyAnnotations(t *testing.T) {
	w := keepingWorld(t)
	w.update(t, func(tx *Tx) error { _, err := tx.CreateMailbox("Work", ""); return err })
	w.fillDifferent(t, "Work", 0, 100)
	box := w.box(t, "Work").ID
	value := make([]byte, MaxNoteValue)
	for i := range 9 {
		if _, err := w.a.SetNotes(ctx, box, All(), []NoteChange{{Name: fmt.Sprintf("/n%d", i), Value: value}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	was := w.box(t, "Work")
	if was.noteBytes < 10<<20 {
		t.Fatalf("%d bytes of annotations fit into one Update", was.noteBytes)
	}
	w.update(t, func(tx *Tx) error { return tx.DeleteMailbox("Work") })
	if back := w.undelete(t, DeletedQuery{}); len(back) != 100 {
		t.Fatalf("%d came back", len(back))
	}
	if b := w.box(t, "Work"); b.notes != was.notes || b.noteBytes != was.noteBytes {
		t.Errorf("%d annotations in %d bytes came back, of %d in %d", b.notes, b.noteBytes, was.notes, was.noteBytes)
	}
	w.expunge(t, "Work", slices.Collect(mail.UIDSet{{From: 1, To: 100}}.All())...)
	w.restart(Keep{For: time.Hour, Messages: 10})
	w.expunge(t, "INBOX", w.deliver(t, "INBOX", letter(1000)))
	if b := w.box(t, keptName); b.Messages > 10 {
		t.Errorf("%d are kept", b.Messages)
	}
	w.verify(t)
}

// fillDifferent puts letters with these numbers into a mailbox.
func (w *world) fillDifferent(t testing.TB, name string, from, to int) {
	t.Helper()
	box := w.box(t, name).ID
	var list []*Parcel
	for i := from; i < to; i++ {
		list = append(list, w.receive(t, letter(i)))
	}
	w.update(t, func(tx *Tx) error {
		for _, p := range list {
			if _, err := tx.Append(box, NewMessage{Parcel: p}); err != nil {
				return err
			}
		}
		return nil
	})
}

// BenchmarkExpunge is of 1000 messages in one change: for good, kept, and by comparison moved.
func BenchmarkExpunge(b *testing.B) {
	for _, how := range []string{"gone", "kept", "moved"} {
		b.Run(how, func(b *testing.B) {
			w := newWorld(b)
			if how == "kept" {
				w.opt.Keep.For = time.Hour
			}
			for b.Loop() {
				b.StopTimer()
				w.fillBox(b, 1000)
				inbox, trash := w.box(b, "INBOX").ID, w.box(b, "Trash").ID
				b.StartTimer()
				var err error
				if how == "moved" {
					_, err = w.a.Move(ctx, inbox, All(), trash)
				} else {
					_, err = w.a.Expunge(ctx, inbox, All(), false)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
