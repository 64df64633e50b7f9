package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

var everyBrief = []BriefKind{BriefEnvelope, BriefStructure, BriefHeader}

// fill delivers many messages at once, all different.
func (w *world) fill(t testing.TB, box mail.MailboxID, many int, subject string) {
	t.Helper()
	for first := 0; first < many; first += 100 {
		var parcels []*Parcel
		for n := first; n < min(first+100, many); n++ {
			text := fmt.Sprintf("Received: from x\r\n\tby y; %d\r\nFrom: a%d@example.org\r\nSubject: %s %d\r\n\r\n%s", n, n, subject, n, strings.Repeat("x\r\n", n))
			parcels = append(parcels, w.receive(t, text))
		}
		w.update(t, func(tx *Tx) error {
			for _, p := range parcels {
				if _, err := tx.Append(box, NewMessage{Parcel: p}); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// brief makes the briefs of all pages of a mailbox.
func (w *world) brief(t testing.TB, box mail.MailboxID) {
	t.Helper()
	var uids []mail.UID
	for _, m := range w.picture(t, box).Messages(All()) {
		uids = append(uids, m.UID)
	}
	w.a.MakeBriefs(box, everyBrief, uids)
	w.background.Wait()
}

// briefed returns how many messages have briefs of all kinds, and looks that they say what
// the messages say.
func (w *world) briefed(t testing.TB, box mail.MailboxID) (count int) {
	t.Helper()
	var list []Message
	for _, m := range w.picture(t, box).Messages(All()) {
		list = append(list, m)
	}
	b := NewBriefs(box, everyBrief...)
	err := w.a.View(ctx, func(s *Snapshot) error {
		count = 0
		for rest := list; len(rest) > 0; {
			n, found, err := b.Read(s, rest)
			if err != nil {
				return err
			}
			for _, m := range rest[:n] {
				if !found {
					continue
				}
				count++
				f, err := s.Facts(m.ID)
				if err != nil {
					return err
				}
				head, err := s.Head(nil, m.ID)
				if err != nil {
					return err
				}
				if !bytes.Equal(b.Of(0, m.UID), f.Envelope) || !bytes.Equal(b.Of(1, m.UID), f.BodyStructure) || !bytes.Equal(b.Of(2, m.UID), briefHeader(head)) {
					t.Errorf("UID %d: %s", m.UID, b.Of(0, m.UID))
				}
			}
			rest = rest[n:]
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// Briefs say what the messages say, of full pages; those of a page go with any message of
// it, and all with the mailbox.
func TestBriefs(t *testing.T) {
	w := newWorld(t)
	box := w.box(t, "INBOX").ID
	w.fill(t, box, 700, "note")
	w.background.Wait()
	b := NewBriefs(box, BriefEnvelope, BriefStructure)
	err := w.a.View(ctx, func(s *Snapshot) error {
		n, found, err := b.Read(s, []Message{{UID: 1}, {UID: 100}, {UID: 511}, {UID: 512}})
		if n != 3 || !found {
			t.Errorf("delivery made briefs of %d, %v", n, found)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := w.briefed(t, box); n != 0 {
		t.Errorf("%d have all kinds", n)
	}
	w.brief(t, box)
	if n := w.briefed(t, box); n != 639 { // UIDs 1 to 639 are on full pages
		t.Errorf("%d messages have briefs", n)
	}
	w.verify(t)
	w.update(t, func(tx *Tx) error {
		if _, err := tx.Expunge(box, mail.SetOf(70, 300, 301), false); err != nil {
			return err
		}
		_, err := tx.Move(box, mail.SetOf(5), w.box(t, "Archive").ID)
		return err
	})
	if n := w.briefed(t, box); n != 639-63-64-64 {
		t.Errorf("%d messages have briefs after an expunge", n)
	}
	w.verify(t)
	w.brief(t, box)
	if n := w.briefed(t, box); n != 635 {
		t.Errorf("%d messages have briefs again", n)
	}
	w.verify(t)
	w.update(t, func(tx *Tx) error {
		_, err := tx.Expunge(box, mail.UIDSet{{From: 128, To: 400}}, false)
		return err
	})
	w.verify(t)
	if n := w.records(t, famBrief); n != 3*5 { // pages 0, 1 and 7 to 9
		t.Errorf("%d records", n)
	}
	other := w.box(t, "Trash").ID
	w.fill(t, other, 200, "rubbish")
	w.brief(t, other)
	if _, err := w.a.DeleteMailbox(ctx, "Trash"); err != nil {
		t.Fatal(err)
	}
	w.background.Wait()
	w.verify(t)
	if n := w.records(t, famBrief); n != 3*5 {
		t.Errorf("%d records after the mailbox went", n)
	}
}

// records counts the records of a family.
func (w *world) records(t testing.TB, family byte) (n int) {
	t.Helper()
	err := w.a.View(ctx, func(s *Snapshot) error {
		return s.r.Scan([]byte{family}, []byte{family + 1}, false, func(k, _ []byte) bool {
			n++
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A message that goes while briefs are made takes the brief of its page with it.
func TestBriefsOfWhatGoesMeanwhile(t *testing.T) {
	w := newWorld(t)
	box := w.box(t, "INBOX").ID
	w.fill(t, box, 200, "note")
	job := briefJob{w.a, box, everyBrief, nil}
	of, made, err := job.gather(ctx, []mail.UID{0, 64, 128, 192})
	if err != nil || len(made) != 9 {
		t.Fatal(len(made), err)
	}
	w.update(t, func(tx *Tx) error {
		_, err := tx.Expunge(box, mail.SetOf(70), false)
		return err
	})
	if err := job.keep(ctx, of, made); err != nil {
		t.Fatal(err)
	}
	w.verify(t)
	if n := w.briefed(t, box); n != 63+64 {
		t.Errorf("%d have briefs", n)
	}
}

// What is too large for a brief is left to the messages, and is not tried again.
func TestBriefsTooLarge(t *testing.T) {
	w := newWorld(t)
	box := w.box(t, "INBOX").ID
	rnd := rand.New(rand.NewPCG(1, 1))
	noise := make([]byte, 3000)
	for i := range noise {
		noise[i] = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[rnd.IntN(64)]
	}
	for range 130 {
		rnd.Shuffle(len(noise), func(i, j int) { noise[i], noise[j] = noise[j], noise[i] })
		w.deliver(t, "INBOX", "Subject: "+string(noise)+"\r\n\r\nx\r\n")
	}
	w.brief(t, box)
	if n := w.briefed(t, box); n != 0 {
		t.Errorf("%d have briefs", n)
	}
	if n := w.records(t, famBrief); n != 6 {
		t.Errorf("%d records", n)
	}
	w.verify(t)
	_, made, err := (&briefJob{w.a, box, everyBrief, nil}).gather(ctx, []mail.UID{1, 64})
	if err != nil || len(made) != 0 {
		t.Errorf("made again: %d, %v", len(made), err)
	}
}

// A brief that does not say what the messages say is found.
func TestVerifyFindsWrongBriefs(t *testing.T) {
	w := newWorld(t)
	box := w.box(t, "INBOX").ID
	w.fill(t, box, 200, "note")
	w.brief(t, box)
	put := func(key []byte, record []byte) {
		w.update(t, func(tx *Tx) error { return tx.w.Put(key, record) })
	}
	var good brief
	err := w.a.View(ctx, func(s *Snapshot) error {
		v, _, err := s.r.Get(briefKey(box, BriefEnvelope, 1))
		if err != nil {
			return err
		}
		return good.decode(v)
	})
	if err != nil {
		t.Fatal(err)
	}
	wrong := good
	wrong.rows[7] = []byte(`("forged")`)
	less := good
	less.present &^= 1 << 63
	for name, record := range map[string][]byte{"row": wrong.encode(), "present": less.encode(), "broken": seal(recBrief, []byte{7, 9, 9})} {
		put(briefKey(box, BriefEnvelope, 1), record)
		problems := 0
		if _, err := w.Verify(ctx, func(Problem) { problems++ }, nil); err != nil || problems != 1 {
			t.Errorf("%s: %d problems, %v", name, problems, err)
		}
	}
	put(briefKey(box, BriefEnvelope, 1), good.encode())
	w.verify(t)
	put(briefKey(box, BriefEnvelope, 9), good.encode())
	put(briefKey(77, BriefEnvelope, 1), good.encode())
	problems := 0
	if _, err := w.Verify(ctx, func(Problem) { problems++ }, nil); err != nil || problems != 2 {
		t.Errorf("of no page: %d problems, %v", problems, err)
	}
}

func FuzzBrief(f *testing.F) {
	b := brief{present: 5}
	b.rows[0], b.rows[1] = []byte("one"), nil
	f.Add(b.encode())
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, payload []byte) {
		var b, again brief
		if err := b.decode(seal(recBrief, payload)); err != nil {
			if !fault.Is(err, fault.Corrupt) {
				t.Fatal(err)
			}
			return
		}
		if b.present == 0 {
			return
		}
		if r := b.encode(); len(r) < engine.MaxValue {
			if err := again.decode(r); err != nil || !slices.EqualFunc(b.rows[:], again.rows[:], bytes.Equal) {
				t.Fatal(err)
			}
		}
	})
}

// What HEADER.FIELDS finds in a brief is what it finds in the header.
func TestBriefHeaderHasTheFields(t *testing.T) {
	for name, want := range map[string]bool{"Subject": true, "RECEIVED": false, "Received-SPF": false, "X-Received": false, "Arc-Seal": false, "": true} {
		if InBriefHeader(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	head := "Received: from a\r\n\tby b\r\nSubject: x\r\n y\r\nno field\r\nDKIM-Signature: z\r\nTo: u\r\n\r\n"
	if got := string(briefHeader([]byte(head))); got != "Subject: x\r\n y\r\nno field\r\nTo: u\r\n\r\n" {
		t.Errorf("%q", got)
	}
}

// Whatever is done to mailboxes in whatever order, briefs say what the messages say.
func TestBriefsThroughEverything(t *testing.T) {
	w := newWorld(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	names := []string{"INBOX", "Sent", "Made"}
	some := func(m Mailbox) mail.UIDSet {
		from := 1 + mail.UID(rnd.Uint32N(uint32(m.UIDNext)))
		return mail.UIDSet{{From: from, To: from + mail.UID(rnd.IntN(100))}}
	}
	found := 0
	for round := range 120 {
		name := names[rnd.IntN(3)]
		w.update(t, func(tx *Tx) error {
			if _, err := tx.CreateMailbox("Made", ""); err != nil && !fault.Is(err, fault.Exists) {
				return err
			}
			return nil
		})
		m, other := w.box(t, name), w.box(t, names[rnd.IntN(2)])
		switch op := rnd.IntN(20); {
		case op < 6:
			w.fill(t, m.ID, 1+rnd.IntN(90), fmt.Sprint("round ", round))
		case op < 8:
			w.update(t, func(tx *Tx) error {
				_, err := tx.Copy(m.ID, some(m), other.ID)
				return err
			})
		case op < 10:
			w.update(t, func(tx *Tx) error {
				_, err := tx.Move(m.ID, some(m), other.ID)
				return err
			})
		case op < 13:
			w.update(t, func(tx *Tx) error {
				_, err := tx.Expunge(m.ID, some(m), false)
				return err
			})
		case op == 13:
			if _, err := w.a.DeleteMailbox(ctx, "Made"); err != nil {
				t.Fatal(err)
			}
		case op == 14:
			if err := w.a.RenameInbox(ctx, fmt.Sprint("Old/", round)); err != nil {
				t.Fatal(err)
			}
		case op == 15:
			if _, err := w.a.SetFlags(ctx, m.ID, some(m), FlagChange{Op: AddFlags, Flags: mail.Seen}); err != nil {
				t.Fatal(err)
			}
		default:
			w.brief(t, m.ID)
			found += w.briefed(t, m.ID)
		}
		if round%10 == 9 {
			w.background.Wait()
			w.verify(t)
		}
	}
	if found < 500 {
		t.Errorf("only %d messages had briefs", found)
	}
}
