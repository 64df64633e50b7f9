package move

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

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
