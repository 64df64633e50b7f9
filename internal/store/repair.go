package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

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

// account mends what its mailboxes hold, and then counts anew.
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
	return r.told(r.recount)
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
