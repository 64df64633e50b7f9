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
	Size          int64        // of the whole message
	HeaderSize    int64        // of the top header with its empty line
	Body          mail.BlobRef // zero if the body is small or there is none
	Envelope      []byte       // ENVELOPE in wire form
	BodyStructure []byte       // BODYSTRUCTURE in wire form
	head          int64        // bytes in the header record
	parts         []byte
	keys          []byte
	home          place
	shared        []byte // all but the home
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
	e.I(p.Size())
	e.I(m.HeaderSize + p.prefix)
	e.I(int64(len(p.head)))
	blob := p.Blob()
	e.Raw(blob[:]...)
	e.Bytes(m.Envelope)
	e.Bytes(m.BodyStructure)
	root := m.Root
	if p.prefix > 0 {
		shifted, _ := mime.ParsePart(root.AppendBinary(nil)) // our own bytes
		shifted.Shift(p.prefix)
		root = shifted
	}
	e.Bytes(root.AppendBinary(nil))
	e.Str(m.Subject)
	e.Str(m.BaseSubject)
	e.Bool(m.IsReply)
	e.Bool(!m.Date.IsZero())
	if !m.Date.IsZero() {
		_, zone := m.Date.Zone()
		e.I(m.Date.Unix())
		e.I(int64(zone))
	}
	e.Str(m.FirstFrom.Mailbox)
	e.Str(m.FirstTo.Mailbox)
	e.Str(m.FirstCc.Mailbox)
	e.Str(display(m.FirstFrom))
	e.Str(display(m.FirstTo))
	e.Str(m.MessageID)
	refs := referenceHashes(m)
	if len(m.References) == 0 && len(refs) > 1 {
		refs = refs[:1] // of In-Reply-To only the first is a parent (RFC 5256, 3)
	}
	e.U(uint64(len(refs)))
	for _, r := range refs {
		e.U(r)
	}
	e.Str(m.Preview)
	e.Bool(m.HasAttachment)
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
	e.U(uint64(home.box))
	e.U(uint64(home.uid))
	e.Raw(shared...)
	return seal(recFacts, e)
}

func decodeFacts(b []byte) (Facts, error) {
	p, err := unseal(recFacts, b)
	if err != nil {
		return Facts{}, err
	}
	d := dec{Rest: p}
	f := Facts{home: place{mail.MailboxID(d.U()), mail.UID(d.U())}}
	f.shared = d.Rest
	f.Size, f.HeaderSize, f.head = d.I(), d.I(), d.I()
	copy(f.Body[:], d.Take(32))
	f.Envelope, f.BodyStructure, f.parts = d.Bytes(), d.Bytes(), d.Bytes()
	f.keys = d.Rest
	return f, d.Err("facts")
}

// SortKeys decodes the rest of the facts.
func (f *Facts) SortKeys() (SortKeys, error) {
	d := dec{Rest: f.keys}
	k := SortKeys{Subject: d.Str(), Base: d.Str(), Reply: d.Bool()}
	if d.Bool() {
		sec, zone := d.I(), d.I()
		k.Date = time.Unix(sec, 0).In(time.FixedZone("", int(zone)))
	}
	k.From, k.To, k.Cc, k.DisplayFrom, k.DisplayTo = d.Str(), d.Str(), d.Str(), d.Str(), d.Str()
	k.MessageID = d.Str()
	k.References = make([]uint64, d.Count())
	for i := range k.References {
		k.References[i] = d.U()
	}
	k.Preview, k.Attachment = d.Str(), d.Bool()
	return k, d.Err("facts")
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
	d := dec{Rest: f.keys}
	d.Bytes() // the whole subject
	*k = RawKeys{Base: d.Bytes(), Reply: d.Bool(), Dated: d.Bool()}
	if k.Dated {
		k.Date = d.I()
		d.I()
	}
	k.From, k.To, k.Cc, k.DisplayFrom, k.DisplayTo = d.Bytes(), d.Bytes(), d.Bytes(), d.Bytes(), d.Bytes()
	k.Message = d.Bytes()
	k.refs = d.Rest
	return d.Err("facts")
}

// AppendReferences appends the References of the SortKeys to list.
func (k *RawKeys) AppendReferences(list []uint64) ([]uint64, error) {
	d := dec{Rest: k.refs}
	for range d.Count() {
		list = append(list, d.U())
	}
	return list, d.Err("facts")
}
