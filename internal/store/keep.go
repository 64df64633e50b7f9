package store

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Keep says for how long and how much deleted mail is kept. The zero value keeps none.
//
// What is kept lies in a mailbox of its own, which comes with the first message and is
// like any other but for this: only deletion brings mail there, it counts in no quota, and
// an expunge there is final. Each message knows where it lay. docs/decisions/0025.
type Keep struct {
	For      time.Duration // 0: deleted mail goes at once
	Name     string        // of the mailbox, one level; "": Recently Deleted
	Messages int64         // of one account, at most; then the oldest go; 0: any number
	Bytes    int64
}

const keptName = "Recently Deleted"

func (k *Keep) check() error {
	if k.Name == "" {
		k.Name = keptName
	}
	clean, err := CleanName(k.Name)
	if err == nil && (clean == "INBOX" || strings.Contains(clean, Separator)) {
		err = fault.Newf(fault.Invalid, "deleted mail cannot be kept in a mailbox named %q", k.Name)
	}
	k.Name = clean
	return err
}

// keeps tells whether what is deleted from a mailbox is kept.
func (tx *Tx) keeps(b *txBox) bool {
	return tx.account.store.opt.Keep.For > 0 && b.ID != tx.acct.kept
}

// Accepts fails for the mailbox of deleted mail, where messages come by deletion only.
// Faults: Unsupported.
func (s *Snapshot) Accepts(box mail.MailboxID) error {
	if box != s.acct.kept || box == 0 {
		return nil
	}
	return fault.New(fault.Unsupported, "only deleted messages come into this mailbox")
}

// keptOnly refuses to change the mailbox of deleted mail itself.
func keptOnly() error {
	return fault.New(fault.Unsupported, "the mailbox of deleted messages stays as it is, only its messages can be moved, copied or expunged")
}

// unreserved fails for the name of the mailbox of deleted mail, and for names below it. One
// that has the name already, of the time before anything was kept, is like any other.
func (tx *Tx) unreserved(clean string) error {
	name := tx.account.store.opt.Keep.Name
	if tx.acct.kept == 0 && tx.account.store.opt.Keep.For == 0 {
		return nil
	}
	if tx.acct.kept != 0 {
		b, err := tx.open(tx.acct.kept)
		if err != nil {
			return err
		}
		name = b.Name
	}
	if clean != name && !strings.HasPrefix(clean, name+Separator) {
		return nil
	}
	if tx.acct.kept == 0 {
		if _, exists, err := tx.lookup(name); err != nil || exists {
			return err
		}
	}
	return fault.New(fault.Unsupported, "this name is that of the mailbox of deleted messages")
}

// keptBox returns the mailbox of deleted mail, which is made if it is not there.
func (tx *Tx) keptBox() (*txBox, error) {
	if tx.acct.kept != 0 {
		return tx.open(tx.acct.kept)
	}
	base := tx.account.store.opt.Keep.Name
	name := base
	for n := 2; ; n++ {
		_, taken, err := tx.lookup(name)
		if err != nil {
			return nil, err
		}
		if !taken {
			break
		}
		name = base + " " + strconv.Itoa(n)
	}
	m, err := tx.make(name, "")
	if err != nil {
		return nil, err
	}
	tx.acct.kept = m.ID
	if err := tx.Subscribe(name, true); err != nil {
		return nil, err
	}
	return tx.open(m.ID)
}

// keep puts a message that leaves a mailbox, of which it has no row any more, where deleted
// mail is kept, unless it still lies elsewhere in the account. It tells whether it did. Of
// a message that is kept already, from another mailbox, the newer place counts if again is
// set, else the older one.
func (tx *Tx) keep(b *txBox, m Message, again bool) (bool, error) {
	list, err := tx.placesFrom(b.ID, m)
	if err != nil {
		return false, err
	}
	list = slices.DeleteFunc(list, func(p place) bool { return p == place{b.ID, m.UID} })
	for _, p := range list {
		if p.box == tx.acct.kept {
			if !again {
				return false, nil
			}
			continue
		}
		if _, err := tx.open(p.box); !fault.Is(err, fault.NotFound) {
			return false, err // it lies there still
		}
	}
	dst, err := tx.keptBox()
	if err != nil {
		return false, err
	}
	if list, err = tx.leaveKept(dst, list); err != nil {
		return false, err
	}
	kept, err := tx.placeKept(b, dst, m)
	if err != nil {
		return false, err
	}
	return true, tx.putPlaces(m.ID, append(list, place{dst.ID, kept.UID}))
}

// placeKept gives a message its row, its annotations and what is to be known of it.
func (tx *Tx) placeKept(b, dst *txBox, m Message) (kept Message, err error) {
	kept = m
	kept.Flags &^= mail.Deleted // a client that expunges there by habit has to mean it
	names := b.keywordNames(m.Keywords)
	if kept.Keywords, err = tx.keywordSet(dst, names); fault.Is(err, fault.Limited) {
		kept.Keywords, err = dst.knownKeywords(names), nil
	}
	if err != nil {
		return kept, err
	}
	draft, err := tx.supersede(b, dst, m)
	if err != nil {
		return kept, err
	}
	if kept.UID, err = tx.place(dst, kept); err != nil {
		return kept, err
	}
	tx.keepsMore = true
	if err := tx.moveNotes(b, m.UID, dst, kept.UID); err != nil {
		return kept, err
	}
	if draft != 0 {
		var e enc
		e.U(uint64(kept.UID))
		e.U(uint64(kept.ID))
		if err := tx.w.Put(engine.Key(famDraft, draft), seal(recDraft, e)); err != nil {
			return kept, err
		}
	}
	var e enc
	e.U(uint64(b.ID))
	e.U(uint64(m.UID))
	return kept, tx.w.Put(keptKey(kept.UID), seal(recOrigin, e))
}

// leaveKept takes the earlier row of a message out of what is kept, and its place out of
// the list.
func (tx *Tx) leaveKept(dst *txBox, list []place) ([]place, error) {
	i := slices.IndexFunc(list, func(p place) bool { return p.box == dst.ID })
	if i < 0 {
		return list, nil
	}
	old, ok, err := tx.message(dst, list[i].uid)
	if err == nil && ok {
		err = tx.takeOut(dst, old)
	}
	if err == nil {
		err = tx.dropNotes(dst, list[i].uid)
	}
	return slices.Delete(list, i, i+1), err
}

// supersede drops the earlier version of a draft: a client that saves one every minute
// shall not fill what is kept. Of versions that have no Message-ID, or not the same, each
// is kept. It returns the hash of the Message-ID, 0 if this is no draft.
func (tx *Tx) supersede(b, dst *txBox, m Message) (hash uint64, err error) {
	if !m.Flags.Has(mail.Draft) && b.Role != mail.RoleDrafts {
		return 0, nil
	}
	keys, err := tx.Keys(m.ID)
	if err != nil || !keys.Named {
		return 0, err
	}
	uid, id, err := tx.keptDraft(keys.ID)
	if err != nil || uid == 0 {
		return keys.ID, err
	}
	old, ok, err := tx.message(dst, uid)
	if err != nil || !ok || old.ID != id {
		return keys.ID, err
	}
	if err := tx.takeOut(dst, old); err != nil {
		return 0, err
	}
	return keys.ID, tx.drop(dst, old)
}

// keptDraft returns the newest deleted version of a draft, 0 if none was kept. It may have
// gone.
func (s *Snapshot) keptDraft(hash uint64) (mail.UID, mail.MessageID, error) {
	v, ok, err := s.r.Get(engine.Key(famDraft, hash))
	if err != nil || !ok {
		return 0, 0, err
	}
	p, err := unseal(recDraft, v)
	if err != nil {
		return 0, 0, err
	}
	d := dec{Rest: p}
	uid, id := mail.UID(d.U()), mail.MessageID(d.U())
	return uid, id, d.End("deleted draft")
}

// moveNotes takes the annotations of a message along, those of all readers.
func (tx *Tx) moveNotes(src *txBox, from mail.UID, dst *txBox, to mail.UID) error {
	if src.notes == 0 {
		return nil
	}
	list, err := tx.notesOf(src.ID, from)
	if err != nil {
		return err
	}
	if err := tx.dropNotes(src, from); err != nil {
		return err
	}
	for _, n := range list {
		if n.Value == nil {
			continue
		}
		n.UID, n.ModSeq = to, tx.mod
		if err := tx.countNotes(dst, 1, n.size()); err != nil {
			return err
		}
		if err := tx.putNote(dst, n.reader, &n.Note); err != nil {
			return err
		}
	}
	return nil
}

func keptKey(uid mail.UID) []byte { return engine.Key(famOrigin, uint64(uid)) }

// origin returns where a message lay that is kept.
func (s *Snapshot) origin(kept mail.UID) (place, error) {
	v, ok, err := s.r.Get(keptKey(kept))
	if err == nil && !ok {
		err = fault.New(fault.Corrupt, "a deleted message does not know where it lay")
	}
	if err != nil {
		return place{}, err
	}
	return decodeOrigin(v)
}

func decodeOrigin(v []byte) (place, error) {
	p, err := unseal(recOrigin, v)
	if err != nil {
		return place{}, err
	}
	d := dec{Rest: p}
	at := place{mail.MailboxID(d.U()), mail.UID(d.U())}
	return at, d.End("origin")
}
