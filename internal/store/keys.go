package store

import (
	"bytes"
	"encoding/binary"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// Keys are what SORT, THREAD and SEARCH SUBJECT look at of a message, made at delivery
// and for ever. They lie apart from the facts, which are several times as large: a
// hundred thousand messages are sorted by reading these alone. Byte slices alias the
// snapshot.
type Keys struct {
	Subject     []byte // decoded
	Base        []byte // base subject (RFC 5256, 2.1)
	Reply       bool   // the subject was of a reply or a forward
	Dated       bool   // there is a Date
	Date        int64  // seconds since 1970
	zone        int64  // of Date, in seconds
	From        []byte // local part of the first address, or the name of a group before it
	To          []byte
	Cc          []byte
	DisplayFrom []byte // RFC 5957
	DisplayTo   []byte
	Named       bool   // there is a Message-ID,
	ID          uint64 // HashMessageID of it
	refs        []byte // a count and the hashes
	rest        []byte // of facts that hold the keys: what follows them

	// Known says that Subject is all that the fields of this name in the header say; there
	// are such fields if it is Titled.
	Known, Titled bool
}

// Bits of the first number of a record of keys.
const (
	keysReply = 1 << iota
	keysDated
	keysNamed
	keysKnown
	keysTitled
)

// Sent returns the Date as its sender wrote it, zero if there is none.
func (k *Keys) Sent() time.Time {
	if !k.Dated {
		return time.Time{}
	}
	return time.Unix(k.Date, 0).In(time.FixedZone("", int(k.zone)))
}

// AppendReferences appends the hashes of the References, oldest first; that of the first
// of In-Reply-To if there are none.
func (k *Keys) AppendReferences(list []uint64) ([]uint64, error) {
	d := dec{Rest: k.refs}
	for range d.Count() {
		list = append(list, fixed64(&d))
	}
	return list, d.Err("keys")
}

// EachKeys reads the keys of many messages. fn is called for each id with its place in
// ids, not always in order: those of messages that earlier versions stored come last,
// out of their facts. ok is false if no mailbox holds the message any more. k is valid
// during the call only; fn returning an error ends it.
func (s *Snapshot) EachKeys(ids []mail.MessageID, fn func(i int, k *Keys, ok bool) error) error {
	var k Keys
	var old []mail.MessageID
	var places []int
	err := s.each(famKeys, ids, func(i int, v []byte) error {
		if v == nil {
			old, places = append(old, ids[i]), append(places, i)
			return nil
		}
		if err := k.decode(v); err != nil {
			return err
		}
		return fn(i, &k, true)
	})
	if err != nil || len(old) == 0 {
		return err
	}
	return s.EachFacts(old, func(i int, f Facts, ok bool) error {
		if !ok {
			return fn(places[i], nil, false)
		}
		if err := k.ofFacts(&f); err != nil {
			return err
		}
		return fn(places[i], &k, true)
	})
}

// Keys returns the keys of a message. Faults: NotFound if no mailbox holds it any more.
func (s *Snapshot) Keys(id mail.MessageID) (k Keys, err error) {
	v, ok, err := s.getLong(famKeys, uint64(id))
	switch {
	case err != nil:
		return k, err
	case ok:
		return k, k.decode(v)
	}
	f, err := s.Facts(id)
	if err == nil {
		err = k.ofFacts(&f)
	}
	return k, err
}

// encodeKeys returns the record of a message's keys.
func encodeKeys(p *Parcel) []byte {
	m := p.message
	k := Keys{
		Subject: []byte(m.Subject), Base: []byte(m.BaseSubject), Reply: m.IsReply, Dated: !m.Date.IsZero(),
		From: []byte(m.FirstFrom.Mailbox), To: []byte(m.FirstTo.Mailbox), Cc: []byte(m.FirstCc.Mailbox),
		DisplayFrom: []byte(display(m.FirstFrom)), DisplayTo: []byte(display(m.FirstTo)),
		Named: m.MessageID != "", ID: HashMessageID(m.MessageID),
	}
	if k.Dated {
		_, zone := m.Date.Zone()
		k.Date, k.zone = m.Date.Unix(), int64(zone)
	}
	k.Known, k.Titled = titles(p.head, m.Subject)
	refs := referenceHashes(m)
	if len(m.References) == 0 && len(refs) > 1 {
		refs = refs[:1] // of In-Reply-To only the first is a parent (RFC 5256, 3)
	}
	var e enc
	e.U(uint64(len(refs)))
	for _, r := range refs {
		e = binary.LittleEndian.AppendUint64(e, r)
	}
	k.refs = e
	return k.encode()
}

// titles tells whether all that the subjects of a header say, as SEARCH reads them, is this,
// and whether there are any.
func titles(head []byte, subject string) (known, titled bool) {
	for name, value := range mime.Fields(head) {
		if len(name) == len("Subject") && strings.EqualFold(string(name), "Subject") {
			if titled = true; mime.DecodeWords(mime.Unfold(value)) != subject {
				return false, true
			}
		}
	}
	return titled || subject == "", titled
}

func (k *Keys) encode() []byte {
	bits := uint64(0)
	for i, is := range [...]bool{k.Reply, k.Dated, k.Named, k.Known, k.Titled} { // in the order of the constants
		if is {
			bits |= 1 << i
		}
	}
	e := make(enc, 0, 64+len(k.Subject)+len(k.DisplayFrom)+len(k.DisplayTo)+len(k.refs))
	e.U(bits)
	e.Bytes(k.Subject)
	at := bytes.LastIndex(k.Subject, k.Base) // mostly it is the end of the subject
	if e.U(uint64(at + 1)); at < 0 {
		e.Bytes(k.Base)
	} else {
		e.U(uint64(len(k.Base)))
	}
	if k.Dated {
		e.I(k.Date)
		e.I(k.zone)
	}
	for _, b := range [...][]byte{k.From, k.To, k.Cc, k.DisplayFrom, k.DisplayTo} {
		e.Bytes(b)
	}
	if k.Named {
		e = binary.LittleEndian.AppendUint64(e, k.ID)
	}
	e.Raw(k.refs...)
	return seal(recKeys, e)
}

// decode reads a record.
func (k *Keys) decode(v []byte) error {
	p, err := unseal(recKeys, v)
	if err != nil {
		return err
	}
	d := dec{Rest: p}
	bits := d.U()
	*k = Keys{
		Reply: bits&keysReply != 0, Dated: bits&keysDated != 0, Named: bits&keysNamed != 0,
		Known: bits&keysKnown != 0, Titled: bits&keysTitled != 0, Subject: d.Bytes(),
	}
	if at := d.U(); at == 0 {
		k.Base = d.Bytes()
	} else if from, n := at-1, d.U(); from <= uint64(len(k.Subject)) && n <= uint64(len(k.Subject))-from {
		k.Base = k.Subject[from : from+n]
	} else {
		return fault.New(fault.Corrupt, "a stored record of keys is broken")
	}
	if k.Dated {
		k.Date, k.zone = d.I(), d.I()
	}
	k.From, k.To, k.Cc, k.DisplayFrom, k.DisplayTo = d.Bytes(), d.Bytes(), d.Bytes(), d.Bytes(), d.Bytes()
	if k.Named {
		k.ID = fixed64(&d)
	}
	k.refs = d.Rest
	return d.Err("keys")
}

// ofFacts reads the keys out of facts that hold them, as earlier versions wrote them.
func (k *Keys) ofFacts(f *Facts) error {
	if f.keys == nil {
		return errNoKeys
	}
	d := dec{Rest: f.keys}
	*k = Keys{Subject: d.Bytes(), Base: d.Bytes(), Reply: d.Bool(), Dated: d.Bool()}
	if k.Dated {
		k.Date, k.zone = d.I(), d.I()
	}
	k.From, k.To, k.Cc, k.DisplayFrom, k.DisplayTo = d.Bytes(), d.Bytes(), d.Bytes(), d.Bytes(), d.Bytes()
	if id := d.Bytes(); len(id) > 0 {
		k.Named, k.ID = true, HashMessageID(string(id))
	}
	var refs enc
	n := d.Count()
	refs.U(uint64(n))
	for range n {
		refs = binary.LittleEndian.AppendUint64(refs, d.U())
	}
	k.refs, k.rest = refs, d.Rest
	return d.Err("facts")
}

var errNoKeys = fault.New(fault.Corrupt, "the sort keys of a message are not there")

// fixed64 reads a hash, which as a varint would take more.
func fixed64(d *dec) uint64 {
	if b := d.Take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}
