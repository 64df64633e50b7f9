package store

import (
	"encoding/binary"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
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
	keys          []byte // of a record of an earlier version, which holds the Keys; else nil
	preview       []byte
	attachment    bool
	home          place
	shared        []byte // all but the home
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
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return h
}

// encodeFacts returns the part of the record that all recipients share.
func encodeFacts(p *Parcel) []byte {
	m := p.message
	e := make(enc, 0, 128+len(m.Envelope)+len(m.BodyStructure)+len(m.Preview))
	e.I(p.Size())
	e.I(m.HeaderSize + p.prefix)
	e.I(int64(len(p.head)))
	blob := p.Blob()
	e.Raw(blob[:]...)
	e.Bytes(m.Envelope)
	e.Bytes(m.BodyStructure)
	root := m.Root
	if p.prefix != 0 {
		shifted, _ := mime.ParsePart(root.AppendBinary(nil)) // our own bytes
		shifted.Shift(p.prefix)
		root = shifted
	}
	e.Bytes(root.AppendBinary(nil))
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
	e := make(enc, 0, len(shared)+25)
	e.Raw(recLeanFacts)
	e.U(uint64(home.box))
	e.U(uint64(home.uid))
	e.Raw(shared...)
	return binary.BigEndian.AppendUint32(e, record.Sum(e))
}

func decodeFacts(b []byte) (Facts, error) {
	kind, p, err := record.Open(b)
	if err == nil {
		err = newer(kind)
	}
	if err == nil && kind != recFacts && kind != recLeanFacts {
		err = fault.Newf(fault.Corrupt, "a stored record has kind %d, not %d", kind, recLeanFacts)
	}
	if err != nil {
		return Facts{}, err
	}
	d := dec{Rest: p}
	f := Facts{home: place{mail.MailboxID(d.U()), mail.UID(d.U())}}
	f.shared = d.Rest
	f.Size, f.HeaderSize, f.head = d.I(), d.I(), d.I()
	copy(f.Body[:], d.Take(32))
	f.Envelope, f.BodyStructure, f.parts = d.Bytes(), d.Bytes(), d.Bytes()
	if kind == recFacts {
		f.keys = d.Rest
	} else {
		f.preview, f.attachment = d.Bytes(), d.Bool()
	}
	return f, d.Err("facts")
}

// Preview returns the beginning of the text (RFC 8970), valid as the facts are, and
// whether there are attachments.
func (f *Facts) Preview() (preview []byte, attachment bool, err error) {
	if f.keys == nil {
		return f.preview, f.attachment, nil
	}
	var k Keys
	if err := k.ofFacts(f); err != nil {
		return nil, false, err
	}
	d := dec{Rest: k.rest}
	preview, attachment = d.Bytes(), d.Bool()
	return preview, attachment, d.Err("facts")
}

// sharedFacts returns what another account is to keep of a message: all of the facts
// but the home, in the present form, and the record of its keys.
func (s *Snapshot) sharedFacts(id mail.MessageID, f *Facts) (facts, keys []byte, err error) {
	if f.keys == nil {
		v, ok, err := s.getLong(famKeys, uint64(id))
		if err == nil && !ok {
			err = errNoKeys
		}
		return append([]byte(nil), f.shared...), append([]byte(nil), v...), err
	}
	var k Keys
	if err := k.ofFacts(f); err != nil {
		return nil, nil, err
	}
	preview, attachment, err := f.Preview()
	e := append(enc(nil), f.shared[:len(f.shared)-len(f.keys)]...)
	e.Bytes(preview)
	e.Bool(attachment)
	return e, k.encode(), err
}
