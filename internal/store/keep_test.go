package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// keepingWorld is a world in which deleted mail is kept for 30 days.
func keepingWorld(t testing.TB) *world {
	w := newWorld(t)
	w.opt.Keep.For = 30 * 24 * time.Hour
	return w
}

// restart is a world as it is with other settings.
func (w *world) restart(k Keep) {
	if err := k.check(); err != nil {
		panic(err)
	}
	w.opt.Keep = k
}

func letter(n int) string {
	return fmt.Sprintf("From: Ann <ann@example.org>\r\nSubject: letter %d\r\nMessage-ID: <%d@example.org>\r\n\r\nNumber %d.\r\n", n, n, n)
}

func (w *world) expunge(t testing.TB, box string, uids ...mail.UID) {
	t.Helper()
	if _, err := w.a.Expunge(ctx, w.box(t, box).ID, mail.SetOf(uids...), false); err != nil {
		t.Fatal(err)
	}
}

func (w *world) deleted(t testing.TB, q DeletedQuery) []Deleted {
	t.Helper()
	var list []Deleted
	if err := w.a.Deleted(ctx, q, func(d Deleted) error { list = append(list, d); return nil }); err != nil {
		t.Fatal(err)
	}
	return list
}

func (w *world) undelete(t testing.TB, q DeletedQuery) []Deleted {
	t.Helper()
	var list []Deleted
	if err := w.a.Undelete(ctx, q, func(d Deleted) error { list = append(list, d); return nil }); err != nil {
		t.Fatal(err)
	}
	return list
}

func (w *world) sweep(t testing.TB) {
	t.Helper()
	if _, err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
}

// days lets so many days pass, with the purging that a server does.
func (w *world) days(t testing.TB, n int) {
	t.Helper()
	for range n {
		w.clock.t = w.clock.t.Add(24 * time.Hour)
		if _, err := w.Purge(ctx); err != nil {
			t.Fatal(err)
		}
	}
	w.sweep(t)
}

func (w *world) usage(t testing.TB) (u Usage) {
	t.Helper()
	if err := w.a.View(ctx, func(s *Snapshot) error { _, u = s.Quota(); return nil }); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestDeletedMailComesBack(t *testing.T) {
	w := keepingWorld(t)
	inbox := w.box(t, "INBOX")
	var uid mail.UID
	w.update(t, func(tx *Tx) (err error) {
		uid, err = tx.Append(inbox.ID, NewMessage{Parcel: w.receive(t, letter(1)), Flags: mail.Seen | mail.Flagged | mail.Deleted,
			Keywords: []string{"$Work"}, InternalDate: time.Unix(1e9, 0),
			Notes: []NoteChange{{Name: "/comment", Value: []byte("ours")}, {Name: "/comment", Private: true, Value: []byte("mine")}}})
		return err
	})
	before, _ := w.picture(t, inbox.ID).Message(uid)
	w.clock.t = w.clock.t.Add(time.Hour)
	w.expunge(t, "INBOX", uid)
	if u := w.usage(t); u != (Usage{}) {
		t.Errorf("what is kept counts as %+v", u)
	}
	if subs := w.subscriptions(t); !slices.Contains(subs, keptName) {
		t.Errorf("subscribed are %v", subs)
	}
	kept := w.picture(t, w.box(t, keptName).ID)
	if m := kept.ofID(before.ID); m.Flags != mail.Seen|mail.Flagged || m.Internal != 1e9 || m.Saved != w.clock.t.Unix() || m.Thread != before.Thread {
		t.Errorf("kept is %+v", m)
	}
	w.verify(t)
	list := w.deleted(t, DeletedQuery{})
	if len(list) != 1 || list[0].Mailbox != "INBOX" || list[0].UID != uid || list[0].Subject != "letter 1" || list[0].From != "Ann" || list[0].At != time.Unix(w.clock.t.Unix(), 0) {
		t.Fatalf("%+v", list)
	}
	w.clock.t = w.clock.t.Add(time.Hour)
	back := w.undelete(t, DeletedQuery{})
	if len(back) != 1 || back[0].Restored != uid+1 {
		t.Fatalf("%+v", back)
	}
	p := w.picture(t, inbox.ID)
	m, _ := p.Message(uid + 1)
	if m.ID != before.ID || m.Flags != mail.Seen|mail.Flagged || joined2(p.Keywords(m)) != "$Work" || m.Internal != 1e9 || w.whole(t, m.ID) != letter(1) {
		t.Errorf("%+v", m)
	}
	if got := w.notesOf(t, inbox.ID, uid+1); got != "shared /comment ours, 1 /comment mine" {
		t.Errorf("annotations: %s", got)
	}
	if again := w.undelete(t, DeletedQuery{}); len(again) != 0 || w.picture(t, inbox.ID).Len() != 1 {
		t.Errorf("given back twice: %+v", again)
	}
	if u := w.usage(t); u.Messages != 1 || u.Bytes != m.Size {
		t.Errorf("it counts as %+v", u)
	}
	w.verify(t)
	w.sweep(t)
	if _, err := w.boxErr(keptName); !fault.Is(err, fault.NotFound) {
		t.Errorf("the mailbox is there without a message: %v", err)
	}
	w.verify(t)
}

func (p *Picture) ofID(id mail.MessageID) Message {
	for _, m := range p.Messages(All()) {
		if m.ID == id {
			return m
		}
	}
	return Message{}
}

func (w *world) subscriptions(t testing.TB) (list []string) {
	t.Helper()
	err := w.a.View(ctx, func(s *Snapshot) (err error) { list, err = s.Subscriptions(); return err })
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func (w *world) notesOf(t testing.TB, box mail.MailboxID, uid mail.UID) string {
	t.Helper()
	var list []string
	err := w.a.View(ctx, func(s *Snapshot) error {
		list = nil
		return s.eachNote(box, mail.SetOf(uid), func(n Note, reader mail.AccountID) bool {
			who := "shared"
			if reader != 0 {
				who = fmt.Sprint(reader)
			}
			list = append(list, fmt.Sprintf("%s %s %s", who, n.Name, n.Value))
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, ", ")
}

// With retention off a deleted message goes at once, and no record is written for it.
func TestNothingIsKept(t *testing.T) {
	w := newWorld(t)
	w.expunge(t, "INBOX", w.deliver(t, "INBOX", letter(1)))
	w.update(t, func(tx *Tx) error { _, err := tx.CreateMailbox(keptName, ""); return err })
	if list := w.deleted(t, DeletedQuery{}); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	w.deliver(t, keptName, letter(2))
	for _, family := range []byte{famOrigin, famLost, famDraft} {
		if n := w.family(t, family); n != 0 {
			t.Errorf("%d records of kind %c", n, family)
		}
	}
}

func (w *world) family(t testing.TB, family byte) (n int) {
	t.Helper()
	err := w.a.View(ctx, func(s *Snapshot) error {
		n = 0
		return s.r.Scan([]byte{family}, []byte{family + 1}, false, func(_, _ []byte) bool { n++; return true })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A mailbox that was deleted is made again, with its special use and its subscription, and
// what lay below it is where it was.
func TestDeletedMailboxComesBack(t *testing.T) {
	w := keepingWorld(t)
	w.deliver(t, "Sent", letter(1))
	w.deliver(t, "Sent", letter(2))
	sent := w.box(t, "Sent")
	w.update(t, func(tx *Tx) error {
		if _, err := tx.SetNotes(sent.ID, mail.SetOf(1), []NoteChange{{Name: "/comment", Value: []byte("x")}}, nil); err != nil {
			return err
		}
		_, err := tx.SetFlags(sent.ID, mail.SetOf(2), FlagChange{Flags: mail.Answered, Keywords: []string{"$Later"}})
		return err
	})
	usage := w.usage(t)
	w.update(t, func(tx *Tx) error { return tx.DeleteMailbox("Sent") })
	if u := w.usage(t); u != (Usage{}) {
		t.Errorf("%+v", u)
	}
	w.verify(t) // between the deletion and Reap
	if err := w.a.Reap(ctx); err != nil {
		t.Fatal(err)
	}
	w.verify(t)
	w.update(t, func(tx *Tx) error { return tx.Subscribe("Sent", false) })
	if back := w.undelete(t, DeletedQuery{Mailbox: "Sent", UIDs: mail.SetOf(2)}); len(back) != 1 {
		t.Fatalf("%+v", back)
	}
	b := w.box(t, "Sent")
	if b.Role != mail.RoleSent || b.ID == sent.ID || b.UIDValidity <= sent.UIDValidity || !slices.Contains(w.subscriptions(t), "Sent") {
		t.Errorf("%+v, subscribed %v", b, w.subscriptions(t))
	}
	if back := w.undelete(t, DeletedQuery{}); len(back) != 1 || back[0].Mailbox != "Sent" {
		t.Fatalf("%+v", back)
	}
	p := w.picture(t, b.ID)
	first, _ := p.Message(1)
	if first.Flags != mail.Answered || joined2(p.Keywords(first)) != "$Later" || p.Len() != 2 || w.usage(t) != usage {
		t.Errorf("%+v of %d, %+v", first, p.Len(), w.usage(t))
	}
	if got := w.notesOf(t, b.ID, 2); got != "shared /comment x" {
		t.Errorf("annotations: %s", got)
	}
	w.verify(t)
	w.days(t, 40)
	if n := w.family(t, famLost); n != 0 {
		t.Errorf("%d deleted mailboxes are remembered", n)
	}
}

// What still lies elsewhere is not kept; what was copied back out of what is kept and
// deleted again is kept once.
func TestLastInstanceIsKept(t *testing.T) {
	w := keepingWorld(t)
	uid := w.deliver(t, "INBOX", letter(1))
	inbox, trash := w.box(t, "INBOX").ID, w.box(t, "Trash").ID
	if _, err := w.a.Copy(ctx, inbox, mail.SetOf(uid), trash); err != nil {
		t.Fatal(err)
	}
	w.expunge(t, "INBOX", uid)
	if _, err := w.boxErr(keptName); !fault.Is(err, fault.NotFound) {
		t.Fatalf("a message that lies in Trash is kept: %v", err)
	}
	w.expunge(t, "Trash", 1)
	kept := w.box(t, keptName).ID
	if _, err := w.a.Copy(ctx, kept, mail.SetOf(1), inbox); err != nil {
		t.Fatal(err)
	}
	w.expunge(t, "INBOX", uid+1)
	if list := w.deleted(t, DeletedQuery{}); len(list) != 1 || list[0].Mailbox != "INBOX" || list[0].UID != uid+1 {
		t.Errorf("%+v", list)
	}
	w.verify(t)
	if _, err := w.a.Copy(ctx, kept, mail.SetOf(2), inbox); err != nil {
		t.Fatal(err)
	}
	if back := w.undelete(t, DeletedQuery{}); len(back) != 1 || back[0].Restored != uid+2 || w.picture(t, inbox).Len() != 1 {
		t.Errorf("%+v", back)
	}
	w.verify(t)
}

// An expunge where deleted mail is kept is final.
func TestExpungeOfDeletedIsFinal(t *testing.T) {
	w := keepingWorld(t)
	w.expunge(t, "INBOX", w.deliver(t, "INBOX", letter(1)))
	w.expunge(t, keptName, 1)
	if list := w.deleted(t, DeletedQuery{}); len(list) != 0 || w.family(t, famFacts) != 0 || w.family(t, famOrigin) != 0 {
		t.Errorf("%+v", list)
	}
	w.verify(t)
}

// Drafts that a client saves again and again leave one deleted version.
func TestDraftsAreKeptOnce(t *testing.T) {
	w := keepingWorld(t)
	draft := func(n, version int) string {
		return fmt.Sprintf("Message-ID: <draft%d@example.org>\r\nSubject: version %d\r\n\r\n%d\r\n", n, version, version)
	}
	for i := range 100 {
		for n := range 2 {
			w.expunge(t, "Drafts", w.deliver(t, "Drafts", draft(n, i)))
		}
	}
	list := w.deleted(t, DeletedQuery{})
	if len(list) != 2 || list[0].Subject != "version 99" || list[1].Subject != "version 99" {
		t.Errorf("%+v", list)
	}
	// A letter of the same Message-ID is no version of a draft.
	w.expunge(t, "INBOX", w.deliver(t, "INBOX", draft(0, 100)))
	if n := len(w.deleted(t, DeletedQuery{})); n != 3 {
		t.Errorf("%d are kept", n)
	}
	w.verify(t)
	w.expunge(t, keptName, slices.Collect(w.picture(t, w.box(t, keptName).ID).Existing(All()).All())...)
	w.sweep(t)
	if n := w.family(t, famDraft); n != 0 {
		t.Errorf("%d drafts are remembered", n)
	}
}

// What is in the way of nobody else's mail is refused.
func TestDeletedMailboxIsApart(t *testing.T) {
	w := keepingWorld(t)
	refused := func(what string, err error) {
		t.Helper()
		if !fault.Is(err, fault.Unsupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
	tried := func(what string, fn func(*Tx) error) { t.Helper(); refused(what, w.a.Update(ctx, fn)) }
	tried("create before", func(tx *Tx) error { _, err := tx.CreateMailbox(keptName, ""); return err })
	w.expunge(t, "INBOX", w.deliver(t, "INBOX", letter(1)))
	kept, inbox, parcel := w.box(t, keptName).ID, w.box(t, "INBOX").ID, w.receive(t, letter(2))
	uid := w.deliver(t, "INBOX", letter(3))
	tried("create", func(tx *Tx) error { _, err := tx.CreateMailbox(keptName, ""); return err })
	tried("create below", func(tx *Tx) error { _, err := tx.CreateMailbox(keptName+"/x", ""); return err })
	tried("rename", func(tx *Tx) error { return tx.RenameMailbox(keptName, "x") })
	tried("rename to", func(tx *Tx) error { return tx.RenameMailbox("Sent", keptName) })
	tried("rename below", func(tx *Tx) error { return tx.RenameMailbox("Sent", keptName+"/x") })
	tried("delete", func(tx *Tx) error { return tx.DeleteMailbox(keptName) })
	tried("role", func(tx *Tx) error { return tx.SetRole(kept, mail.RoleTrash) })
	tried("append", func(tx *Tx) error { _, err := tx.Append(kept, NewMessage{Parcel: parcel}); return err })
	tried("copy", func(tx *Tx) error { _, err := tx.Copy(inbox, mail.SetOf(uid), kept); return err })
	tried("move", func(tx *Tx) error { _, err := tx.Move(inbox, mail.SetOf(uid), kept); return err })
	tried("label", func(tx *Tx) error {
		_, err := tx.Label(inbox, mail.SetOf(uid), Labelling{Add: []mail.MailboxID{kept}})
		return err
	})
	refused("grant", w.a.Grant(ctx, kept, 0, false, func(mail.Rights) mail.Rights { return mail.AllRights }))
	w.verify(t)
}

// A mailbox of that name that was there before stays what it was.
func TestDeletedMailboxFindsAName(t *testing.T) {
	w := newWorld(t)
	w.update(t, func(tx *Tx) error { _, err := tx.CreateMailbox(keptName, ""); return err })
	w.restart(Keep{For: 24 * time.Hour})
	uid := w.deliver(t, keptName, letter(1))
	w.expunge(t, keptName, uid)
	if list := w.deleted(t, DeletedQuery{}); len(list) != 1 || list[0].Mailbox != keptName || w.box(t, keptName+" 2").Messages != 1 {
		t.Errorf("%+v", list)
	}
	w.verify(t)
}

// Quota: what is kept counts when it comes back by the user's hand, and the administrator's
// undelete is not asked.
func TestDeletedMailAndQuota(t *testing.T) {
	w := keepingWorld(t)
	w.update(t, func(tx *Tx) error { tx.SetQuota(Quota{Messages: 1}); return nil })
	w.expunge(t, "INBOX", w.deliver(t, "INBOX", letter(1)))
	w.deliver(t, "INBOX", letter(2))
	kept, inbox := w.box(t, keptName).ID, w.box(t, "INBOX").ID
	if _, err := w.a.Move(ctx, kept, All(), inbox); !fault.Is(err, fault.OverQuota) {
		t.Errorf("a move into a full account: %v", err)
	}
	if back := w.undelete(t, DeletedQuery{}); len(back) != 1 || w.usage(t).Messages != 2 {
		t.Errorf("%+v", back)
	}
	w.verify(t)
}

// The query's parts, each alone and together.
func TestDeletedQuery(t *testing.T) {
	w := keepingWorld(t)
	began := w.clock.t
	for i := range 4 {
		w.clock.t = began.Add(time.Duration(i) * time.Hour)
		w.expunge(t, "INBOX", w.deliver(t, "INBOX", letter(i)))
		w.expunge(t, "Sent", w.deliver(t, "Sent", letter(10+i)))
	}
	for _, c := range []struct {
		q    DeletedQuery
		want int
	}{
		{DeletedQuery{}, 8}, {DeletedQuery{Mailbox: "inbox"}, 4}, {DeletedQuery{Mailbox: "Trash"}, 0},
		{DeletedQuery{Since: began.Add(2 * time.Hour)}, 4}, {DeletedQuery{Subject: "LETTER 1"}, 5},
		{DeletedQuery{Mailbox: "INBOX", UIDs: mail.SetOf(2, 3, 99)}, 2},
		{DeletedQuery{Mailbox: "Sent", Subject: "13", Since: began.Add(3 * time.Hour)}, 1},
	} {
		if n := len(w.deleted(t, c.q)); n != c.want {
			t.Errorf("%+v finds %d, want %d", c.q, n, c.want)
		}
	}
}

// A guest who expunges in a shared mailbox puts the message where its owner finds it.
func TestGuestsDeletionIsTheOwners(t *testing.T) {
	w := keepingWorld(t)
	if err := w.CreateAccount(ctx, 2, Quota{}); err != nil {
		t.Fatal(err)
	}
	archive := w.box(t, "Archive").ID
	if err := w.a.Grant(ctx, archive, 2, false, func(mail.Rights) mail.Rights { return mail.AllRights &^ mail.RightAdminister }); err != nil {
		t.Fatal(err)
	}
	w.deliver(t, "Archive", letter(1))
	w.deliver(t, "Archive", letter(2))
	guest := w.a.As(2)
	if _, err := guest.SetNotes(ctx, archive, mail.SetOf(1), []NoteChange{{Name: "/x", Private: true, Value: []byte("guest's")}}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := guest.SetFlags(ctx, archive, mail.SetOf(1), FlagChange{Flags: mail.Seen}); err != nil {
		t.Fatal(err)
	}
	if _, err := guest.Expunge(ctx, archive, mail.SetOf(1), false); err != nil {
		t.Fatal(err)
	}
	// What a guest takes into an account of his own is deleted to the owner.
	other := w.Account(2)
	var theirs Mailbox
	if err := other.View(ctx, func(s *Snapshot) (err error) { theirs, err = s.Mailbox("INBOX"); return err }); err != nil {
		t.Fatal(err)
	}
	if _, err := guest.MoveTo(ctx, archive, mail.SetOf(2), other, theirs.ID); err != nil {
		t.Fatal(err)
	}
	if list := w.deleted(t, DeletedQuery{Mailbox: "Archive"}); len(list) != 2 {
		t.Errorf("%+v", list)
	}
	w.verify(t)
	w.undelete(t, DeletedQuery{})
	if got := w.notesOf(t, archive, 3); got != "2 /x guest's" {
		t.Errorf("annotations: %s", got)
	}
	w.verify(t)
}

// What is older than is kept goes, no more of it at once than an Update may take, and what a
// kill left is done by the next.
func TestPurge(t *testing.T) {
	w := keepingWorld(t)
	w.sweep(t) // the clock has been read
	parcel, inbox := w.receive(t, letter(1)), w.box(t, "INBOX").ID
	const first, second = 1200, 300
	put := func(n int) {
		w.update(t, func(tx *Tx) error {
			for range n {
				if _, err := tx.Append(inbox, NewMessage{Parcel: parcel}); err != nil {
					return err
				}
			}
			return nil
		})
		if _, err := w.a.Expunge(ctx, inbox, All(), false); err != nil {
			t.Fatal(err)
		}
	}
	put(first)
	w.days(t, 20)
	put(second)
	w.days(t, 9)
	if n := w.box(t, keptName).Messages; n != first+second {
		t.Fatalf("%d after 29 days", n)
	}
	w.clock.t = w.clock.t.Add(24 * time.Hour)
	before := w.box(t, keptName).HighestModSeq
	if n, err := w.Purge(ctx); err != nil || n != first {
		t.Errorf("%d purged, %v", n, err)
	}
	if n := w.box(t, keptName).HighestModSeq - before; n < first/reapMessages {
		t.Errorf("%d were purged in %d changes", first, n)
	}
	w.verify(t)
	w.days(t, 20)
	if _, err := w.boxErr(keptName); !fault.Is(err, fault.NotFound) || w.family(t, famFacts) != 0 {
		t.Errorf("after 50 days: %v", err)
	}
	w.verify(t)
}

// A clock that steps ahead deletes nothing that is not some days old already; set back, it does no harm.
func TestClockStepsAhead(t *testing.T) {
	w := keepingWorld(t)
	w.sweep(t)
	w.expunge(t, "INBOX", w.deliver(t, "INBOX", letter(1)))
	w.days(t, 5)
	right := w.clock.t
	w.clock.t = right.Add(365 * 24 * time.Hour)
	w.sweep(t)
	w.days(t, 7)
	if n := w.box(t, keptName).Messages; n != 1 {
		t.Fatal("a week after the clock went wrong all is gone")
	}
	w.clock.t = right.Add(7 * 24 * time.Hour)
	w.sweep(t)
	w.days(t, 10)
	if n := w.box(t, keptName).Messages; n != 1 {
		t.Fatal("a clock that was set right deletes")
	}
	w.days(t, 15)
	if _, err := w.boxErr(keptName); !fault.Is(err, fault.NotFound) {
		t.Errorf("it is kept for longer than it should: %v", err)
	}
	// Control: by the clock alone it would have gone at once.
	if due := right.Add(365 * 24 * time.Hour).Add(-w.opt.Keep.For); due.Before(right) {
		t.Error("the step is too small to show anything")
	}
}

func TestSteadyTime(t *testing.T) {
	const day = 24 * 3600
	month := 30 * 24 * time.Hour
	for _, c := range []struct {
		read, trusted, now, want int64
		keep                     time.Duration
	}{
		{1000, 1000, 1000 + day, 1000 + day, month},
		{1000, 1000, 1000 + 400*day, 1000 + 2*day + day/2, month},             // a step, or a long absence
		{1000, 1000 - 10*day, 1000 + day, 1000 - 10*day + day + day/4, month}, // behind, catching up
		{1000, 1000, 900, 900, month},                                         // set back
		{900, 1000, 950, 950, month},                                          // never ahead of the clock
		{1000, 1000, 1000 + day, 1000 + 900 + 900/4, time.Hour},               // an hour's mail: a quarter at a time
	} {
		if got := steady(min(c.now-c.read, int64(min(keptStep, c.keep/keptParts)/time.Second)), c.trusted, c.now); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// Turned off, what is kept goes with the next housekeeping, also what was on its way there.
func TestKeepingIsTurnedOff(t *testing.T) {
	w := keepingWorld(t)
	w.expunge(t, "INBOX", w.deliver(t, "INBOX", letter(1)))
	uid := w.deliver(t, "Sent", letter(2))
	if _, err := w.a.SetNotes(ctx, w.box(t, "Sent").ID, mail.SetOf(uid), []NoteChange{{Name: "/x", Value: []byte("x")}}, nil); err != nil {
		t.Fatal(err)
	}
	w.update(t, func(tx *Tx) error { return tx.DeleteMailbox("Sent") })
	w.restart(Keep{})
	w.verify(t)
	w.sweep(t)
	for _, family := range []byte{famFacts, famOrigin, famLost, famDraft, famNote, famDoomed} {
		if n := w.family(t, family); n != 0 {
			t.Errorf("%d records of kind %c", n, family)
		}
	}
	w.verify(t)
	if _, err := w.boxErr(keptName); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

// No more is kept than may be, and what goes first is the oldest.
func TestKeptIsBounded(t *testing.T) {
	w := keepingWorld(t)
	w.restart(Keep{For: time.Hour, Messages: 100})
	for i := range 300 {
		w.deliver(t, "INBOX", letter(i))
		if i%7 == 0 {
			w.expungeAll(t)
			if n := w.box(t, keptName).Messages; n > 100 {
				t.Fatalf("%d are kept", n)
			}
		}
	}
	w.expungeAll(t)
	list := w.deleted(t, DeletedQuery{})
	if n := len(list); n < 90 || list[n-1].Subject != "letter 299" || list[0].Subject != fmt.Sprintf("letter %d", 300-n) {
		t.Errorf("%d from %s to %s", n, list[0].Subject, list[n-1].Subject)
	}
	w.restart(Keep{For: time.Hour, Bytes: 1000})
	w.expunge(t, "INBOX", w.deliver(t, "INBOX", letter(300)))
	if b := w.box(t, keptName); b.Bytes > 1000 || b.Bytes < 800 {
		t.Errorf("%d bytes are kept", b.Bytes)
	}
	// By the deletion of mailboxes, too, and by changes of one message.
	for i := range 3 {
		w.update(t, func(tx *Tx) error { _, err := tx.CreateMailbox("Work", ""); return err })
		for n := range 20 {
			w.deliver(t, "Work", letter(400+100*i+n))
		}
		w.update(t, func(tx *Tx) error { return tx.DeleteMailbox("Work") })
		if err := w.a.Reap(ctx); err != nil {
			t.Fatal(err)
		}
		uid, inbox := w.deliver(t, "INBOX", letter(800+i)), w.box(t, "INBOX").ID
		w.update(t, func(tx *Tx) error { _, err := tx.Expunge(inbox, mail.SetOf(uid), false); return err })
		if b := w.box(t, keptName); b.Bytes > 1000 {
			t.Errorf("%d bytes are kept", b.Bytes)
		}
	}
	w.verify(t)
}

func (w *world) expungeAll(t testing.TB) {
	t.Helper()
	if _, err := w.a.Expunge(ctx, w.box(t, "INBOX").ID, All(), false); err != nil {
		t.Fatal(err)
	}
}

// keptModel is deleted mail as a child would keep it: what was deleted last of each message,
// and where it lay.
type keptModel struct {
	rng   *rand.Rand
	w     *world
	live  map[mail.MessageID]map[string]bool // mailboxes that hold a message
	kept  map[mail.MessageID]string          // where a deleted message lay
	flags map[mail.MessageID]mail.Flags
	boxes []string
	next  int
}

// TestKeepAgainstModel: random deliveries, copies, moves, deletions of messages and
// mailboxes, restorations, with retention on; what is kept is at any time what the model says,
// and nothing that was deleted is neither kept nor elsewhere.
func TestKeepAgainstModel(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			m := &keptModel{
				rng: rand.New(rand.NewPCG(seed, 25)), w: keepingWorld(t), live: map[mail.MessageID]map[string]bool{},
				kept: map[mail.MessageID]string{}, flags: map[mail.MessageID]mail.Flags{}, boxes: []string{"INBOX", "Archive", "Sent", "Work", "Work/old"},
			}
			for range 120 {
				m.step(t)
			}
			m.check(t)
		})
	}
}

func (m *keptModel) box(t *testing.T) (string, Mailbox) {
	name := m.boxes[m.rng.IntN(len(m.boxes))]
	b, err := m.w.boxErr(name)
	if fault.Is(err, fault.NotFound) {
		m.w.update(t, func(tx *Tx) (err error) { b, err = tx.CreateMailbox(name, ""); return err })
	}
	return name, b
}

func (m *keptModel) some(t *testing.T, b Mailbox) (set mail.UIDSet, ids []mail.MessageID) {
	for _, msg := range m.w.picture(t, b.ID).Messages(All()) {
		if m.rng.IntN(3) == 0 {
			set.Add(msg.UID)
			ids = append(ids, msg.ID)
		}
	}
	return set, ids
}

// instances counts the rows of a message in a mailbox.
func (m *keptModel) settle(t *testing.T, name string, id mail.MessageID) {
	if b, err := m.w.boxErr(name); err == nil && m.w.picture(t, b.ID).ofID(id).ID == id {
		m.live[id][name] = true
		return
	}
	if delete(m.live[id], name); len(m.live[id]) == 0 {
		m.kept[id] = name
	}
}

func (m *keptModel) step(t *testing.T) {
	name, b := m.box(t)
	switch m.rng.IntN(8) {
	case 0, 1, 2:
		for range m.rng.IntN(12) {
			m.next++
			uid := m.w.deliver(t, name, letter(m.next))
			flags := mail.Flags(m.rng.IntN(8)) // without Draft
			if _, err := m.w.a.SetFlags(ctx, b.ID, mail.SetOf(uid), FlagChange{Flags: flags}); err != nil {
				t.Fatal(err)
			}
			msg, _ := m.w.picture(t, b.ID).Message(uid)
			m.live[msg.ID], m.flags[msg.ID] = map[string]bool{name: true}, flags
		}
	case 3, 4:
		set, ids := m.some(t, b)
		if _, err := m.w.a.Expunge(ctx, b.ID, set, false); err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			m.settle(t, name, id)
		}
	case 5:
		to, dst := m.box(t)
		set, ids := m.some(t, b)
		verb := m.w.a.Copy
		if m.rng.IntN(2) == 0 {
			verb = m.w.a.Move
		}
		if _, err := verb(ctx, b.ID, set, dst.ID); err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			m.settle(t, to, id)
			m.settle(t, name, id)
		}
	case 6:
		if name == "INBOX" || m.rng.IntN(2) == 0 {
			return
		}
		if err := m.w.a.Reap(ctx); err != nil { // of two that are deleted at once either may count
			t.Fatal(err)
		}
		p := m.w.picture(t, b.ID)
		m.w.update(t, func(tx *Tx) error { return tx.DeleteMailbox(name) })
		for _, msg := range p.Messages(All()) {
			m.settle(t, name, msg.ID)
		}
		if m.rng.IntN(2) == 0 {
			m.w.verify(t)
		}
	default:
		m.check(t)
		q := DeletedQuery{}
		if m.rng.IntN(2) == 0 {
			q.Mailbox = name
		}
		for _, d := range m.w.undelete(t, q) {
			at := m.w.box(t, d.Mailbox)
			msg, _ := m.w.picture(t, at.ID).Message(d.Restored)
			if m.kept[msg.ID] != d.Mailbox || msg.Flags != m.flags[msg.ID] {
				t.Fatalf("given back: %+v, which lay in %s with %v", d, m.kept[msg.ID], m.flags[msg.ID])
			}
			delete(m.kept, msg.ID)
			m.live[msg.ID][d.Mailbox] = true
		}
		for id, at := range m.kept {
			if q.Mailbox == "" || at == q.Mailbox {
				t.Fatalf("message %d of %s was not given back", id, at)
			}
		}
	}
}

// check compares what is kept, and that each message is once somewhere.
func (m *keptModel) check(t *testing.T) {
	t.Helper()
	if err := m.w.a.Reap(ctx); err != nil {
		t.Fatal(err)
	}
	m.w.verify(t)
	if wrong := m.wrong(t); wrong != "" {
		t.Fatal(wrong)
	}
	for id, at := range m.live {
		for name := range at {
			if m.w.picture(t, m.w.box(t, name).ID).ofID(id).ID != id {
				t.Fatalf("message %d is not in %s", id, name)
			}
		}
	}
}

// wrong says how what is kept differs from the model.
func (m *keptModel) wrong(t *testing.T) string {
	t.Helper()
	found := map[mail.MessageID]bool{}
	if b, err := m.w.boxErr(keptName); err == nil {
		for _, msg := range m.w.picture(t, b.ID).Messages(All()) {
			found[msg.ID] = true
		}
	}
	for id, at := range m.kept {
		if !found[id] {
			return fmt.Sprintf("message %d, deleted from %s, is not kept", id, at)
		}
	}
	if len(found) != len(m.kept) {
		return fmt.Sprintf("%d are kept, want %d", len(found), len(m.kept))
	}
	return ""
}

// The control: the model sees a message that was deleted for good, and verify a message that does
// not know where it lay and one that is said to be kept and is not.
func TestKeepModelSeesALoss(t *testing.T) {
	w := keepingWorld(t)
	m := &keptModel{w: w, kept: map[mail.MessageID]string{}, live: map[mail.MessageID]map[string]bool{}}
	inbox := w.box(t, "INBOX").ID
	for i := range 2 {
		uid := w.deliver(t, "INBOX", letter(i))
		msg, _ := w.picture(t, inbox).Message(uid)
		if _, _, err := w.a.expunge(ctx, inbox, mail.SetOf(uid), false, i == 0); err != nil {
			t.Fatal(err)
		}
		m.live[msg.ID] = map[string]bool{}
		m.settle(t, "INBOX", msg.ID)
		if wrong := m.wrong(t); (wrong != "") != (i == 1) {
			t.Errorf("message %d: %q", i, wrong)
		}
	}
	problems := func() (n int) {
		if _, err := w.Verify(ctx, func(Problem) { n++ }, nil); err != nil {
			t.Fatal(err)
		}
		return n
	}
	var e enc
	e.U(uint64(inbox))
	e.U(1)
	for _, damage := range []func(*Tx) error{
		func(tx *Tx) error { return tx.w.Delete(keptKey(1)) },
		func(tx *Tx) error { return tx.w.Put(keptKey(1), seal(recOrigin, append(enc{99}, 1))) },
		func(tx *Tx) error { return tx.w.Put(keptKey(7), seal(recOrigin, e)) },
	} {
		if n := problems(); n != 0 {
			t.Fatalf("%d problems before the damage", n)
		}
		w.update(t, damage)
		if problems() == 0 {
			t.Error("verify does not see the damage")
		}
		w.update(t, func(tx *Tx) error {
			if err := tx.w.Delete(keptKey(7)); err != nil {
				return err
			}
			return tx.w.Put(keptKey(1), seal(recOrigin, e))
		})
	}
}

// The user's mailbox of that name was deleted before the one of deleted mail took its name. What
// comes back lies beside it, under a name of its own, and what lay below it, too.
func TestDeletedMailboxWhoseNameIsTaken(t *testing.T) {
	w := newWorld(t)
	below := keptName + Separator + "below"
	for _, name := range []string{keptName, below} {
		w.update(t, func(tx *Tx) error { _, err := tx.CreateMailbox(name, ""); return err })
		w.deliver(t, name, letter(1))
		w.deliver(t, name, letter(2))
	}
	w.restart(Keep{For: 30 * 24 * time.Hour})
	for _, name := range []string{below, keptName} {
		if _, err := w.a.DeleteMailbox(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.a.Reap(ctx); err != nil {
		t.Fatal(err)
	}
	if got := len(w.undelete(t, DeletedQuery{})); got != 4 {
		t.Errorf("%d messages came back", got)
	}
	seen := map[string]int{}
	err := w.a.View(ctx, func(s *Snapshot) error {
		list, err := s.Mailboxes()
		for _, m := range list {
			seen[m.Name]++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{keptName, keptName + " 2", keptName + " 2" + Separator + "below"} {
		if seen[name] != 1 {
			t.Errorf("%d mailboxes are called %s", seen[name], name)
		}
	}
	for _, name := range []string{keptName + " 2", keptName + " 2" + Separator + "below"} {
		if n := w.box(t, name).Messages; n != 2 {
			t.Errorf("%s has %d messages", name, n)
		}
	}
	w.verify(t)
}

// TestPurgeBesideDamage: an account that is damaged keeps nobody else's deleted mail.
func TestPurgeBesideDamage(t *testing.T) {
	w := keepingWorld(t)
	if err := w.CreateAccount(ctx, 2, Quota{}); err != nil {
		t.Fatal(err)
	}
	hurt := w.a
	w.a = w.Account(2)
	w.deliver(t, "INBOX", letter(1))
	w.expunge(t, "INBOX", 1)
	w.days(t, 29)
	if err := w.eng.Update(ctx, hurt.shard, func(wr engine.Writer) error { return wr.Put([]byte{famAccount}, []byte("damaged")) }); err != nil {
		t.Fatal(err)
	}
	w.clock.t = w.clock.t.Add(2 * 24 * time.Hour)
	if n, err := w.Purge(ctx); n != 1 || !fault.Is(err, fault.Corrupt) {
		t.Errorf("%d purged, %v", n, err)
	}
}
