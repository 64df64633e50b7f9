package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// guestModel is two mailboxes of account 1 as a child would keep them, for its owner and
// the guests 2 and 3, and the mailbox of account 2 that messages are copied to.
type guestModel struct {
	w     *world
	boxes []*guestBox
	held  map[string]*Picture
}

type guestBox struct {
	owner mail.AccountID
	id    mail.MailboxID
	next  mail.UID
	rows  map[mail.UID]guestRow
}

type guestRow struct {
	flags mail.Flags // without \Seen
	seen  map[mail.AccountID]bool
}

var guestUsers = []mail.AccountID{1, 2, 3}

func newGuestModel(t *rapid.T) *guestModel {
	m := &guestModel{w: newWorld(rapidT{t}), held: map[string]*Picture{}}
	for _, id := range guestUsers[1:] {
		if err := m.w.CreateAccount(ctx, id, Quota{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range []struct {
		owner mail.AccountID
		name  string
	}{{1, "INBOX"}, {1, "Archive"}, {2, "INBOX"}} {
		box := &guestBox{owner: b.owner, next: 1, rows: map[mail.UID]guestRow{}}
		acct := m.w.Account(b.owner)
		err := acct.View(ctx, func(s *Snapshot) error {
			found, err := s.Mailbox(b.name)
			box.id = found.ID
			return err
		})
		if err == nil {
			err = acct.Grant(ctx, box.id, 0, false, func(mail.Rights) mail.Rights { return mail.AllRights })
		}
		if err != nil {
			t.Fatal(err)
		}
		m.boxes = append(m.boxes, box)
	}
	return m
}

// as returns the account of a mailbox as a user meets it.
func (m *guestModel) as(b *guestBox, user mail.AccountID) *Account {
	return m.w.Account(b.owner).As(user)
}

func (m *guestModel) pick(t *rapid.T) (*guestBox, mail.AccountID) {
	return rapid.SampledFrom(m.boxes).Draw(t, "mailbox"), rapid.SampledFrom(guestUsers).Draw(t, "user")
}

func (b *guestBox) set(t *rapid.T) mail.UIDSet {
	from := mail.UID(rapid.IntRange(1, int(b.next)).Draw(t, "from"))
	return mail.UIDSet{{From: from, To: from + mail.UID(rapid.IntRange(0, 70).Draw(t, "len"))}}
}

// in returns the UIDs of a set that have a message, in order.
func (b *guestBox) in(set mail.UIDSet) []mail.UID {
	var list []mail.UID
	for uid := range b.rows {
		if set.Contains(uid) {
			list = append(list, uid)
		}
	}
	slices.Sort(list)
	return list
}

func (m *guestModel) append(t *rapid.T) {
	b, user := m.pick(t)
	n := rapid.IntRange(1, 60).Draw(t, "n")
	flags := flagsGen.Draw(t, "flags")
	p, err := m.w.Receive(ctx, strings.NewReader(fmt.Sprintf("Message-ID: <%d@x>\r\n\r\ntext %d", n, n)))
	if err != nil {
		t.Fatal(err)
	}
	err = m.as(b, user).Update(ctx, func(tx *Tx) error {
		for range n {
			if _, err := tx.Append(b.id, NewMessage{Parcel: p, Flags: flags}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		b.rows[b.next] = guestRow{flags &^ mail.Seen, map[mail.AccountID]bool{user: flags.Has(mail.Seen)}}
		b.next++
	}
}

func (m *guestModel) flags(t *rapid.T) {
	b, user := m.pick(t)
	set := b.set(t)
	c := FlagChange{Op: FlagOp(rapid.IntRange(0, 2).Draw(t, "op")), Flags: flagsGen.Draw(t, "flags")}
	if _, err := m.as(b, user).SetFlags(ctx, b.id, set, c); err != nil {
		t.Fatal(err)
	}
	for _, uid := range b.in(set) {
		row := b.rows[uid]
		had := row.flags
		if row.seen[user] {
			had |= mail.Seen
		}
		now, _ := c.apply(Message{Flags: had}, "")
		row.flags, row.seen[user] = now&^mail.Seen, now.Has(mail.Seen)
		b.rows[uid] = row
	}
}

func (m *guestModel) expunge(t *rapid.T) {
	b, user := m.pick(t)
	set := b.set(t)
	if _, err := m.as(b, user).Expunge(ctx, b.id, set, false); err != nil {
		t.Fatal(err)
	}
	for _, uid := range b.in(set) {
		delete(b.rows, uid)
	}
}

// transfer copies or moves. In one account the owner's \Seen goes along with a copy, and
// that of whoever makes it, and with a move everybody's; into another account, that of
// whoever does it alone.
func (m *guestModel) transfer(t *rapid.T) {
	b, user := m.pick(t)
	to := rapid.SampledFrom(m.boxes).Draw(t, "to")
	set := b.set(t)
	from, target := m.as(b, user), m.as(to, user)
	verb := from.CopyTo
	move := rapid.Bool().Draw(t, "move")
	if move {
		verb = from.MoveTo
	}
	moved, err := verb(ctx, b.id, set, target, to.id)
	if err != nil {
		t.Fatal(err)
	}
	uids := b.in(set)
	if len(moved) != len(uids) {
		t.Fatalf("%d messages copied, of %d", len(moved), len(uids))
	}
	for i, uid := range uids {
		if moved[i] != (Moved{uid, to.next}) {
			t.Fatalf("%d went to %d, want %d to %d", moved[i].From, moved[i].To, uid, to.next)
		}
		row := b.rows[uid]
		copied := guestRow{row.flags, map[mail.AccountID]bool{user: row.seen[user]}}
		switch {
		case b.owner == to.owner && move:
			copied.seen = row.seen
		case b.owner == to.owner:
			copied.seen[b.owner] = row.seen[b.owner]
		}
		if move {
			delete(b.rows, uid)
		}
		to.rows[to.next] = copied
		to.next++
	}
}

// check compares what everybody sees with the model, and every picture held from before
// with the present one.
func (m *guestModel) check(t *rapid.T) {
	for i, b := range m.boxes {
		for _, user := range guestUsers {
			a := m.as(b, user)
			pic, err := a.Picture(ctx, b.id)
			if err != nil {
				t.Fatal(err)
			}
			if pic.Len() != len(b.rows) {
				t.Fatalf("mailbox %d has %d messages for %d, want %d", i, pic.Len(), user, len(b.rows))
			}
			unseen := 0
			for _, msg := range pic.Messages(All()) {
				row := b.rows[msg.UID]
				want := row.flags
				if row.seen[user] {
					want |= mail.Seen
				} else {
					unseen++
				}
				if msg.Flags != want {
					t.Fatalf("mailbox %d: %d has (%s) for user %d, want (%s)", i, msg.UID, msg.Flags, user, want)
				}
			}
			m.counts(t, a, b, pic, unseen)
			m.follow(t, fmt.Sprint(i, user), pic)
		}
	}
}

func (m *guestModel) counts(t *rapid.T, a *Account, b *guestBox, pic *Picture, unseen int) {
	err := a.View(ctx, func(s *Snapshot) error {
		box, err := s.MailboxByID(b.id)
		if err != nil {
			return err
		}
		if shown := pic.Mailbox(); int(box.Unseen) != unseen || int(shown.Unseen) != unseen {
			t.Fatalf("user %d: the record counts %d unseen, the picture %d, there are %d", a.as, box.Unseen, shown.Unseen, unseen)
		}
		for uid := range b.rows {
			got, err := s.Message(b.id, uid)
			if want, _ := pic.Message(uid); err != nil || got != want {
				t.Fatalf("message %d is %v %v alone and %v in the picture", uid, got, err, want)
			}
			break
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// follow checks that whatever differs between two pictures of a user is in their Diff.
func (m *guestModel) follow(t *rapid.T, key string, now *Picture) {
	if old := m.held[key]; old != nil {
		d := Diff(old, now)
		for _, msg := range now.Messages(All()) {
			was, there := old.Message(msg.UID)
			if there && was.Flags != msg.Flags && (!d.Changed.Contains(msg.UID) || was.ModSeq >= msg.ModSeq) {
				t.Fatalf("%s: the change of %d from (%s) to (%s) is not told", key, msg.UID, was.Flags, msg.Flags)
			}
		}
	}
	m.held[key] = now
}

// TestGuestsAgainstModel: whatever an owner and two guests do to mailboxes they share,
// each sees the flags of all and what that user has seen; and the store finds nothing
// wrong with its records.
func TestGuestsAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newGuestModel(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"append": m.append, "flags": m.flags, "flags2": m.flags, "flags3": m.flags,
			"expunge": m.expunge, "transfer": m.transfer, "": m.check,
		})
		m.w.verify(rt)
	})
}

// What a guest has seen of a mailbox of many chunks, with a guest who has seen all, and
// a mailbox that is deleted.
func TestGuestsOfManyMessages(t *testing.T) {
	w := newWorld(t)
	for _, id := range guestUsers[1:] {
		if err := w.CreateAccount(ctx, id, Quota{}); err != nil {
			t.Fatal(err)
		}
	}
	box := w.box(t, "Archive").ID
	all := func(mail.Rights) mail.Rights { return mail.AllRights }
	if err := w.a.Grant(ctx, box, 0, false, all); err != nil {
		t.Fatal(err)
	}
	const n = 3 * chunkPages * pageSize
	p := w.receive(t, hello)
	w.update(t, func(tx *Tx) error {
		for range n {
			if _, err := tx.Append(box, NewMessage{Parcel: p}); err != nil {
				return err
			}
		}
		return nil
	})
	two, three := w.a.As(2), w.a.As(3)
	unseen := func(a *Account) uint32 {
		pic, err := a.Picture(ctx, box)
		if err != nil {
			t.Fatal(err)
		}
		return pic.Mailbox().Unseen
	}
	seen := FlagChange{Flags: mail.Seen}
	if _, err := two.SetFlags(ctx, box, All(), seen); err != nil {
		t.Fatal(err)
	}
	some := mail.SetOf(1, 64, 4095, 4096, 4097, n)
	if _, err := three.SetFlags(ctx, box, some, seen); err != nil {
		t.Fatal(err)
	}
	if unseen(two) != 0 || unseen(three) != n-6 || unseen(w.a) != n {
		t.Fatal(unseen(two), unseen(three), unseen(w.a))
	}
	if _, err := w.a.Expunge(ctx, box, mail.UIDSet{{From: 4096, To: n}}, false); err != nil {
		t.Fatal(err)
	}
	if unseen(two) != 0 || unseen(three) != 4095-3 {
		t.Fatal(unseen(two), unseen(three))
	}
	w.verify(t)
	if _, err := w.a.DeleteMailbox(ctx, "Archive"); err != nil {
		t.Fatal(err)
	}
	w.verify(t)
}

func TestRights(t *testing.T) {
	r := func(letters string) mail.Rights {
		rights, _ := mail.ParseRights(letters)
		return rights
	}
	const owner, bob, carol = 1, 2, 3
	for i, c := range []struct {
		grants            []Grant
		owner, bob, carol string
	}{
		{nil, "lrswipkxtea", "", ""},
		{[]Grant{{bob, false, r("lr")}}, "lrswipkxtea", "lr", ""},
		{[]Grant{{bob, false, r("lr")}, {0, false, r("s")}}, "lrswipkxtea", "lrs", "s"},
		{[]Grant{{0, false, r("lrs")}, {bob, true, r("r")}}, "lrswipkxtea", "ls", "lrs"},
		{[]Grant{{bob, false, r("lrs")}, {carol, false, r("lr")}, {0, true, r("rx")}}, "lswipktea", "ls", "l"},
		{[]Grant{{owner, false, r("r")}}, "lra", "", ""},
		{[]Grant{{owner, false, 0}, {0, false, r("w")}}, "lwa", "w", "w"},
		{[]Grant{{owner, true, mail.AllRights}}, "la", "", ""},
	} {
		m := Mailbox{Grants: c.grants}
		for who, want := range map[mail.AccountID]string{owner: c.owner, bob: c.bob, carol: c.carol} {
			a := (&Account{accountState: &accountState{id: owner}}).As(who)
			if got := a.Rights(&m); got != r(want) {
				t.Errorf("%d: user %d has %s, want %s", i, who, got, r(want))
			}
		}
	}
}

// Verbs need the rights of RFC 4314, 4 of the user they are done for, and the system,
// which is nobody, needs none.
func TestVerbsNeedRights(t *testing.T) {
	for verb, c := range map[string]struct {
		need string
		do   func(a *Account, box mail.MailboxID) error
	}{
		"append": {"i", func(a *Account, box mail.MailboxID) error {
			p, err := a.store.Receive(ctx, strings.NewReader(hello))
			if err != nil {
				return err
			}
			return a.Update(ctx, func(tx *Tx) error { _, err := tx.Append(box, NewMessage{Parcel: p}); return err })
		}},
		"expunge": {"e", func(a *Account, box mail.MailboxID) error {
			_, err := a.Expunge(ctx, box, All(), true)
			if err == nil {
				err = a.Update(ctx, func(tx *Tx) error { _, err := tx.Expunge(box, All(), true); return err })
			}
			return err
		}},
		"seen": {"s", flagsVerb(mail.Seen)}, "deleted": {"t", flagsVerb(mail.Deleted)}, "flagged": {"w", flagsVerb(mail.Flagged)},
		"copy": {"r", func(a *Account, box mail.MailboxID) error {
			return a.Update(ctx, func(tx *Tx) error { _, err := tx.Copy(box, All(), box); return err })
		}},
		"delete": {"x", func(a *Account, _ mail.MailboxID) error {
			_, err := a.DeleteMailbox(ctx, "Shared")
			return err
		}},
		"rename": {"xk", func(a *Account, _ mail.MailboxID) error {
			return a.Update(ctx, func(tx *Tx) error { return tx.RenameMailbox("Shared/below", "Shared/above") })
		}},
		"create": {"k", func(a *Account, _ mail.MailboxID) error {
			return a.Update(ctx, func(tx *Tx) error { _, err := tx.CreateMailbox("Shared/new", ""); return err })
		}},
		"grant": {"a", func(a *Account, box mail.MailboxID) error {
			return a.Grant(ctx, box, 0, false, func(mail.Rights) mail.Rights { return 0 })
		}},
		"revoke": {"a", func(a *Account, box mail.MailboxID) error { return a.Revoke(ctx, box, 3, false) }},
	} {
		need, _ := mail.ParseRights(c.need)
		if verb == "copy" {
			need |= mail.RightInsert
		}
		for _, have := range []mail.Rights{mail.RightLookup, mail.AllRights &^ need, need | mail.RightLookup, 0} {
			w := newWorld(t)
			if err := w.CreateAccount(ctx, 2, Quota{}); err != nil {
				t.Fatal(err)
			}
			var box Mailbox
			w.update(t, func(tx *Tx) (err error) {
				if box, err = tx.CreateMailbox("Shared", ""); err != nil {
					return err
				}
				_, err = tx.CreateMailbox("Shared/below", "")
				return err
			})
			p := w.receive(t, hello)
			w.update(t, func(tx *Tx) error { _, err := tx.Append(box.ID, NewMessage{Parcel: p}); return err })
			for _, name := range []string{"Shared", "Shared/below"} {
				if err := w.a.Grant(ctx, w.box(t, name).ID, 2, false, func(mail.Rights) mail.Rights { return have }); err != nil {
					t.Fatal(err)
				}
			}
			err := c.do(w.a.As(2), box.ID)
			switch may := have.Has(need); {
			case may && err != nil:
				t.Errorf("%s with %s: %v", verb, have, err)
			case !may && !fault.Is(err, fault.Denied) && !fault.Is(err, fault.NotFound):
				t.Errorf("%s with %s: %v", verb, have, err)
			case !may:
				if err := c.do(w.a, box.ID); err != nil {
					t.Errorf("%s by the system: %v", verb, err)
				}
			}
		}
	}
}

func flagsVerb(f mail.Flags) func(*Account, mail.MailboxID) error {
	return func(a *Account, box mail.MailboxID) error {
		_, err := a.SetFlags(ctx, box, mail.SetOf(1), FlagChange{Flags: f})
		return err
	}
}
