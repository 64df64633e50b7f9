package store

import (
	"context"
	"slices"
	"sync"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Who shares mailboxes with an account is noted in the account's own shard, and for
// anyone in the registry. A note is made before the grant and may outlive it: it says
// only where to look.

// sharing is what is known in memory of the notes and grants of an account.
type sharing struct {
	sharersAt uint64 // generation of sharers
	known     bool
	sharers   []mail.AccountID

	grantedAt uint64 // generation of granted
	read      bool
	granted   []Mailbox // those whose list of rights has an entry
}

// openSharers are the accounts that have shared a mailbox with anyone.
type openSharers struct {
	ticks <-chan struct{} // the registry has changed
	stop  func()

	mu    sync.Mutex
	known bool
	list  []mail.AccountID
}

// noteSharer notes with an account (0: all of them) that this one shares a mailbox
// with it. Faults: NotFound if there is no such account.
func (a *Account) noteSharer(ctx context.Context, with mail.AccountID) error {
	if with == 0 {
		err := a.store.eng.Update(ctx, registryShard, func(w engine.Writer) error {
			return putOnce(w, engine.Key(famOpen, uint64(a.id)), seal(recSharer, nil))
		})
		a.store.anyone.forget()
		return err
	}
	return a.store.Account(with).Update(ctx, func(tx *Tx) error {
		return putOnce(tx.w, engine.Key(famSharer, uint64(a.id)), seal(recSharer, nil))
	})
}

func putOnce(w engine.Writer, key, record []byte) error {
	if _, there, err := w.Get(key); err != nil || there {
		return err
	}
	return w.Put(key, record)
}

func (o *openSharers) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known = false
}

// openSharers returns who has shared a mailbox with anyone.
func (s *Store) openSharers(ctx context.Context) ([]mail.AccountID, error) {
	o := &s.anyone
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-o.ticks:
		o.known = false
	default:
	}
	if o.known && s.shared == nil {
		return o.list, nil
	}
	var list []mail.AccountID
	err := s.eng.View(ctx, registryShard, func(r engine.Reader) (err error) {
		list, err = ids(r, famOpen)
		return err
	})
	if err == nil {
		o.list, o.known = list, true
	}
	return list, err
}

// ids reads the account ids that are the keys of a family.
func ids(r engine.Reader, family byte) ([]mail.AccountID, error) {
	var list []mail.AccountID
	err := r.Scan([]byte{family}, []byte{family + 1}, false, func(k, _ []byte) bool {
		list = append(list, mail.AccountID(engine.Num(k, 0)))
		return true
	})
	return list, err
}

// Sharers returns the other accounts that may have shared a mailbox with this one, in
// order of id: what Shared of each says is the truth. As long as nothing changes it
// reads nothing.
func (a *Account) Sharers(ctx context.Context) ([]mail.AccountID, error) {
	list, err := a.ownSharers(ctx)
	if err != nil {
		return nil, err
	}
	open, err := a.store.openSharers(ctx)
	if err != nil {
		return nil, err
	}
	if len(open) > 0 {
		list = slices.Concat(list, open)
		slices.Sort(list)
		list = slices.Compact(list)
	}
	if i := slices.Index(list, a.id); i >= 0 {
		list = slices.Delete(slices.Clone(list), i, i+1)
	}
	return list, nil
}

func (a *Account) ownSharers(ctx context.Context) ([]mail.AccountID, error) {
	proved, generation := a.isProved(0), a.generation.Load()
	a.mu.Lock()
	list, known := a.sharing.sharers, proved && a.sharing.known && a.sharing.sharersAt == generation
	a.mu.Unlock()
	if known {
		return list, nil
	}
	err := a.View(ctx, func(s *Snapshot) (err error) {
		list, err = ids(s.r, famSharer)
		return err
	})
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sharing.sharers, a.sharing.sharersAt, a.sharing.known = list, generation, true
	return list, nil
}

// Shared returns the mailboxes of the account on which the user of the handle has one
// of the rights, in order of name. It reads nothing if there is none and nothing has
// changed. Faults: NotFound if the account is gone.
func (a *Account) Shared(ctx context.Context, rights mail.Rights) ([]Mailbox, error) {
	granted, err := a.grantedBoxes(ctx)
	if err != nil {
		return nil, err
	}
	has := func(m Mailbox) bool { return a.Rights(&m)&rights != 0 }
	if !slices.ContainsFunc(granted, has) {
		return nil, nil
	}
	var list []Mailbox
	err = a.View(ctx, func(s *Snapshot) error {
		list = list[:0]
		for i := range granted {
			m, err := s.MailboxByID(granted[i].ID)
			if fault.Is(err, fault.NotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if has(m) {
				list = append(list, m)
			}
		}
		return nil
	})
	sortMailboxes(list)
	return list, err
}

// grantedBoxes returns the mailboxes that have a list of rights.
func (a *Account) grantedBoxes(ctx context.Context) ([]Mailbox, error) {
	proved, generation := a.isProved(a.store.Moment()), a.generation.Load()
	a.mu.Lock()
	list, known := a.sharing.granted, proved && a.sharing.read && a.sharing.grantedAt == generation
	a.mu.Unlock()
	if known {
		return list, nil
	}
	list = nil
	err := a.View(ctx, func(s *Snapshot) error {
		boxes, err := s.mailboxes()
		list = slices.DeleteFunc(boxes, func(m Mailbox) bool { return len(m.Grants) == 0 })
		return err
	})
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sharing.granted, a.sharing.grantedAt, a.sharing.read = slices.Clip(list), generation, true
	return list, nil
}

// exists tells whether an account has data. It is asked of the registry now: an account
// that was granted something is in it before the grant.
func (s *Store) exists(ctx context.Context, id mail.AccountID) (ok bool, err error) {
	err = s.eng.View(ctx, registryShard, func(r engine.Reader) error {
		_, ok, err = r.Get(engine.Key(famRegistry, uint64(id)))
		return err
	})
	return ok, err
}

// forgetRemoved drops what grants, notes and seen messages there are of accounts that
// have been removed. Ids are never given twice, so nobody could use them; they are only
// in the way.
func (a *Account) forgetRemoved(ctx context.Context) error {
	gone, err := a.removedPeers(ctx)
	if err != nil || len(gone) == 0 {
		return err
	}
	return a.Update(ctx, func(tx *Tx) error {
		for who := range gone {
			if err := tx.w.Delete(engine.Key(famSharer, uint64(who))); err != nil {
				return err
			}
		}
		boxes, err := tx.mailboxes()
		if err != nil {
			return err
		}
		for _, m := range boxes {
			if !m.isShared() {
				continue
			}
			b, err := tx.open(m.ID)
			if err != nil {
				return err
			}
			if err := tx.forgetIn(b, gone); err != nil {
				return err
			}
		}
		return nil
	})
}

func (tx *Tx) forgetIn(b *txBox, gone map[mail.AccountID]bool) error {
	kept := slices.DeleteFunc(slices.Clone(b.Grants), func(g Grant) bool { return gone[g.Who] })
	if len(kept) < len(b.Grants) {
		b.Grants = kept
		b.dirty, tx.acctDirty = true, true
	}
	for who := range gone {
		if err := tx.dropGuest(b, who); err != nil {
			return err
		}
	}
	return nil
}

// removedPeers returns the accounts that this one has to do with and that are no more.
func (a *Account) removedPeers(ctx context.Context) (map[mail.AccountID]bool, error) {
	peers := map[mail.AccountID]bool{}
	err := a.View(ctx, func(s *Snapshot) error {
		clear(peers)
		sharers, err := ids(s.r, famSharer)
		for _, id := range sharers {
			peers[id] = true
		}
		if err != nil {
			return err
		}
		boxes, err := s.mailboxes()
		for _, m := range boxes {
			for _, g := range m.Grants {
				peers[g.Who] = true
			}
		}
		if err != nil {
			return err
		}
		return s.r.Scan([]byte{famGuest}, []byte{famGuest + 1}, false, func(k, _ []byte) bool {
			peers[mail.AccountID(engine.Num(k, 1))] = true
			return true
		})
	})
	if err != nil {
		return nil, err
	}
	delete(peers, 0)
	delete(peers, a.id)
	for id := range peers {
		there, err := a.store.exists(ctx, id)
		if err != nil {
			return nil, err
		}
		if there {
			delete(peers, id)
		}
	}
	return peers, nil
}
