package store

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Deliveries, flag changes and expunges run beside sessions that follow the mailbox
// by Watch, Picture and Diff. At the end every session has the same picture and has
// been told of each message exactly once.
func TestSessionsFollowConcurrentChanges(t *testing.T) {
	w := newWorld(t)
	inbox := w.box(t, "INBOX").ID
	const writers, each, sessions = 8, 40, 5
	p := w.receive(t, hello)

	var writing, following sync.WaitGroup
	done := make(chan struct{})
	believed := make([]map[mail.UID]bool, sessions)
	for i := range sessions {
		believed[i] = map[mail.UID]bool{}
		ticks, stop := w.a.Watch()
		old := w.picture(t, inbox)
		following.Go(func() {
			defer stop()
			for last := false; ; {
				now, err := w.a.Picture(ctx, inbox)
				if err != nil {
					t.Error(err)
					return
				}
				follow(t, believed[i], Diff(old, now))
				old = now
				if last {
					return
				}
				select {
				case <-ticks:
				case <-done:
					last = true
				}
			}
		})
	}
	for range writers {
		writing.Go(func() {
			for n := range each {
				var uid mail.UID
				err := w.a.Update(ctx, func(tx *Tx) (err error) {
					uid, err = tx.Append(inbox, NewMessage{Parcel: p})
					return err
				})
				if err == nil && n%2 == 0 {
					_, err = w.a.SetFlags(ctx, inbox, mail.SetOf(uid), FlagChange{Flags: mail.Seen})
				}
				if err == nil && n%5 == 0 {
					_, err = w.a.Expunge(ctx, inbox, mail.SetOf(uid), false)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	close(done)
	following.Wait()
	final := w.picture(t, inbox)
	if want := writers * each * 4 / 5; final.Len() != want {
		t.Errorf("%d messages, want %d", final.Len(), want)
	}
	for i, b := range believed {
		if len(b) != final.Len() {
			t.Errorf("session %d believes in %d messages, there are %d", i, len(b), final.Len())
		}
	}
	w.verify(t)
}

func follow(t *testing.T, have map[mail.UID]bool, d Difference) {
	for u := range d.Expunged.All() {
		if !have[u] {
			t.Errorf("%d expunged before it was told", u)
		}
		delete(have, u)
	}
	for u := range d.Arrived.All() {
		if have[u] {
			t.Errorf("%d told twice", u)
		}
		have[u] = true
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct{ writers, accounts int }{{1, 1}, {10, 1}, {50, 1}, {10, 10}, {50, 50}} {
		b.Run(fmt.Sprintf("writers=%d/accounts=%d", c.writers, c.accounts), func(b *testing.B) {
			s := benchStore(b, c.accounts)
			var wg sync.WaitGroup
			b.ResetTimer()
			for n := range c.writers {
				a := s.Account(mail.AccountID(n%c.accounts + 1))
				wg.Go(func() {
					for i := n; i < b.N; i += c.writers {
						if err := deliverUnique(s, a, i); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func benchStore(b *testing.B, accounts int) *Store {
	eng, err := pebble.Open(b.TempDir(), pebble.Options{Now: time.Now, FS: vfs.Default})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { eng.Close() })
	s, err := Open(eng, Options{Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	for i := range accounts {
		if err := s.CreateAccount(ctx, mail.AccountID(i+1), Quota{}); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

func deliverUnique(s *Store, a *Account, i int) error {
	p, err := s.Receive(ctx, &cut{fmt.Sprintf("Message-ID: <%d@x>\r\n%s%d %s", i, hello, i, hello), 0})
	if err != nil {
		return err
	}
	return a.Update(ctx, func(tx *Tx) error {
		inbox, err := tx.Mailbox("INBOX")
		if err == nil {
			_, err = tx.Append(inbox.ID, NewMessage{Parcel: p})
		}
		return err
	})
}

// A picture that somebody looks at is true as soon as a change is durable, without being
// read; and whoever has made a change sees it in the picture, whatever others do.
func TestPicturesKeepUp(t *testing.T) {
	w := newWorld(t)
	inbox := w.box(t, "INBOX").ID
	p := w.receive(t, hello)
	add := func(box mail.MailboxID) (uid mail.UID, err error) {
		err = w.a.Update(ctx, func(tx *Tx) (err error) {
			uid, err = tx.Append(box, NewMessage{Parcel: p})
			return err
		})
		return uid, err
	}
	for range 5 {
		w.picture(t, inbox)
		uid, err := add(inbox)
		if err != nil {
			t.Fatal(err)
		}
		if box, known := w.a.Known("INBOX"); !known || box.UIDNext != uid+1 {
			t.Fatalf("after message %d: %v, next is %d", uid, known, box.UIDNext)
		}
	}

	// Of two changes the later one may be the first to say that it is durable. The picture
	// that the earlier one has made is then not the present one.
	was := w.picture(t, inbox)
	var earlier *Tx
	err := w.a.Update(ctx, func(tx *Tx) error {
		earlier = tx
		_, err := tx.Append(inbox, NewMessage{Parcel: p})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	state := w.a.box(inbox)
	state.picture, state.generation = was, w.a.Generation()-1
	w.a.advance(earlier, w.a.generation.Add(1))
	if _, known := w.a.Known("INBOX"); known || state.picture == was {
		t.Errorf("known %v, advanced %v", known, state.picture != was)
	}

	var other mail.MailboxID
	err = w.a.Update(ctx, func(tx *Tx) error {
		box, err := tx.CreateMailbox("Other", "")
		other = box.ID
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	for i := range 8 {
		writing.Go(func() {
			box := []mail.MailboxID{inbox, other}[i%2]
			for range 60 {
				uid, err := add(box)
				if err != nil {
					t.Error(err)
					return
				}
				pic, err := w.a.Picture(ctx, box)
				if err != nil {
					t.Error(err)
					return
				}
				if _, there := pic.Message(uid); !there {
					t.Errorf("message %d is durable and not in the picture", uid)
				}
			}
		})
	}
	writing.Wait()
}
