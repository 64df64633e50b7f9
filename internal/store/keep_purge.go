package store

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Purging follows a steady time. So a clock that is a year ahead for some days deletes what is
// a few days early, and after weeks without a server all is kept a little longer.
const (
	keptStep   = 48 * time.Hour
	keptReads  = time.Hour
	keptLeast  = time.Minute
	keptParts  = 4     // of the time mail is kept may pass in one step
	keptTrim   = 16    // a sixteenth of what may be kept goes when it is too much
	keptGap    = 64    // pages of young mail after which no old is looked for
	keptAtOnce = 5_000 // messages of one Update
)

// PurgeEvery returns how often Purge is to be called; 0 if nothing is kept.
func (s *Store) PurgeEvery() time.Duration {
	if s.opt.Keep.For <= 0 {
		return 0
	}
	return min(max(s.opt.Keep.For/(2*keptParts), keptLeast), keptReads)
}

// Purge removes deleted mail that was kept long enough, and returns how many messages
// went. Sweep does so, too. That an account is damaged it says when the others are done.
func (s *Store) Purge(ctx context.Context) (purged int, err error) {
	due, err := s.keptUntil(ctx)
	if err != nil {
		return 0, err
	}
	ids, err := s.Accounts(ctx)
	var damaged error
	for i := 0; err == nil && i < len(ids); i++ {
		var n int
		switch n, err = s.Account(ids[i]).purgeKept(ctx, due, false); {
		case fault.Is(err, fault.NotFound):
			err = nil
		case fault.Is(err, fault.Corrupt):
			damaged, err = cmp.Or(damaged, fmt.Errorf("account %d: %w", ids[i], err)), nil
		}
		purged += n
	}
	return purged, cmp.Or(err, damaged)
}

// keptUntil returns the second up to which what was deleted is to be purged now.
func (s *Store) keptUntil(ctx context.Context) (due int64, err error) {
	key := []byte{famKeepTime}
	keep := s.opt.Keep.For
	if keep <= 0 {
		var there bool
		err := s.eng.View(ctx, registryShard, func(r engine.Reader) (err error) {
			_, there, err = r.Get(key)
			return err
		})
		if err == nil && there {
			err = s.eng.Update(ctx, registryShard, func(w engine.Writer) error { return w.Delete(key) })
		}
		return math.MaxInt64, err
	}
	trusted, err := s.keptTime(ctx, min(keptStep, keep/keptParts))
	return trusted - int64(keep/time.Second), err
}

// purgeKept removes what was deleted at a second or before it, in portions and with pauses as Reap.
// thorough looks at everything, and clears away what is of no use any more.
func (a *Account) purgeKept(ctx context.Context, due int64, thorough bool) (purged int, err error) {
	for {
		var box mail.MailboxID
		var old mail.UIDSet
		began := a.store.opt.Now()
		err := a.View(ctx, func(s *Snapshot) (err error) {
			if box = s.acct.kept; box != 0 {
				old, err = s.keptBefore(due, thorough)
			}
			return err
		})
		if err != nil {
			return purged, err
		}
		if old.IsEmpty() {
			break
		}
		err = a.Update(ctx, func(tx *Tx) error {
			_, err := tx.expunge(box, old, false, false)
			return err
		})
		if err != nil {
			return purged, err
		}
		purged += old.Len()
		select {
		case <-ctx.Done(): // the next View says so
		case <-time.After(pauseOf(a.store.opt.Now().Sub(began))):
		}
	}
	if !thorough {
		return purged, nil
	}
	return purged, a.tidyKept(ctx, due)
}

// keptBefore returns messages that were deleted up to a second, as many as go at once. They
// lie in the order in which they were deleted, unless the clock was set back.
func (s *Snapshot) keptBefore(due int64, thorough bool) (old mail.UIDSet, err error) {
	n, young, most := 0, 0, reapMessages
	if b, err := s.mailbox(s.acct.kept); err == nil {
		most = b.atOnce(most)
	}
	err = s.eachKeptPage(func(number uint64, p *page) bool {
		young++
		row := 0
		for word := p.present; word != 0 && n < most; word &= word - 1 {
			if p.date(colSaved, row) <= due {
				old.Add(lowestUID(number, word))
				n++
				young = 0
			}
			row++
		}
		return n < most && (thorough || young < keptGap)
	})
	return old, err
}

// eachKeptPage calls fn for the pages of deleted mail on record, in order.
func (s *Snapshot) eachKeptPage(fn func(number uint64, p *page) bool) error {
	box := s.acct.kept
	if box == 0 {
		return nil
	}
	var bad error
	err := s.r.Scan(pageKey(box, 0), pageKey(box+1, 0), false, func(k, v []byte) bool {
		var p *page
		if p, bad = decodePage(v); bad != nil {
			return false
		}
		return fn(keyNum(k, 1), p)
	})
	return cmp.Or(err, bad)
}

// keepsTooMuch tells whether the account has more deleted mail than may be, after a change
// that brought some there.
func (tx *Tx) keepsTooMuch() bool {
	b := tx.boxes[tx.acct.kept]
	if b == nil {
		return false
	}
	k := &tx.account.store.opt.Keep
	return k.Messages > 0 && int64(b.Messages) > k.Messages || k.Bytes > 0 && b.Bytes > k.Bytes
}

// trimKept removes the oldest of too much deleted mail, a bit more than it must so that the
// next deletion need not. Whoever deletes waits for it.
func (a *Account) trimKept(ctx context.Context) {
	for more := true; more; {
		err := a.As(0).Update(ctx, func(tx *Tx) (err error) {
			more, err = tx.trimKept()
			return err
		})
		if err != nil {
			a.store.opt.Log.Warn("too much deleted mail is removed later", "account", a.id, "err", err)
			return
		}
	}
}

func (tx *Tx) trimKept() (more bool, err error) {
	if tx.acct.kept == 0 {
		return false, nil
	}
	b, err := tx.open(tx.acct.kept)
	if err != nil {
		return false, err
	}
	k := &tx.account.store.opt.Keep
	over := func(has, most int64) int64 {
		if most <= 0 {
			return 0
		}
		return max(0, has-(most-most/keptTrim))
	}
	messages, bytes := over(int64(b.Messages), k.Messages), over(b.Bytes, k.Bytes)
	var old mail.UIDSet
	n, most := 0, b.atOnce(keptAtOnce)
	err = tx.eachKeptPage(func(number uint64, p *page) bool {
		row := 0
		for word := p.present; word != 0 && n < most && (messages > 0 || bytes > 0); word &= word - 1 {
			old.Add(lowestUID(number, word))
			messages, bytes = messages-1, bytes-int64(p.at(colSize, row))
			n++
			row++
		}
		return n < most && (messages > 0 || bytes > 0)
	})
	if err == nil && n > 0 {
		_, err = tx.expunge(b.ID, old, false, false)
	}
	return n > 0 && (messages > 0 || bytes > 0), err
}

// tidyKept removes the mailbox of deleted mail when it is empty, and forgets deleted
// mailboxes and drafts of which nothing is kept.
func (a *Account) tidyKept(ctx context.Context, due int64) error {
	any := false
	err := a.View(ctx, func(s *Snapshot) error {
		any = s.acct.kept != 0
		see := func(_, _ []byte) bool { any = true; return false }
		if any {
			return nil
		}
		return s.r.Scan([]byte{famLost}, []byte{famLost + 1}, false, see)
	})
	if err != nil || !any {
		return err
	}
	if err := a.Update(ctx, func(tx *Tx) error { return tx.tidyKept(due) }); err != nil {
		return err
	}
	return a.Reap(ctx) // the mailbox itself
}

func (tx *Tx) tidyKept(due int64) error {
	reaping := false
	err := tx.w.Scan([]byte{famDoomed}, []byte{famDoomed + 1}, false, func(_, _ []byte) bool { reaping = true; return false })
	if err != nil || reaping {
		return err
	}
	if err := tx.dropEmptyKept(); err != nil {
		return err
	}
	if tx.acct.kept == 0 {
		return cmp.Or(tx.dropFamily(famLost), tx.dropFamily(famDraft), tx.dropFamily(famOrigin))
	}
	return cmp.Or(tx.forgetLost(due), tx.forgetDrafts())
}

func (tx *Tx) dropFamily(family byte) error {
	return tx.w.DeleteRange([]byte{family}, []byte{family + 1})
}

func (tx *Tx) dropEmptyKept() error {
	if tx.acct.kept == 0 {
		return nil
	}
	b, err := tx.open(tx.acct.kept)
	if err != nil || b.Messages > 0 {
		return err
	}
	if err := cmp.Or(tx.Subscribe(b.Name, false), tx.doom(b)); err != nil {
		return err
	}
	tx.acct.kept = 0
	return nil
}

// forgetLost drops what is known of mailboxes deleted long ago from which nothing is kept.
func (tx *Tx) forgetLost(due int64) error {
	var old []mail.MailboxID
	var bad error
	err := tx.w.Scan([]byte{famLost}, []byte{famLost + 1}, false, func(k, v []byte) bool {
		var l lostMailbox
		if l, bad = decodeLost(v); l.at <= due {
			old = append(old, mail.MailboxID(keyNum(k, 0)))
		}
		return bad == nil && len(old) < keptAtOnce
	})
	if err := cmp.Or(err, bad); err != nil || len(old) == 0 {
		return err
	}
	needed := map[mail.MailboxID]bool{}
	err = tx.w.Scan([]byte{famOrigin}, []byte{famOrigin + 1}, false, func(_, v []byte) bool {
		var at place
		at, bad = decodeOrigin(v)
		needed[at.box] = true
		return bad == nil
	})
	err = cmp.Or(err, bad)
	for _, id := range old {
		if err == nil && !needed[id] {
			err = tx.w.Delete(lostKey(id))
		}
	}
	return err
}

// forgetDrafts drops what is known of drafts that are not kept any more.
func (tx *Tx) forgetDrafts() error {
	var hashes []uint64
	err := tx.w.Scan([]byte{famDraft}, []byte{famDraft + 1}, false, func(k, _ []byte) bool {
		hashes = append(hashes, keyNum(k, 0))
		return true
	})
	b, bad := tx.open(tx.acct.kept)
	if err = cmp.Or(err, bad); err != nil {
		return err
	}
	gone := 0
	for _, h := range hashes {
		uid, id, err := tx.keptDraft(h)
		if err != nil {
			return err
		}
		m, ok, err := tx.message(b, uid)
		if err != nil {
			return err
		}
		if ok && m.ID == id {
			continue
		}
		if err := tx.w.Delete(engine.Key(famDraft, h)); err != nil {
			return err
		}
		if gone++; gone == keptAtOnce {
			return nil
		}
	}
	return nil
}
