package store

import (
	"hash/fnv"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// Facts are what is known of a message for ever, made at delivery and shared by its
// copies. Byte slices alias the snapshot: they are valid until its View ends.
type Facts struct {
	Size          int64 // of the whole message
	HeaderSize    int64 // of the top header with its empty line
	Body          mail.BlobRef
	Envelope      []byte // ENVELOPE in wire form
	BodyStructure []byte // BODYSTRUCTURE in wire form
	head          int64  // bytes in the header record
	parts         []byte
	keys          []byte
	home          place
}

// SortKeys are the rest of the facts: what SORT, THREAD, SEARCH and PREVIEW look at.
type SortKeys struct {
	Subject     string // decoded
	Base        string // base subject (RFC 5256, 2.1)
	Reply       bool   // the subject was of a reply or a forward
	Date        time.Time
	From        string // local part of the first address, or the name of a group before it
	To          string
	Cc          string
	DisplayFrom string // RFC 5957
	DisplayTo   string
	MessageID   string
	References  []uint64 // HashMessageID of each, oldest first; the first of In-Reply-To if none
	Preview     string
	Attachment  bool
}

// place is where a message lies.
type place struct {
	box mail.MailboxID
	uid mail.UID
}

// Parts returns the message's part tree with offsets into the whole message.
func (f *Facts) Parts() (*mime.Part, error) {
	p, err := mime.ParsePart(f.parts)
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, "a stored part tree is broken", err)
	}
	return p, nil
}

// HashMessageID is how a Message-ID stands in the thread index and in References.
func HashMessageID(id string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(id))
	return h.Sum64()
}

// encodeFacts returns the part of the record that all recipients share.
func encodeFacts(p *Parcel) []byte {
	m := p.message
	var e enc
	e.i(p.Size())
	e.i(m.HeaderSize + p.prefix)
	e.i(int64(len(p.head)))
	e.raw(p.body[:]...)
	e.bytes(m.Envelope)
	e.bytes(m.BodyStructure)
	root := m.Root
	if p.prefix > 0 {
		shifted, _ := mime.ParsePart(root.AppendBinary(nil)) // our own bytes
		shifted.Shift(p.prefix)
		root = shifted
	}
	e.bytes(root.AppendBinary(nil))
	e.str(m.Subject)
	e.str(m.BaseSubject)
	e.bool(m.IsReply)
	e.bool(!m.Date.IsZero())
	if !m.Date.IsZero() {
		_, zone := m.Date.Zone()
		e.i(m.Date.Unix())
		e.i(int64(zone))
	}
	e.str(m.FirstFrom.Mailbox)
	e.str(m.FirstTo.Mailbox)
	e.str(m.FirstCc.Mailbox)
	e.str(display(m.FirstFrom))
	e.str(display(m.FirstTo))
	e.str(m.MessageID)
	refs := referenceHashes(m)
	if len(m.References) == 0 && len(refs) > 1 {
		refs = refs[:1] // of In-Reply-To only the first is a parent (RFC 5256, 3)
	}
	e.u(uint64(len(refs)))
	for _, r := range refs {
		e.u(r)
	}
	e.str(m.Preview)
	e.bool(m.HasAttachment)
	return e
}

func referenceHashes(m *mime.Message) []uint64 {
	ids := m.References
	if len(ids) == 0 {
		ids = m.InReplyTo
	}
	hashes := make([]uint64, len(ids))
	for i, id := range ids {
		hashes[i] = HashMessageID(id)
	}
	return hashes
}

// display is what an address shows (RFC 5957, 3).
func display(a mime.Address) string {
	switch {
	case a.Name != "":
		return a.Name
	case a.Host == "":
		return a.Mailbox
	}
	return a.Mailbox + "@" + a.Host
}

// factsRecord puts the home in front of the shared part.
func factsRecord(home place, shared []byte) []byte {
	e := make(enc, 0, len(shared)+16)
	e.u(uint64(home.box))
	e.u(uint64(home.uid))
	e.raw(shared...)
	return seal(recFacts, e)
}

func decodeFacts(b []byte) (Facts, error) {
	p, err := unseal(recFacts, b)
	if err != nil {
		return Facts{}, err
	}
	d := dec{b: p}
	f := Facts{home: place{mail.MailboxID(d.u()), mail.UID(d.u())}}
	f.Size, f.HeaderSize, f.head = d.i(), d.i(), d.i()
	copy(f.Body[:], d.take(32))
	f.Envelope, f.BodyStructure, f.parts = d.bytes(), d.bytes(), d.bytes()
	f.keys = d.b
	return f, d.err("facts")
}

// SortKeys decodes the rest of the facts.
func (f *Facts) SortKeys() (SortKeys, error) {
	d := dec{b: f.keys}
	k := SortKeys{Subject: d.str(), Base: d.str(), Reply: d.bool()}
	if d.bool() {
		sec, zone := d.i(), d.i()
		k.Date = time.Unix(sec, 0).In(time.FixedZone("", int(zone)))
	}
	k.From, k.To, k.Cc, k.DisplayFrom, k.DisplayTo = d.str(), d.str(), d.str(), d.str(), d.str()
	k.MessageID = d.str()
	k.References = make([]uint64, d.count())
	for i := range k.References {
		k.References[i] = d.u()
	}
	k.Preview, k.Attachment = d.str(), d.bool()
	return k, d.err("facts")
}

// RawKeys are the SortKeys that order and thread messages, read in place: the byte
// slices alias the snapshot, and nothing is allocated. 100,000 messages are read so.
type RawKeys struct {
	Base                                          []byte
	Reply                                         bool
	Dated                                         bool  // there is a Date
	Date                                          int64 // seconds since 1970
	From, To, Cc, DisplayFrom, DisplayTo, Message []byte
	refs                                          []byte // a count and the hashes
}

// RawKeys reads the keys of the facts into k.
func (f *Facts) RawKeys(k *RawKeys) error {
	d := dec{b: f.keys}
	d.bytes() // the whole subject
	*k = RawKeys{Base: d.bytes(), Reply: d.bool(), Dated: d.bool()}
	if k.Dated {
		k.Date = d.i()
		d.i()
	}
	k.From, k.To, k.Cc, k.DisplayFrom, k.DisplayTo = d.bytes(), d.bytes(), d.bytes(), d.bytes(), d.bytes()
	k.Message = d.bytes()
	k.refs = d.b
	return d.err("facts")
}

// AppendReferences appends the References of the SortKeys to list.
func (k *RawKeys) AppendReferences(list []uint64) ([]uint64, error) {
	d := dec{b: k.refs}
	for range d.count() {
		list = append(list, d.u())
	}
	return list, d.err("facts")
}
