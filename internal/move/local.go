package move

import (
	"cmp"
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// Local is an account of a store in this process.
type Local struct {
	store   *store.Store
	account *store.Account
}

var _ Target = (*Local)(nil)

// NewLocal returns an account, which must exist when its methods are called. Nobody's rights
// are asked: it is for the account's owner, or who administers it.
func NewLocal(s *store.Store, id mail.AccountID) *Local {
	return &Local{store: s, account: s.Account(id)}
}

func tied(box Box) store.TiedBox { return store.TiedBox{Source: box.Source, Mailbox: box.Mailbox} }

func placeOf(m *store.Mailbox) Place {
	return Place{ID: m.ID, Name: m.Name, Role: m.Role, UIDValidity: m.UIDValidity, UIDNext: m.UIDNext, Messages: m.Messages, Bytes: m.Bytes}
}

// MaxMessage returns how many bytes a message may have.
func (l *Local) MaxMessage(context.Context) (int64, error) { return l.store.MaxMessage(), nil }

// Mailboxes lists the account's mailboxes, but that of deleted mail.
func (l *Local) Mailboxes(ctx context.Context) (list []Place, err error) {
	err = l.account.View(ctx, func(s *store.Snapshot) error {
		list = nil
		boxes, err := s.Mailboxes()
		for i := range boxes {
			if s.Accepts(boxes[i].ID) == nil {
				list = append(list, placeOf(&boxes[i]))
			}
		}
		return err
	})
	return list, err
}

// Open finds or makes the mailbox that one of a source goes into. It stays the same as long
// as it is there, whatever it is called meanwhile.
func (l *Local) Open(ctx context.Context, source string, m Mailbox) (at Place, kept bool, err error) {
	err = l.account.Update(ctx, func(tx *store.Tx) error {
		tie, err := tx.TiedBox(source, m.Source)
		if err != nil {
			return err
		}
		box, err := openBox(tx, tie.At, &m)
		if err != nil {
			return err
		}
		switch {
		case m.Exact && tie.At == 0: // later it is as its owner has it
			err = subscribeExactly(tx, &box, &m)
		case m.Subscribed:
			err = subscribe(tx, box.Name)
		}
		if err != nil {
			return err
		}
		if kept, err = keepsUIDs(tx, &tie, &box, m.UIDValidity); err != nil {
			return err
		}
		if tie.At != box.ID || kept && tie.Validity != m.UIDValidity {
			tie.At, tie.Validity = box.ID, 0
			if kept {
				tie.Validity = m.UIDValidity
			}
			if err := tx.PutTiedBox(tie); err != nil {
				return err
			}
		}
		box, err = tx.MailboxByID(box.ID)
		at = placeOf(&box)
		return err
	})
	return at, kept, err
}

// openBox returns the mailbox that had been found before, or has the role, or the name.
func openBox(tx *store.Tx, before mail.MailboxID, m *Mailbox) (store.Mailbox, error) {
	if before != 0 {
		box, err := tx.MailboxByID(before)
		if err == nil || !fault.Is(err, fault.NotFound) {
			return box, err
		}
	}
	if m.Exact {
		return exactBox(tx, m)
	}
	role := m.Role
	switch role {
	case mail.RoleAll, mail.RoleFlagged, mail.RoleImportant: // of mailboxes that are views of others
		role = ""
	case mail.RoleInbox:
		return tx.Mailbox("INBOX")
	}
	if role != "" {
		boxes, err := tx.Mailboxes()
		if err != nil {
			return store.Mailbox{}, err
		}
		for _, box := range boxes {
			if box.Role == role && tx.Accepts(box.ID) == nil {
				return box, nil
			}
		}
	}
	return boxNamed(tx, m.Name, role)
}

// boxNamed finds or makes the mailbox of a name.
func boxNamed(tx *store.Tx, name string, role mail.Role) (store.Mailbox, error) {
	name = NameHere(name)
	box, err := tx.Mailbox(name)
	if err == nil {
		if err = tx.Accepts(box.ID); err == nil {
			return box, nil
		}
		name += " 2" // that of deleted mail has this name
		box, err = tx.Mailbox(name)
	}
	if fault.Is(err, fault.NotFound) {
		box, err = tx.CreateMailbox(name, role)
	}
	return box, err
}

func subscribe(tx *store.Tx, name string) error {
	on, err := tx.Subscribed(name)
	if err == nil && !on {
		err = tx.Subscribe(name, true)
	}
	return err
}

// keepsUIDs tells whether a mailbox keeps the UIDs of the source's, having taken over the
// UIDVALIDITY now if it can.
func keepsUIDs(tx *store.Tx, tie *store.TiedBox, box *store.Mailbox, validity uint32) (bool, error) {
	switch {
	case validity == 0:
		return false, nil
	case tie.At == box.ID && tie.Validity == validity:
		return box.UIDValidity == validity, nil
	case box.UIDNext != 1:
		return false, nil
	}
	others, err := tx.TiedBoxes()
	if err != nil {
		return false, err
	}
	for _, o := range others {
		if o.At == box.ID && o.Validity != 0 && (o.Source != tie.Source || o.Mailbox != tie.Mailbox) {
			return false, nil // it has no message yet, and keeps the UIDs of another
		}
	}
	return tx.TakeValidity(box.ID, validity)
}

// Ties returns the ties of keys.
func (l *Local) Ties(ctx context.Context, box Box, keys []string) (list []*Tie, err error) {
	err = l.account.View(ctx, func(s *store.Snapshot) error {
		list = make([]*Tie, len(keys))
		b := tied(box)
		for i, key := range keys {
			t, ok, err := s.Tie(b, key)
			if err != nil {
				return err
			}
			if ok {
				list[i] = tieOf(&t)
			}
		}
		return nil
	})
	return list, err
}

func tieOf(t *store.Tie) *Tie {
	tie := &Tie{
		Key: t.Key, Message: t.Message, Mailbox: t.Mailbox, UID: t.UID, Flags: t.Flags, Keywords: t.Keywords,
		Size: t.Size, Content: t.Content, Stored: t.Stored, Changed: t.Changed,
	}
	if t.Date != 0 {
		tie.Date = mail.BoundDate(time.Unix(t.Date, 0)) // earlier versions kept any
	}
	return tie
}

// tiesAtOnce is how many ties one View reads, with what they lead to.
const tiesAtOnce = 500

// EachTie goes through the ties of a mailbox of a source.
func (l *Local) EachTie(ctx context.Context, box Box, fn func(t Tie, now *Now) error) error {
	for behind := ""; ; {
		list, err := l.TiesBehind(ctx, box, behind)
		if err != nil || len(list) == 0 {
			return err
		}
		for i := range list {
			if err := fn(*list[i].Tie, list[i].Now); err != nil {
				return err
			}
		}
		behind = list[len(list)-1].Tie.Key
	}
}

// TiesBehind returns the next few hundred ties that EachTie tells of behind a key; none at the
// end.
func (l *Local) TiesBehind(ctx context.Context, box Box, behind string) ([]Looked, error) {
	found, err := l.someTies(ctx, box, behind)
	if err == nil {
		err = l.prove(ctx, found)
	}
	list := make([]Looked, len(found))
	for i := range found {
		list[i] = Looked{tieOf(&found[i].tie), found[i].now}
	}
	return list, err
}

// Look tells how the messages of some ties are now.
func (l *Local) Look(ctx context.Context, box Box, keys []string) (list []Looked, err error) {
	var found []tieNow
	var at []int
	err = l.account.View(ctx, func(s *store.Snapshot) error {
		found, at = found[:0], at[:0]
		boxes := map[mail.MailboxID]*store.Mailbox{}
		for i, key := range keys {
			t, ok, err := s.Tie(tied(box), key)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			tn := tieNow{tie: t}
			if err := tn.look(ctx, s, boxes); err != nil {
				return err
			}
			found, at = append(found, tn), append(at, i)
		}
		return nil
	})
	if err == nil {
		err = l.prove(ctx, found)
	}
	list = make([]Looked, len(keys))
	for i, f := range found {
		list[at[i]] = Looked{tieOf(&f.tie), f.now}
	}
	return list, err
}

// prove reads what look has not, some messages at the same time.
func (l *Local) prove(ctx context.Context, list []tieNow) error {
	if !IsProving(ctx) {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range receivers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(list) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := l.proveTie(ctx, &list[i]); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// proveTie reads a message. One that was expunged meanwhile is there no more; one that is there
// and cannot be found is damaged, and has no content.
func (l *Local) proveTie(ctx context.Context, t *tieNow) (err error) {
	if t.now == nil || t.now.Content != (Content{}) {
		return nil
	}
	if t.now.Content, err = l.content(ctx, t.tie.Message); !fault.Is(err, fault.NotFound) {
		return err
	}
	return l.account.View(ctx, func(s *store.Snapshot) (err error) {
		t.now, err = nowOf(s, map[mail.MailboxID]*store.Mailbox{}, &t.tie)
		return err
	})
}

// tieNow is a tie and how its message is now.
type tieNow struct {
	tie store.Tie
	now *Now
}

func (l *Local) someTies(ctx context.Context, box Box, behind string) (list []tieNow, err error) {
	err = l.account.View(ctx, func(s *store.Snapshot) error {
		list = list[:0]
		err := s.EachTie(tied(box), behind, func(t store.Tie) bool {
			list = append(list, tieNow{tie: t})
			return len(list) < tiesAtOnce
		})
		boxes := map[mail.MailboxID]*store.Mailbox{}
		for i := 0; err == nil && i < len(list); i++ {
			err = list[i].look(ctx, s, boxes)
		}
		return err
	})
	return list, err
}

// look finds how the message is now. Its content only if it is a small one: a large one is not
// read with a View open.
func (t *tieNow) look(ctx context.Context, s *store.Snapshot, boxes map[mail.MailboxID]*store.Mailbox) (err error) {
	t.now, err = nowOf(s, boxes, &t.tie)
	if err == nil && t.now != nil && IsProving(ctx) {
		err = smallContent(s, t.tie.Message, t.now)
	}
	return err
}

// nowOf returns how a message is now, nil if it is nowhere but among deleted mail.
func nowOf(s *store.Snapshot, boxes map[mail.MailboxID]*store.Mailbox, t *store.Tie) (*Now, error) {
	at, uid, err := whereIs(s, t)
	if err != nil || at == 0 {
		return nil, err
	}
	box := boxes[at]
	if box == nil {
		m, err := s.MailboxByID(at)
		if err != nil {
			return nil, err
		}
		box = &m
		boxes[at] = box
	}
	m, err := s.Message(at, uid)
	if err != nil {
		return nil, err
	}
	now := &Now{Mailbox: box.Name, UID: uid, Flags: m.Flags, Date: time.Unix(m.Internal, 0).UTC(), Size: m.Size}
	for i, k := range box.Keywords {
		if m.Keywords.Has(i) {
			now.Keywords = append(now.Keywords, k)
		}
	}
	return now, nil
}

// whereIs returns where a message lies, zeros if nowhere: of several places where it was put,
// if it is still there.
func whereIs(s *store.Snapshot, t *store.Tie) (at mail.MailboxID, uid mail.UID, err error) {
	if t.Message == 0 {
		return 0, 0, nil
	}
	m, err := s.Message(t.Mailbox, t.UID)
	if err == nil && m.ID == t.Message {
		if _, err := s.MailboxByID(t.Mailbox); err == nil {
			return t.Mailbox, t.UID, nil
		}
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return 0, 0, err
	}
	places, err := livePlaces(s, t.Message)
	for _, p := range places {
		if at == 0 || p.box == t.Mailbox && at != p.box {
			at, uid = p.box, p.uid
		}
	}
	return at, uid, err
}

type spot struct {
	box mail.MailboxID
	uid mail.UID
}

// livePlaces returns where a message lies, in order, without deleted mail.
func livePlaces(s *store.Snapshot, id mail.MessageID) (list []spot, err error) {
	places, err := s.Places(id)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for box, uids := range places {
		if s.Accepts(box) != nil {
			continue
		}
		if _, err := s.MailboxByID(box); fault.Is(err, fault.NotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		for _, uid := range uids {
			list = append(list, spot{box, uid})
		}
	}
	sortSpots(list)
	return list, nil
}

// smallContent reads a message whose body is no blob.
func smallContent(s *store.Snapshot, id mail.MessageID, now *Now) error {
	f, err := s.Facts(id)
	if err == nil && f.Body.IsZero() {
		now.Content, err = s.Fingerprint(id)
	}
	return err
}

// content reads a message that smallContent has not.
func (l *Local) content(ctx context.Context, id mail.MessageID) (c Content, err error) {
	r, err := l.account.Open(ctx, id, 0, -1)
	if err != nil {
		return c, err
	}
	defer r.Close()
	return contentOf(r)
}

// State returns what was kept of a mailbox of a source.
func (l *Local) State(ctx context.Context, box Box) (state []byte, err error) {
	err = l.account.View(ctx, func(s *store.Snapshot) error {
		b, err := s.TiedBox(box.Source, box.Mailbox)
		if state = nil; len(b.State) > 0 { // a mailbox that was opened has a record without one
			state = b.State
		}
		return err
	})
	return state, err
}

// SetState keeps something of a mailbox of a source.
func (l *Local) SetState(ctx context.Context, box Box, state []byte) error {
	return l.account.Update(ctx, func(tx *store.Tx) error {
		b, err := tx.TiedBox(box.Source, box.Mailbox)
		if err != nil {
			return err
		}
		b.State = state
		return tx.PutTiedBox(b)
	})
}

// Forget forgets what was brought from a source, or from one of its mailboxes: it would come
// again. Faults: NotFound.
func (l *Local) Forget(ctx context.Context, source, mailbox string) error {
	return l.account.Update(ctx, func(tx *store.Tx) error { return tx.Forget(source, mailbox) })
}

// Sources returns what was ever brought from, mailbox by mailbox, with where it goes.
func (l *Local) Sources(ctx context.Context) (list []Brought, err error) {
	err = l.account.View(ctx, func(s *store.Snapshot) error {
		list = nil
		boxes, err := s.TiedBoxes()
		if err != nil {
			return err
		}
		for _, b := range boxes {
			if strings.HasPrefix(b.Mailbox, "\x00") { // no mailbox: what a link notes for itself
				continue
			}
			br := Brought{Box: Box{b.Source, b.Mailbox}}
			if m, err := s.MailboxByID(b.At); err == nil {
				br.At = m.Name
			} else if !fault.Is(err, fault.NotFound) {
				return err
			}
			list = append(list, br)
		}
		return nil
	})
	return list, err
}

// Brought is a mailbox of a source from which mail came, and the mailbox here it goes into,
// "" if that is gone.
type Brought struct {
	Box
	At string `json:"at"`
}

// sameKeywords tells whether keywords here are those of a source.
func sameKeywords(here, source []string) bool {
	want := mail.Compatible(keywordsHere(source))
	if len(here) != len(want) {
		return false
	}
	for _, k := range want {
		if !hasFold(here, k) {
			return false
		}
	}
	return true
}

// keywordsHere returns what stands for keywords of elsewhere, each once.
func keywordsHere(names []string) []string {
	var list []string
	for _, n := range names {
		if k := KeywordHere(n); !hasFold(list, k) {
			list = append(list, k)
		}
	}
	return list
}

func hasFold(list []string, name string) bool {
	for _, n := range list {
		if cmp.Compare(len(n), len(name)) == 0 && strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}
