package queue

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Families of keys. Numbers are 8 bytes each, big-endian; times are milliseconds
// since 1970.
//
//	m id              a message: envelope, times, counts
//	p id n            its parcel, in pieces
//	r id n            its n-th recipient: state and last result
//	g id n            its n-th group: recipients of one lane that travel together
//	q lane 0 t id n   waiting groups of a lane by next attempt
//	l lane            a lane with waiting groups: when it is due, its pause
//	t t lane          lanes by when they are due
//	a t id kind       what happens to a message without an attempt, by time
//	k key             entries by idempotency key
//	n                 how many messages there are, and how many are held
const (
	famMessage   = 'm'
	famPiece     = 'p'
	famRecipient = 'r'
	famGroup     = 'g'
	famWaiting   = 'q'
	famLane      = 'l'
	famDue       = 't'
	famAlarm     = 'a'
	famKey       = 'k'
	famCount     = 'n'
)

// maxPiece is how much of a parcel one record holds.
const maxPiece = engine.MaxValue - 4096

// keyAge is how long an idempotency key is remembered.
const keyAge = 7 * 24 * time.Hour

// Kinds of alarms.
const (
	alarmDelay  = iota // tell the sender that it takes long
	alarmExpiry        // give up
	alarmReport        // a report is owed
	alarmForget        // an idempotency key has served
)

// message is what is known of a message as a whole.
type message struct {
	id                 ID // not in the record
	nonce              uint64
	created, expires   int64
	delayAt, expiryAt  int64         // alarms; 0: not set
	reportAt, heldAt   int64         // 0: not set
	env                mail.Envelope // without To
	road               Road
	size               int64
	has8Bit, needsUTF8 bool
	blob               mail.BlobRef
	pieces             int
	recipients, groups int
	open               int // recipients that wait
	owed               int // recipients with a report to come
}

// state is how far a recipient is.
type state uint8

const (
	waiting   state = iota
	delivered       // in a mailbox here, or taken by the next host
	failed
)

// Reports owed for a recipient.
const (
	owedFailure = 1 << iota
	owedDelay
	owedSuccess
)

// recipient is one recipient of a message.
type recipient struct {
	mail.Recipient
	group  int
	state  state
	owed   uint8
	at     int64 // of the last result; 0: none
	result Result
}

// group is what a courier is given at a time.
type group struct {
	lane     string
	next     int64 // next attempt
	attempts int
	waiting  int    // recipients that wait; it is listed in its lane while there are any and the message is not held
	at       int64  // last attempt; 0: none
	reason   string // why it waits, in words
}

// lane is a destination with waiting groups.
type lane struct {
	due       int64 // where it stands in famDue
	notBefore int64 // pause while its hosts are down
	fails     int   // pauses in a row
	reason    string
}

const version = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// enc writes a record: version, fields, CRC-32C.
type enc []byte

func newEnc() enc { return enc{version} }

func (e *enc) u(n uint64) { *e = binary.AppendUvarint(*e, n) }
func (e *enc) i(n int64)  { *e = binary.AppendVarint(*e, n) }
func (e *enc) str(ss ...string) {
	for _, s := range ss {
		e.u(uint64(len(s)))
		*e = append(*e, s...)
	}
}
func (e *enc) flag(vs ...bool) {
	for _, v := range vs {
		b := byte(0)
		if v {
			b = 1
		}
		*e = append(*e, b)
	}
}
func (e *enc) seal() []byte {
	return binary.BigEndian.AppendUint32(*e, crc32.Checksum(*e, castagnoli))
}

// dec reads a record. What is missing reads as zero and makes end fail.
type dec struct {
	b   []byte
	bad bool
}

func newDec(b []byte) (*dec, error) {
	n := len(b) - 4
	if n < 1 || crc32.Checksum(b[:n], castagnoli) != binary.BigEndian.Uint32(b[n:]) {
		return nil, fault.New(fault.Corrupt, "a queue record fails its checksum")
	}
	if b[0] != version {
		return nil, fault.Newf(fault.Corrupt, "a queue record has version %d; this server knows %d", b[0], version)
	}
	return &dec{b: b[1:n]}, nil
}

func (d *dec) u() uint64 {
	n, k := binary.Uvarint(d.b)
	if k <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[k:]
	return n
}

func (d *dec) i() int64 {
	n, k := binary.Varint(d.b)
	if k <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[k:]
	return n
}

func (d *dec) n() int { return int(min(d.u(), 1<<31-1)) }

func (d *dec) str() string {
	n := d.u()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *dec) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	b := d.b[0]
	d.b = d.b[1:]
	return b
}

func (d *dec) flag() bool { return d.byte() != 0 }

func (d *dec) end() error {
	if d.bad || len(d.b) > 0 {
		return fault.New(fault.Corrupt, "a queue record has the wrong length")
	}
	return nil
}

func (e *enc) address(a mail.Address) { e.str(a.Local, a.Domain) }
func (d *dec) address() mail.Address  { return mail.Address{Local: d.str(), Domain: d.str()} }

func (m *message) encode() []byte {
	e := newEnc()
	e.u(m.nonce)
	for _, t := range [...]int64{m.created, m.expires, m.delayAt, m.expiryAt, m.reportAt, m.heldAt, m.size} {
		e.i(t)
	}
	e.address(m.env.From)
	e.str(m.env.EnvID, m.env.Login, m.env.Helo, m.env.Peer, m.env.Protocol)
	e.u(uint64(m.env.Ret))
	e.flag(m.env.UTF8, m.env.Body8Bit, m.env.Binary, m.has8Bit, m.needsUTF8)
	e.u(uint64(m.road))
	e.str(string(m.blob[:]))
	for _, n := range [...]int{m.pieces, m.recipients, m.groups, m.open, m.owed} {
		e.u(uint64(n))
	}
	return e.seal()
}

func decodeMessage(id ID, b []byte) (*message, error) {
	d, err := newDec(b)
	if err != nil {
		return nil, err
	}
	m := &message{id: id, nonce: d.u()}
	for _, t := range [...]*int64{&m.created, &m.expires, &m.delayAt, &m.expiryAt, &m.reportAt, &m.heldAt, &m.size} {
		*t = d.i()
	}
	m.env.From = d.address()
	for _, s := range [...]*string{&m.env.EnvID, &m.env.Login, &m.env.Helo, &m.env.Peer, &m.env.Protocol} {
		*s = d.str()
	}
	m.env.Ret = mail.Ret(d.u())
	for _, f := range [...]*bool{&m.env.UTF8, &m.env.Body8Bit, &m.env.Binary, &m.has8Bit, &m.needsUTF8} {
		*f = d.flag()
	}
	m.road = Road(d.u() & 1)
	copy(m.blob[:], d.str())
	for _, n := range [...]*int{&m.pieces, &m.recipients, &m.groups, &m.open, &m.owed} {
		*n = d.n()
	}
	return m, d.end()
}

func (r *recipient) encode() []byte {
	e := newEnc()
	e.address(r.Address)
	e.u(uint64(r.Notify))
	e.str(r.ORcpt)
	e.u(uint64(r.group))
	e.u(uint64(r.state))
	e.u(uint64(r.owed))
	e.i(r.at)
	e.u(uint64(r.result.Code))
	e.str(r.result.Enhanced, r.result.Text, r.result.Host, r.result.Address, r.result.TLS)
	e.flag(r.result.DSN)
	return e.seal()
}

func decodeRecipient(b []byte) (*recipient, error) {
	d, err := newDec(b)
	if err != nil {
		return nil, err
	}
	r := &recipient{}
	r.Address = d.address()
	r.Notify = mail.Notify(d.u())
	r.ORcpt = d.str()
	r.group = d.n()
	r.state = state(d.u())
	r.owed = uint8(d.u())
	r.at = d.i()
	r.result.Code = d.n()
	for _, s := range [...]*string{&r.result.Enhanced, &r.result.Text, &r.result.Host, &r.result.Address, &r.result.TLS} {
		*s = d.str()
	}
	r.result.DSN = d.flag()
	return r, d.end()
}

func (g *group) encode() []byte {
	e := newEnc()
	e.str(g.lane, g.reason)
	e.i(g.next)
	e.i(g.at)
	e.u(uint64(g.attempts))
	e.u(uint64(g.waiting))
	return e.seal()
}

func decodeGroup(b []byte) (*group, error) {
	d, err := newDec(b)
	if err != nil {
		return nil, err
	}
	g := &group{lane: d.str(), reason: d.str(), next: d.i(), at: d.i(), attempts: d.n(), waiting: d.n()}
	return g, d.end()
}

func (l *lane) encode() []byte {
	e := newEnc()
	e.i(l.due)
	e.i(l.notBefore)
	e.u(uint64(l.fails))
	e.str(l.reason)
	return e.seal()
}

func decodeLane(b []byte) (*lane, error) {
	d, err := newDec(b)
	if err != nil {
		return nil, err
	}
	l := &lane{due: d.i(), notBefore: d.i(), fails: d.n(), reason: d.str()}
	return l, d.end()
}

// counts is kept so that asking costs nothing.
type counts struct{ messages, held int }

func (c counts) encode() []byte {
	e := newEnc()
	e.i(int64(c.messages))
	e.i(int64(c.held))
	return e.seal()
}

func decodeCounts(b []byte) (counts, error) {
	d, err := newDec(b)
	if err != nil {
		return counts{}, err
	}
	c := counts{messages: int(d.i()), held: int(d.i())}
	return c, d.end()
}

func keyKey(key string) []byte { return engine.KeyString(famKey, key) }

func encodeKeyRecord(id ID) []byte {
	e := newEnc()
	e.u(uint64(id))
	return e.seal()
}

func decodeKeyRecord(b []byte) (ID, error) {
	d, err := newDec(b)
	if err != nil {
		return 0, err
	}
	id := ID(d.u())
	return id, d.end()
}
