package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

// Mended is one thing that Repair has done.
type Mended struct {
	Problem
	Lost          bool   // a message is gone
	Count         int    // if more than one is
	Gone          bool   // something else that nothing else says
	Subject, From string // of it, as far as they are known
}

// Repair brings the records of all accounts into accord again, after some were lost or
// damaged: nobody else may use the store.
//
// What follows from the messages is dropped and comes back (notes of searches, briefs), or
// is counted anew. A message of which a record is lost is parsed anew if its bytes are
// there, and then has a new UID; else it goes, and is reported. A message in no mailbox goes
// back to the one it was delivered to, or the inbox. The change logs begin anew, so that
// every client looks at all it has.
//
// known are accounts that somebody else knows of; those that have data are listed again.
func (s *Store) Repair(ctx context.Context, known []mail.AccountID, report func(Mended)) error {
	if err := s.repairRegistry(ctx, report); err != nil {
		return err
	}
	listed, err := s.Accounts(ctx)
	if err != nil {
		return err
	}
	all := append(listed, known...)
	slices.Sort(all)
	for _, id := range slices.Compact(all) {
		there, err := s.Account(id).repair(ctx, report)
		if err == nil && there {
			err = s.eng.Update(ctx, registryShard, func(w engine.Writer) error { return w.Put(RegistryEntry(id)) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// repairRegistry writes damaged records of the list of accounts anew, and has the clocks of
// what is removed for its age begin anew.
func (s *Store) repairRegistry(ctx context.Context, report func(Mended)) error {
	var found []Mended
	err := s.eng.Update(ctx, registryShard, func(w engine.Writer) error {
		found = nil
		if err := allKnown(w); err != nil {
			return err
		}
		var broken [][]byte
		err := w.Scan(nil, nil, false, func(k, v []byte) bool {
			if _, _, err := record.Open(v); err != nil {
				broken = append(broken, bytes.Clone(k))
			}
			return true
		})
		bare := map[byte]byte{famRegistry: recRegistry, famOpen: recSharer}
		for _, key := range broken {
			found = append(found, Mended{Problem: Problem{What: fmt.Sprintf("record %x of the list of accounts was damaged", key)}})
			if kind, ok := bare[key[0]]; ok && err == nil {
				err = w.Put(key, seal(kind, nil))
			} else if err == nil {
				err = w.Delete(key)
			}
		}
		return err
	})
	for _, m := range found {
		if err == nil {
			report(m)
		}
	}
	return err
}

// Repair is the Repair of a store for one account, which nobody else may use. Faults:
// NotFound if there is no record of it.
func (a *Account) Repair(ctx context.Context, report func(Mended)) error {
	there, err := a.repair(ctx, report)
	if err == nil && !there {
		err = fault.New(fault.NotFound, "there is no record of the account")
	}
	return err
}

func (a *Account) repair(ctx context.Context, report func(Mended)) (there bool, err error) {
	if err := a.store.eng.View(ctx, a.shard, func(r engine.Reader) error { return allKnown(r) }); err != nil {
		return false, err
	}
	a.forgetPictures() // what a look at it, which led here, has left
	r := &mender{ctx: ctx, a: a, report: report}
	if there, err = r.rebuild(); err != nil || !there {
		return there, err
	}
	if err = r.account(); fault.Is(err, fault.Corrupt) {
		r.gone("", "the account cannot be mended: %s", fault.Say(err))
		r.flush()
		err = nil
	}
	return true, err
}

type mender struct {
	ctx      context.Context
	a        *Account
	report   func(Mended)
	box      Mailbox
	found    []Mended // to be reported before it is done
	lost     int64    // messages reported, without deleted ones that were kept
	keptName string
	tied     map[mail.MessageID][][]byte // keys of ties of messages that are being mended
	counted  int64                       // messages that there were by the account's counts
}

func (r *mender) note(uid mail.UID, format string, args ...any) {
	r.found = append(r.found, Mended{Problem: Problem{Account: r.a.id, Mailbox: r.box.Name, UID: uid, What: fmt.Sprintf(format, args...)}})
}

// told runs a change, and reports what it notes before that is done: if all ends in between,
// it is told twice, and not never.
func (r *mender) told(fn func(*Tx) error) error {
	r.flush()
	lost := r.lost
	return r.a.Update(r.ctx, func(tx *Tx) error {
		r.found, r.lost = nil, lost
		if err := fn(tx); err != nil {
			return err
		}
		r.flush()
		return nil
	})
}

func (r *mender) flush() {
	for _, f := range r.found {
		if f.Lost && f.Mailbox != r.keptName {
			r.lost += int64(max(f.Count, 1))
		}
		r.report(f)
	}
	r.found = nil
}

func (r *mender) account() error {
	r.box = Mailbox{}
	err := r.told(func(tx *Tx) error {
		return errors.Join(tx.dropDerived(), tx.dropBroken(r.note), tx.rebuildSide(r.gone))
	})
	if err != nil {
		return err
	}
	if err := r.mendTies(); err != nil {
		return err
	}
	var boxes []Mailbox
	err = r.a.View(r.ctx, func(s *Snapshot) (err error) { boxes, err = s.Mailboxes(); return err })
	if err != nil {
		return err
	}
	for _, r.box = range boxes {
		if err := r.mailbox(); err != nil {
			return err
		}
	}
	r.box = Mailbox{}
	if err := r.strays(); err != nil {
		return err
	}
	r.box = Mailbox{}
	if err := r.blankTies(); err != nil {
		return err
	}
	return r.told(func(tx *Tx) error {
		if err := errors.Join(tx.recount(r.note), tx.rebuildSide(r.gone)); err != nil {
			return err
		}
		if more := r.counted - tx.acct.usage.Messages - r.lost; more > 0 {
			r.found = append(r.found, Mended{Problem: Problem{Account: r.a.id, What: count(int(more), "message") + " more that the account counted are gone, and no record says which"}, Lost: true, Count: int(more)})
		}
		return nil
	})
}

// dropDerived removes what follows from the messages and comes back when it is missed.
func (tx *Tx) dropDerived() error {
	for _, family := range []byte{famGrams, famBrief} {
		if err := tx.w.DeleteRange([]byte{family}, []byte{family + 1}); err != nil {
			return err
		}
	}
	return nil
}

// dropBroken removes damaged records that nothing depends on, and writes those anew whose
// key says all.
func (tx *Tx) dropBroken(note func(uid mail.UID, format string, args ...any)) error {
	bare := map[byte]byte{famSub: recSub, famSharer: recSharer}
	for _, family := range []byte{famLog, famThread, famOnce, famURLKey, famDraft, famBirth, famSub, famSharer} {
		var broken [][]byte
		err := tx.r.Scan([]byte{family}, []byte{family + 1}, false, func(k, v []byte) bool {
			if _, _, err := record.Open(v); err != nil {
				broken = append(broken, bytes.Clone(k))
			}
			return true
		})
		for _, key := range broken {
			note(0, "record %x was damaged", key)
			if kind, ok := bare[family]; ok && err == nil {
				err = tx.w.Put(key, seal(kind, nil))
			} else if err == nil {
				err = tx.w.Delete(key)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// origins says of deleted messages that are kept, and of which it is not known any more
// where they lay, that it was the inbox.
func (tx *Tx) origins(p *Picture, note func(uid mail.UID, format string, args ...any)) error {
	inbox, err := tx.Mailbox("INBOX")
	if err != nil {
		return err
	}
	for _, m := range p.Messages(All()) {
		v, _, err := tx.r.Get(keptKey(m.UID))
		if err != nil {
			return err
		}
		if _, err := decodeOrigin(v); err == nil {
			continue
		}
		note(m.UID, "it is not known any more where the deleted message lay; it is taken for the inbox")
		var e enc
		e.U(uint64(inbox.ID))
		e.U(uint64(m.UID))
		if err := tx.w.Put(keptKey(m.UID), seal(recOrigin, e)); err != nil {
			return err
		}
	}
	return nil
}

// unwell is a message that is not all there.
type unwell struct {
	m        Message
	keywords []string
	found    Mended
}

// mailbox mends the messages of a mailbox.
func (r *mender) mailbox() error {
	var list []unwell
	err := r.a.View(r.ctx, func(s *Snapshot) error {
		list = nil
		asked := r.box
		asked.Messages = max(asked.Messages, 1) // the count may be what is wrong
		p, err := s.load(asked)
		if err != nil {
			return err
		}
		for _, m := range p.Messages(All()) {
			what, err := s.whole(r.ctx, m)
			if err != nil {
				return err
			}
			if what == "" {
				continue
			}
			u := unwell{m: m, keywords: p.Keywords(m)}
			u.found = Mended{Problem: Problem{Account: r.a.id, Mailbox: r.box.Name, UID: m.UID, What: what}}
			if k, err := s.Keys(m.ID); err == nil {
				u.found.Subject, u.found.From = string(k.Subject), string(k.DisplayFrom)
			}
			list = append(list, u)
		}
		return nil
	})
	if fault.Is(err, fault.Corrupt) {
		r.note(0, "its messages cannot be listed: %s", fault.Say(err))
		return nil
	}
	var ids []mail.MessageID
	for _, u := range list {
		ids = append(ids, u.m.ID)
	}
	if err == nil {
		err = r.findTies(ids)
	}
	for _, u := range list {
		if err == nil {
			err = r.message(u)
		}
	}
	return err
}

// whole tells what is wrong with the records of a message, "" if nothing is.
func (s *Snapshot) whole(ctx context.Context, m Message) (what string, err error) {
	v := verifier{ctx: ctx, store: s.account.store, snap: s, seen: map[mail.MessageID][]place{}, good: map[mail.BlobRef]int64{},
		report: func(p Problem) { what = p.What }}
	v.message(m)
	return what, ctx.Err()
}

// rescue returns the bytes of a message, nil if they are not all there.
func (s *Snapshot) rescue(ctx context.Context, m Message) []byte {
	head, err := s.Head(nil, m.ID)
	if err != nil {
		return nil
	}
	all := head
	f, err := s.Facts(m.ID)
	if err != nil {
		f = Facts{Size: m.Size, head: int64(len(head))} // the name of a large body is lost with them
	}
	if body, err := s.body(m.ID, &f); err == nil && f.Size > f.head {
		r, err := body.open(ctx, s.account.store, 0, f.Size-f.head)
		if err != nil {
			return nil
		}
		rest, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			return nil
		}
		all = append(all, rest...)
	}
	if int64(len(all)) != m.Size {
		return nil
	}
	return all
}

// message puts a message whose bytes are there in anew, and takes out the old one.
func (r *mender) message(u unwell) error {
	var all []byte // of one message at a time
	err := r.a.View(r.ctx, func(s *Snapshot) error { all = s.rescue(r.ctx, u.m); return nil })
	if err != nil {
		return err
	}
	var p *Parcel
	if all != nil {
		if p, err = r.a.store.Receive(r.ctx, bytes.NewReader(all)); err != nil {
			return err
		}
	}
	ties := r.tied[u.m.ID]
	u.found.Lost = p == nil
	return r.told(func(tx *Tx) error {
		found := u.found
		var err error
		if _, err = tx.expunge(r.box.ID, mail.SetOf(u.m.UID), false, false); err != nil {
			return err
		}
		if p != nil {
			var uid mail.UID
			uid, err = tx.again(r.box.ID, NewMessage{Parcel: p, Flags: u.m.Flags, Keywords: u.keywords, InternalDate: time.Unix(u.m.Internal, 0)})
			if err != nil {
				return err
			}
			found.What += fmt.Sprintf("; parsed anew, it is UID %d now", uid)
			err = tx.retie(ties, r.box.ID, uid)
		} else if r.box.ID != tx.acct.kept { // of deleted messages that are kept none comes again
			err = tx.untie(ties)
		}
		r.found = append(r.found, found)
		return err
	})
}

// again puts a message in a mailbox in which it was: the inbox, if that is the one of deleted
// messages, in which nothing is put.
func (tx *Tx) again(to mail.MailboxID, m NewMessage) (mail.UID, error) {
	if to == tx.acct.kept {
		inbox, err := tx.Mailbox("INBOX")
		if err != nil {
			return 0, err
		}
		to = inbox.ID
	}
	return tx.Append(to, m)
}

// strays puts messages that lie in no mailbox back into one.
func (r *mender) strays() error {
	var list []Facts
	var ids []mail.MessageID
	err := r.a.View(r.ctx, func(s *Snapshot) error {
		list, ids = nil, nil
		found, err := s.placed()
		if err != nil {
			return err
		}
		return s.r.Scan([]byte{famFacts}, []byte{famFacts + 1}, false, func(k, _ []byte) bool {
			id := mail.MessageID(keyNum(k, 0))
			if len(found[id]) > 0 || s.doomedAny() {
				return true
			}
			if f, err := s.Facts(id); err == nil {
				list, ids = append(list, Facts{Size: f.Size, home: f.home}), append(ids, id)
			}
			return true
		})
	})
	if err == nil {
		err = r.findTies(ids)
	}
	for i, f := range list {
		if err == nil {
			err = r.stray(ids[i], f)
		}
	}
	if err != nil {
		return err
	}
	return r.orphans()
}

// orphans puts messages back of which neither a page nor their facts tell, and drops
// records that are of no message any more.
func (r *mender) orphans() error {
	var ids []mail.MessageID
	err := r.a.View(r.ctx, func(s *Snapshot) error {
		ids = nil
		placed, err := s.placed()
		if err != nil || s.doomedAny() {
			return err
		}
		for _, family := range []byte{famHeader, famKeys, famBody} {
			err := s.r.Scan([]byte{family}, []byte{family + 1}, false, func(k, _ []byte) bool {
				id := mail.MessageID(keyNum(k, 0))
				if len(placed[id]) == 0 {
					placed[id] = []place{{}} // once
					ids = append(ids, id)
				}
				return true
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = r.findTies(ids)
	}
	for _, id := range ids {
		if err == nil {
			err = r.stray(id, Facts{Size: r.sizeOf(id)})
		}
	}
	return err
}

// sizeOf returns the size of a message by its header and small body.
func (r *mender) sizeOf(id mail.MessageID) (n int64) {
	_ = r.a.View(r.ctx, func(s *Snapshot) error {
		head, err := s.Head(nil, id)
		if err != nil {
			return err
		}
		n = -1 // it may have had a large body
		f := Facts{Size: 1 << 40}
		b, err := s.body(id, &f)
		if err != nil || len(b.small) == 0 {
			return err
		}
		small, err := unpack(s.account.store.pack.unbody, nil, b.small)
		if err == nil {
			n = int64(len(head) + len(small))
		}
		return err
	})
	return n
}

// dropRecords removes all records of a message but where it lies.
func (tx *Tx) dropRecords(id mail.MessageID) error {
	for _, family := range []byte{famFacts, famKeys, famHeader} {
		if err := tx.deleteLong(family, uint64(id), true); err != nil {
			return err
		}
	}
	if err := tx.w.Delete(engine.Key(famBody, uint64(id))); err != nil {
		return err
	}
	return tx.deletePlaces(id)
}

func (r *mender) stray(id mail.MessageID, f Facts) error {
	var all []byte
	err := r.a.View(r.ctx, func(s *Snapshot) error { all = s.rescue(r.ctx, Message{ID: id, Size: f.Size}); return nil })
	if err != nil {
		return err
	}
	ties := r.tied[id]
	if all == nil {
		r.box = Mailbox{}
		return r.told(func(tx *Tx) error {
			r.found = append(r.found, Mended{Problem: Problem{Account: r.a.id, What: fmt.Sprintf("message %d lay in no mailbox any more, and its bytes are not all there", id)}, Lost: true})
			if err := tx.untie(ties); err != nil {
				return err
			}
			return tx.dropRecords(id)
		})
	}
	p, err := r.a.store.Receive(r.ctx, bytes.NewReader(all))
	if err != nil {
		return err
	}
	return r.told(func(tx *Tx) error {
		b, err := tx.open(f.home.box)
		if err != nil {
			m, err := tx.Mailbox("INBOX")
			if err != nil {
				return err
			}
			if b, err = tx.open(m.ID); err != nil {
				return err
			}
		}
		r.box = b.Mailbox
		uid, err := tx.Append(b.ID, NewMessage{Parcel: p})
		if err == nil {
			err = tx.retie(ties, b.ID, uid)
		}
		if err != nil {
			return err
		}
		r.note(uid, "a message that lay in no mailbox any more is here again, without its flags")
		return tx.dropRecords(id)
	})
}

// placed returns where the pages of all mailboxes say that messages lie.
func (s *Snapshot) placed() (map[mail.MessageID][]place, error) {
	found := map[mail.MessageID][]place{}
	boxes, err := s.Mailboxes()
	for _, b := range boxes {
		b.Messages = max(b.Messages, 1) // the count may be what is wrong
		p, err := s.load(b)
		if err != nil {
			return nil, err
		}
		for _, m := range p.Messages(All()) {
			found[m.ID] = append(found[m.ID], place{b.ID, m.UID})
		}
	}
	return found, err
}

// doomedAny tells whether messages of deleted mailboxes are still to be released.
func (s *Snapshot) doomedAny() (some bool) {
	_ = s.r.Scan([]byte{famDoomed}, []byte{famDoomed + 1}, false, func(_, _ []byte) bool { some = true; return false })
	return some
}

// recount brings counts and references into accord with the pages.
func (tx *Tx) recount(note func(uid mail.UID, format string, args ...any)) error {
	boxes, err := tx.Snapshot.Mailboxes()
	if err != nil {
		return err
	}
	var usage Usage
	for _, m := range boxes {
		b, err := tx.open(m.ID)
		if err != nil {
			return err
		}
		count, err := tx.recountBox(b, note)
		if err != nil {
			return err
		}
		if b.ID != tx.acct.kept {
			usage.Bytes += count.Bytes
			usage.Messages += int64(count.Messages)
		}
	}
	if usage != tx.acct.usage || int(tx.acct.mailboxes) != len(boxes) {
		note(0, "the account's counts were wrong")
	}
	tx.acct.usage, tx.acct.mailboxes, tx.acctDirty = usage, uint32(len(boxes)), true
	return tx.replace()
}

func (tx *Tx) recountBox(b *txBox, note func(uid mail.UID, format string, args ...any)) (count Mailbox, err error) {
	asked := b.Mailbox
	asked.Messages = max(asked.Messages, 1)
	p, err := tx.Snapshot.load(asked)
	if err != nil {
		return count, err
	}
	for _, m := range p.Messages(All()) {
		count.count(m, +1)
		b.UIDNext = max(b.UIDNext, m.UID+1)
	}
	b.Messages, b.Unseen, b.Deleted, b.Bytes = count.Messages, count.Unseen, count.Deleted, count.Bytes
	if b.ID == tx.acct.kept {
		if err := tx.origins(p, note); err != nil {
			return count, err
		}
	}
	tx.touch(b)
	b.LogFloor, b.was = tx.mod, nil
	err = tx.w.DeleteRange(engine.Key(famLog, uint64(b.ID)), engine.Key(famLog, uint64(b.ID)+1))
	if err == nil {
		var e enc
		e.U(uint64(b.ID))
		err = tx.w.Put(engine.KeyString(famName, b.Name), seal(recName, e))
	}
	return count, err
}

// replace writes anew where each message lies.
func (tx *Tx) replace() error {
	found, err := tx.placed()
	if err != nil {
		return err
	}
	for id, list := range found {
		have, err := tx.Snapshot.places(id)
		have = slices.DeleteFunc(have, func(p place) bool { return !slices.Contains(list, p) })
		if err == nil && len(have) == len(list) {
			continue
		}
		if err := tx.putPlaces(id, list); err != nil {
			return err
		}
	}
	return nil
}
