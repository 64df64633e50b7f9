package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// A message that was brought from elsewhere is tied to where it came from: a record says
// which message of which mailbox there it was, and is written in the commit that appends it.
// So whoever brings mail knows after any crash what is here already. Ties do not go with
// their messages: what was expunged here does not come again.

// Limits on ties.
const (
	maxTieKey   = 64      // bytes of what the source calls a message
	maxTieName  = 400     // bytes of the name of a source, or of a mailbox in it
	maxTieState = 4 << 10 // bytes of the state of a mailbox
	maxTieUID   = 1 << 31 // a higher UID is not kept: there are to be some left
)

// Tie is what is remembered of a message that was brought.
type Tie struct {
	Key      string         // what the source calls it: 1 to 64 bytes
	Message  mail.MessageID // 0: it is not known any more which it was
	Mailbox  mail.MailboxID // where it was put
	UID      mail.UID
	Flags    mail.Flags // as the source had them
	Keywords []string
	Size     int64 // bytes at the source
	Date     int64 // internal date there, seconds since 1970; 0: there is none
	Content  [sha256.Size]byte
	// Stored is the Fingerprint of what was stored, and Changed says why, if that is not what
	// the source gave.
	Stored  [sha256.Size]byte
	Changed string
}

// TiedBox is what is remembered of a mailbox of a source. By its names, of at most 400 bytes
// each, the ties of one are apart from those of others.
type TiedBox struct {
	Source, Mailbox string
	At              mail.MailboxID // into which its messages go
	Validity        uint32         // its UIDVALIDITY, if At has taken it over; 0: it has not
	State           []byte         // of whoever brings the mail: at most 4 KB
}

// name is what stands for the box in keys: 16 bytes of the hash of the source's name, and 16
// of that of both names.
func (b *TiedBox) name() []byte {
	source := sha256.Sum256([]byte(b.Source))
	both := sha256.Sum256(append(source[:], b.Mailbox...))
	return append(source[:16:16], both[:16]...)
}

const tieKeyAt = 1 + 32 // where the source's key begins

func (b *TiedBox) tieKey(key string) []byte {
	return slices.Concat([]byte{famTie}, b.name(), []byte(key))
}

func (b *TiedBox) key() []byte { return append([]byte{famTiedBox}, b.name()...) }

func (t *Tie) encode() []byte {
	e := make(enc, 0, 80+len(t.Changed))
	e.U(uint64(t.Message))
	e.U(uint64(t.Mailbox))
	e.U(uint64(t.UID))
	e.Raw(byte(t.Flags))
	e.U(uint64(len(t.Keywords)))
	for _, k := range t.Keywords {
		e.Str(k)
	}
	e.I(t.Size)
	e.I(t.Date)
	e.Raw(t.Content[:]...)
	if e.Str(t.Changed); t.Changed != "" {
		e.Raw(t.Stored[:]...)
	}
	return seal(recTie, e)
}

func decodeTie(key, v []byte) (Tie, error) {
	p, err := unseal(recTie, v)
	if err != nil {
		return Tie{}, err
	}
	if len(key) <= tieKeyAt {
		return Tie{}, fault.New(fault.Corrupt, "a stored tie has no key")
	}
	d := dec{Rest: p}
	t := Tie{Key: string(key[tieKeyAt:]), Message: mail.MessageID(d.U()), Mailbox: mail.MailboxID(d.U()), UID: mail.UID(d.U())}
	t.Flags = mail.Flags(d.Byte())
	for range d.Count() {
		t.Keywords = append(t.Keywords, d.Str())
	}
	t.Size, t.Date = d.I(), d.I()
	copy(t.Content[:], d.Take(sha256.Size))
	if t.Stored, t.Changed = t.Content, d.Str(); t.Changed != "" {
		copy(t.Stored[:], d.Take(sha256.Size))
	}
	return t, d.Err("tie")
}

func (b *TiedBox) encode() []byte {
	var e enc
	e.Str(b.Source)
	e.Str(b.Mailbox)
	e.U(uint64(b.At))
	e.U(uint64(b.Validity))
	e.Bytes(b.State)
	return seal(recTiedBox, e)
}

func decodeTiedBox(v []byte) (TiedBox, error) {
	p, err := unseal(recTiedBox, v)
	if err != nil {
		return TiedBox{}, err
	}
	d := dec{Rest: p}
	b := TiedBox{Source: d.Str(), Mailbox: d.Str(), At: mail.MailboxID(d.U()), Validity: uint32(d.U()), State: bytes.Clone(d.Bytes())}
	return b, d.Err("tied mailbox")
}

// Tie returns the tie of a message of a source.
func (s *Snapshot) Tie(box TiedBox, key string) (t Tie, ok bool, err error) {
	k := box.tieKey(key)
	v, ok, err := s.r.Get(k)
	if err != nil || !ok {
		return Tie{}, false, err
	}
	t, err = decodeTie(k, v)
	return t, err == nil, err
}

// EachTie calls fn for the ties of a mailbox of a source in order of their keys, those behind
// a key, until fn returns false.
func (s *Snapshot) EachTie(box TiedBox, behind string, fn func(Tie) bool) error {
	var bad error
	from := box.tieKey(behind)
	if behind != "" {
		from = append(from, 0)
	}
	err := s.r.Scan(from, engine.After(box.tieKey("")), false, func(k, v []byte) bool {
		var t Tie
		t, bad = decodeTie(k, v)
		return bad == nil && fn(t)
	})
	if err == nil {
		err = bad
	}
	return err
}

// TiedBox returns what is remembered of a mailbox of a source: no more than the names if that
// is nothing.
func (s *Snapshot) TiedBox(source, mailbox string) (TiedBox, error) {
	b := TiedBox{Source: source, Mailbox: mailbox}
	v, ok, err := s.r.Get(b.key())
	if err != nil || !ok {
		return b, err
	}
	return decodeTiedBox(v)
}

// TiedBoxes returns what is remembered of all mailboxes of all sources.
func (s *Snapshot) TiedBoxes() (list []TiedBox, err error) {
	var bad error
	err = s.r.Scan([]byte{famTiedBox}, []byte{famTiedBox + 1}, false, func(_, v []byte) bool {
		var b TiedBox
		b, bad = decodeTiedBox(v)
		list = append(list, b)
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	return list, err
}

// PutTiedBox remembers something of a mailbox of a source. Faults: TooLarge.
func (tx *Tx) PutTiedBox(b TiedBox) error {
	if len(b.State) > maxTieState || len(b.Source) > maxTieName || len(b.Mailbox) > maxTieName {
		return fault.Newf(fault.TooLarge, "of a mailbox elsewhere no more than names of %d bytes and a state of %d can be remembered", maxTieName, maxTieState)
	}
	return tx.w.Put(b.key(), b.encode())
}

// PutTie remembers a message of a source. Faults: Invalid key.
func (tx *Tx) PutTie(box TiedBox, t Tie) error {
	if t.Key == "" || len(t.Key) > maxTieKey {
		return fault.Newf(fault.Invalid, "the key of a message is empty or longer than %d bytes", maxTieKey)
	}
	return tx.w.Put(box.tieKey(t.Key), t.encode())
}

// DropTie forgets a tie: under the key of its message at the source another is, or will be.
func (tx *Tx) DropTie(box TiedBox, key string) error { return tx.w.Delete(box.tieKey(key)) }

// AppendTied is Append of a message that comes from elsewhere, and remembers that: what
// Append gives is filled into the tie, which comes back. If another message has a UID that is
// wanted, the mailbox gets a new UIDVALIDITY: to whoever knows it from there it is not the
// mailbox that he knows.
func (tx *Tx) AppendTied(at mail.MailboxID, m NewMessage, wanted mail.UID, box TiedBox, t Tie) (Tie, error) {
	b, err := tx.open(at)
	if err != nil {
		return t, err
	}
	if wanted >= b.UIDNext && wanted <= maxTieUID {
		b.UIDNext = wanted
	} else if wanted > 0 {
		if err := tx.giveWay(b, wanted); err != nil {
			return t, err
		}
	}
	if t.UID, err = tx.Append(at, m); err != nil {
		return t, err
	}
	t.Mailbox, t.Message = at, mail.MessageID(tx.acct.nextMessage-1)
	return t, tx.PutTie(box, t)
}

// giveWay changes the UIDVALIDITY of a mailbox if a UID is taken.
func (tx *Tx) giveWay(b *txBox, uid mail.UID) error {
	_, taken, err := tx.message(b, uid)
	if err == nil && taken {
		tx.renewValidity(b)
	}
	return err
}

func (tx *Tx) renewValidity(b *txBox) {
	tx.acct.validity = max(tx.acct.validity+1, validityAt(tx.now))
	b.UIDValidity = tx.acct.validity
	tx.touch(b)
	b.LogFloor = tx.mod // who watches the mailbox is told of it anew
}

// highestValidity is the highest UIDVALIDITY that is taken over: those that are given out go
// on behind it.
const highestValidity = 1<<32 - 1<<27

// TakeValidity gives a mailbox that never had a message the UIDVALIDITY that it has
// elsewhere, and tells whether it has it now.
//
// To clients it is the mailbox that they know from there, with a modseq of there up to which
// they know it (RFC 7162, 3.2.5). So from here on modseqs are above those, and the log begins
// anew: such a client is told of all that is here and of all that is not.
func (tx *Tx) TakeValidity(id mail.MailboxID, validity uint32) (bool, error) {
	b, err := tx.open(id)
	if err != nil || b.UIDValidity == validity && b.UIDNext != 1 {
		return err == nil, err
	}
	if validity == 0 || validity > highestValidity || b.UIDNext != 1 {
		return false, nil
	}
	b.UIDValidity = validity
	tx.acct.validity = max(tx.acct.validity, validity)
	tx.leap()
	tx.touch(b)
	b.LogFloor = tx.mod
	return true, nil
}

// Where modseqs go on when a UIDVALIDITY was taken over: most servers count changes from 1, and
// what no clock should say leaves enough below 2^53.
const (
	leastLeap = 1 << 50
	mostLeap  = 1<<53 - 1<<50
)

// FromElsewhere tells whether there may be clients that know the mailbox, with its UIDs and
// modseqs, from another server or from a time that is lost. It is so of all that took a
// UIDVALIDITY over, and of all that were brought back from an earlier time.
func (m *Mailbox) FromElsewhere() bool { return m.LogFloor >= leastLeap }

// leap makes the modseq of this commit, and all after it, higher than those of other servers:
// the microseconds since 1970 if they are not so high yet. That is above what counts changes
// or milliseconds, and above what an account has after a leap in which its mail was brought
// elsewhere before; and below 2^53, so that clients that calculate in floating point have it
// exactly.
func (tx *Tx) leap() {
	was := tx.mod
	tx.mod = leapFrom(was, tx.now)
	for _, b := range tx.boxes { // what this commit has done to others is of the same modseq
		if b.HighestModSeq == was {
			b.HighestModSeq = tx.mod
		}
		if b.Created == was {
			b.Created = tx.mod
		}
	}
}

func leapFrom(was mail.ModSeq, now time.Time) mail.ModSeq {
	return max(was, leastLeap, mail.ModSeq(min(max(now.UnixMicro(), 0), mostLeap)))
}

// renamedTied gives a mailbox that is renamed a new UIDVALIDITY if it shares one that was
// taken over with another: those that are given out here are different ones, so that no
// mailbox is taken for one that had its name before it (RFC 9051, 2.3.1.1).
func (tx *Tx) renamedTied(b *txBox) error {
	if tx.taken == nil {
		tx.taken = map[uint32]int{}
		boxes, err := tx.TiedBoxes()
		if err != nil {
			return err
		}
		for _, t := range boxes {
			tx.taken[t.Validity]++
		}
	}
	if tx.taken[b.UIDValidity] > 1 {
		tx.renewValidity(b)
	}
	return nil
}

// Forget forgets what was brought from a source, or from one of its mailboxes ("": all): it
// would come again. Faults: NotFound if nothing was.
func (tx *Tx) Forget(source, mailbox string) error {
	box := TiedBox{Source: source, Mailbox: mailbox}
	prefix := box.name()
	if mailbox == "" {
		prefix = prefix[:16]
	}
	some := false
	for _, family := range []byte{famTie, famTiedBox} {
		from := append([]byte{family}, prefix...)
		err := tx.w.Scan(from, engine.After(from), false, func(_, _ []byte) bool { some = true; return false })
		if err == nil {
			err = tx.w.DeleteRange(from, engine.After(from))
		}
		if err != nil {
			return err
		}
	}
	if !some {
		return fault.New(fault.NotFound, "nothing was brought from there")
	}
	return nil
}

// Records returns about how many bytes an Append of the parcel writes.
func (p *Parcel) Records() int {
	c := p.records()
	return len(c.facts) + len(c.keys) + len(c.header) + len(c.body) + binary.MaxVarintLen64*(8+len(c.references))
}

// Fingerprint returns what Snapshot.Fingerprint will of the message.
func (p *Parcel) Fingerprint() [sha256.Size]byte {
	sum := p.Digest()
	return sha256.Sum256(slices.Concat(p.head, sum[:]))
}

// ties checks what is remembered of mail from elsewhere.
func (v *verifier) ties() error {
	return v.snap.r.Scan([]byte{famTie}, []byte{famTiedBox + 1}, false, func(k, val []byte) bool {
		var t Tie
		var err error
		if k[0] == famTie {
			t, err = decodeTie(k, val)
		} else {
			_, err = decodeTiedBox(val)
		}
		if err != nil {
			v.problem(0, "record %x: %s", k, fault.Say(err))
		} else if uint64(t.Message) >= v.snap.acct.nextMessage {
			v.problem(0, "what was brought as message %d is not given out yet", t.Message)
		}
		return true
	})
}
