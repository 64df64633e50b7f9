package move

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// unsteady is a target whose calls fail, before they have done something or after.
type unsteady struct {
	Target
	fail func() (before, after bool)
}

var errKilled = errors.New("killed")

func (u *unsteady) call(fn func() error) error {
	before, after := u.fail()
	if before {
		return errKilled
	}
	if err := fn(); err != nil || !after {
		return err
	}
	return fault.Wrap(fault.Unknown, "nobody knows", errKilled)
}

func (u *unsteady) Open(ctx context.Context, source string, m Mailbox) (at Place, kept bool, err error) {
	err = u.call(func() (err error) { at, kept, err = u.Target.Open(ctx, source, m); return err })
	return at, kept, err
}

func (u *unsteady) Ties(ctx context.Context, box Box, keys []string) (list []*Tie, err error) {
	err = u.call(func() (err error) { list, err = u.Target.Ties(ctx, box, keys); return err })
	return list, err
}

func (u *unsteady) Put(ctx context.Context, box Box, at mail.MailboxID, list []Incoming) (out []Outcome, err error) {
	err = u.call(func() (err error) { out, err = u.Target.Put(ctx, box, at, list); return err })
	return out, err
}

func (u *unsteady) Change(ctx context.Context, box Box, list []Change) error {
	return u.call(func() error { return u.Target.Change(ctx, box, list) })
}

func (u *unsteady) SetState(ctx context.Context, box Box, state []byte) error {
	return u.call(func() error { return u.Target.SetState(ctx, box, state) })
}

// moving is what a rapid test knows of a source and an account.
type moving struct {
	w    *world
	s    *memory
	next int
	uids [3]mail.UID     // that each mailbox of the source gave last
	gone map[string]bool // keys that were expunged here
	mine int             // messages that were delivered here
}

// Whatever fails, and whatever happens meanwhile on both sides: in the end all is here once
// that is there, but for what was deleted here, and UIDs are those of the source.
func TestImportIsAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &moving{w: newWorldFor(t), s: newMemory(0), gone: map[string]bool{}}
		defer m.w.closeAll()
		for i := range m.s.boxes {
			m.arrive(t, i)
		}
		t.Repeat(map[string]func(*rapid.T){
			"arrive":  func(t *rapid.T) { m.arrive(t, rapid.IntRange(0, 2).Draw(t, "mailbox")) },
			"mark":    m.mark,
			"leave":   m.leave,
			"expunge": m.expunge,
			"deliver": m.deliver,
			"import":  m.interrupted,
			"":        func(*rapid.T) {},
		})
		m.whole(t)
	})
}

func (m *moving) options() Options {
	o := m.w.options(m.s)
	o.FollowFlags = true
	return o
}

// arrive has mail come at the source.
func (m *moving) arrive(t *rapid.T, box int) {
	for range rapid.IntRange(1, 30).Draw(t, "messages") {
		m.next++
		b := &m.s.boxes[box]
		if b.UIDValidity != 0 {
			m.uids[box] += mail.UID(rapid.IntRange(1, 3).Draw(t, "gap"))
		}
		b.add(letter(m.next), Item{Key: fmt.Sprint(m.next), UID: m.uids[box], Date: time.Unix(int64(m.next), 0)})
	}
}

// mark changes flags at the source.
func (m *moving) mark(t *rapid.T) {
	b := &m.s.boxes[rapid.IntRange(0, 2).Draw(t, "mailbox")]
	if len(b.mail) > 0 {
		b.mail[rapid.IntRange(0, len(b.mail)-1).Draw(t, "message")].Flags = mail.Flags(rapid.IntRange(0, 31).Draw(t, "flags"))
	}
}

// leave has messages go at the source: here they stay.
func (m *moving) leave(t *rapid.T) {
	b := &m.s.boxes[rapid.IntRange(0, 2).Draw(t, "mailbox")]
	if len(b.mail) > 0 {
		i := rapid.IntRange(0, len(b.mail)-1).Draw(t, "message")
		b.mail = slices.Delete(b.mail, i, i+1)
	}
}

// expunge deletes messages here: they do not come again.
func (m *moving) expunge(t *rapid.T) {
	i := rapid.IntRange(0, 2).Draw(t, "mailbox")
	var ties []Tie
	if err := m.w.EachTie(ctx, Box{"memory", m.s.boxes[i].Source}, func(tie Tie, now *Now) error {
		if now != nil {
			ties = append(ties, tie)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(ties) == 0 {
		return
	}
	tie := ties[rapid.IntRange(0, len(ties)-1).Draw(t, "tie")]
	if _, err := m.w.Store.Account(1).Expunge(ctx, tie.Mailbox, mail.SetOf(tie.UID), false); err != nil {
		t.Fatal(err)
	}
	m.gone[tie.Key] = true
}

// deliver has other mail come here, into a mailbox that keeps no UIDs: with one that does, see
// TestUIDsAreKept of the store.
func (m *moving) deliver(t *rapid.T) {
	p, err := m.w.Receive(ctx, bytesOf(letter(1_000_000+m.mine)))
	if err != nil {
		t.Fatal(err)
	}
	err = m.w.Store.Account(1).Update(ctx, func(tx *store.Tx) error {
		box, err := tx.Mailbox("Sent")
		if err == nil {
			_, err = tx.Append(box.ID, store.NewMessage{Parcel: p})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	m.mine++
}

// interrupted imports until something fails, at the source or here.
func (m *moving) interrupted(t *rapid.T) {
	m.s.cut = rapid.IntRange(0, 20).Draw(t, "cut")
	left := rapid.IntRange(0, 12).Draw(t, "calls until one fails")
	after := rapid.Bool().Draw(t, "afterwards")
	o := m.options()
	o.Target = &unsteady{o.Target, func() (bool, bool) {
		left--
		return left == 0 && !after, left == 0 && after
	}}
	o.Choice.Order = rapid.SampledFrom([]string{"auto", "newest"}).Draw(t, "order")
	if _, err := Import(ctx, o); err != nil && !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	m.s.cut = 0
}

// whole imports to the end and compares both sides.
func (m *moving) whole(t *rapid.T) {
	o := m.options()
	r, err := Import(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := Prove(ctx, o.Target, r, func(d Difference) { t.Errorf("%+v", d) }, func(p Proof) {
		if !p.Whole() {
			t.Errorf("%+v", p)
		}
	}); err != nil {
		t.Fatal(err)
	}
	for i := range m.s.boxes {
		m.same(t, &m.s.boxes[i], r.Mailboxes[i].Kept)
	}
	if _, err := m.w.Verify(ctx, func(p store.Problem) { t.Errorf("verify: %+v", p) }, nil); err != nil {
		t.Error(err)
	}
}

// same compares a mailbox of the source with what of it is here.
func (m *moving) same(t *rapid.T, b *memoryBox, kept bool) {
	here, ties := map[mail.MessageID]string{}, map[string]Looked{}
	var name string
	if err := m.w.EachTie(ctx, Box{"memory", b.Source}, func(tie Tie, now *Now) error {
		if ties[tie.Key] = (Looked{&tie, now}); now == nil {
			return nil
		}
		if other := here[tie.Message]; other != "" {
			t.Errorf("%s and %s are one message", tie.Key, other)
		}
		here[tie.Message], name = tie.Key, now.Mailbox
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, at := range b.mail {
		l, ok := ties[at.Key]
		switch {
		case !ok || (l.Now == nil) != m.gone[at.Key]:
			t.Errorf("message %s: brought %v, here %v, deleted here %v", at.Key, ok, l.Now != nil, m.gone[at.Key])
		case l.Now == nil:
		case l.Now.Flags != at.Flags || !l.Now.Date.Equal(at.Date) || l.Tie.Content != contentOfText(at.text):
			t.Errorf("message %s is %+v here", at.Key, l.Now)
		case kept && l.Now.UID != at.UID:
			t.Errorf("message %s has UID %d here and %d there", at.Key, l.Now.UID, at.UID)
		}
	}
	list, err := m.w.Mailboxes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		want := len(here)
		if p.Name == "Sent" {
			want += m.mine
		}
		if p.Name == name && int(p.Messages) != want {
			t.Errorf("%s has %d messages, and %d ought to be there", p.Name, p.Messages, want)
		}
	}
}
