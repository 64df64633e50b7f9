package queue

import (
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

// Families of keys. Numbers are 8 bytes each, big-endian; times are milliseconds
// since 1970.
//
//	m id              a message: envelope, times, counts
//	p id n            its parcel, in pieces
//	r id n            its n-th recipient: state and last result
//	g id n            its n-th group: recipients of one lane that travel together
//	q lane 0 t id n   waiting groups of a lane by next attempt
//	w lane            a lane with waiting groups: when its turn is
//	f dest 0 p t s    lanes of a destination by priority and turn, without its name
//	l dest            a destination with lanes: when it is due, its pause
//	t t dest          destinations by when they are due
//	a t id kind       what happens to a message without an attempt, by time
//	k key             entries by idempotency key
//	n                 how many messages there are, and how many are held
//	c                 when the clock was last looked at
//	b account 0 addr  an address that an account's mail came back from for good
//	o                 whose turn it is to work on this part of the queue
//	s name            what an account or the accounts of a domain sent lately
const (
	famMessage   = 'm'
	famPiece     = 'p'
	famRecipient = 'r'
	famGroup     = 'g'
	famWaiting   = 'q'
	famFlow      = 'w'
	famTurn      = 'f'
	famLane      = 'l'
	famDue       = 't'
	famAlarm     = 'a'
	famKey       = 'k'
	famCount     = 'n'
	famLook      = 'c'
	famSent      = 's'
	famBounced   = 'b'
	famOwner     = 'o'
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

// lane is a destination with waiting groups. Its place is no later than its first
// group's time or the end of its pause, or was the present time when it was chosen.
type lane struct {
	due       int64 // where it stands in famDue
	notBefore int64 // pause while its hosts are down
	fails     int   // pauses in a row
	reason    string
	classes   uint32 // priorities of which there may be lanes, as classOf has them
	served    int64  // when its turn was last; 0: never
}

// place is where a lane stands among those of its destination.
type place struct {
	at     int64 // in famTurn
	served int64 // when its turn was last; 0: never
}

// version is that of most records. Of some there are newer ones: a message of version 2
// ends in a list of tagged fields, each of which is there if it is not zero; a destination
// of version 2 says which priorities it has; a recipient has version 2 if something is
// known of the TLS of its last attempt.
const (
	version          = 1
	messageVersion   = 2
	laneVersion      = 2
	recipientVersion = 2
)

// Tags of fields.
const (
	tagRequireTLS  = iota + 1 // no value
	tagPriority               // zigzag
	tagBy                     // mode, trace, time
	tagReleaseAt              // time
	tagVERP                   // no value
	tagTLSOptional            // no value
	tagJunk                   // no value
	tagRelease                // string
	tagStays                  // no value
)

// enc writes a record.
type enc struct{ record.Enc }

func newEnc() enc { return enc{} }

func (e *enc) seal() []byte { return record.Seal(version, e.Enc) }

// dec reads a record. What is missing reads as zero and makes end fail.
type dec struct{ record.Dec }

func newDec(b []byte) (*dec, error) {
	d, _, err := newDecOf(b, version)
	return d, err
}

// newDecOf begins to read a record of a version up to newest.
func newDecOf(b []byte, newest byte) (d *dec, kind byte, err error) {
	kind, payload, err := record.Open(b)
	if err == nil && kind > newest {
		err = fault.Newf(fault.Unsupported, "a queue record has version %d, and this program knows %d; start a newer one", kind, newest)
	}
	if err == nil && kind < 1 {
		err = fault.New(fault.Corrupt, "a queue record has version 0")
	}
	if err != nil {
		return nil, 0, err
	}
	return &dec{record.Dec{Rest: payload}}, kind, nil
}

// unreadable tells whether an error says that a record is damaged, or newer than this program:
// it stands in nobody else's way.
func unreadable(err error) bool {
	return fault.Is(err, fault.Corrupt) || fault.Is(err, fault.Unsupported)
}

func (d *dec) n() int     { return int(min(d.U(), 1<<31-1)) }
func (d *dec) end() error { return d.End("queue") }

func (e *enc) address(a mail.Address) { e.Str(a.Local, a.Domain) }
func (d *dec) address() mail.Address  { return mail.Address{Local: d.Str(), Domain: d.Str()} }

func (m *message) encode() []byte {
	e := newEnc()
	e.U(m.nonce)
	for _, t := range [...]int64{m.created, m.expires, m.delayAt, m.expiryAt, m.reportAt, m.heldAt, m.size} {
		e.I(t)
	}
	e.address(m.env.From)
	e.Str(m.env.EnvID, m.env.Login, m.env.Helo, m.env.Peer, m.env.Protocol)
	e.U(uint64(m.env.Ret))
	e.Bool(m.env.UTF8, m.env.Body8Bit, m.env.Binary, m.has8Bit, m.needsUTF8)
	e.U(uint64(m.road))
	e.Str(string(m.blob[:]))
	for _, n := range [...]int{m.pieces, m.recipients, m.groups, m.open, m.owed} {
		e.U(uint64(n))
	}
	e.fields(m)
	return record.Seal(messageVersion, e.Enc)
}

// fields writes the tagged fields of a message, in the order of their tags.
func (e *enc) fields(m *message) {
	put := func(tag uint64, there bool, fill func(*enc)) {
		if there {
			f := newEnc()
			fill(&f)
			e.U(tag)
			e.Bytes(f.Enc)
		}
	}
	env := &m.env
	put(tagRequireTLS, env.RequireTLS, func(*enc) {})
	put(tagPriority, env.Priority != 0, func(f *enc) { f.I(int64(env.Priority)) })
	put(tagBy, env.By.Mode != mail.ByNone, func(f *enc) {
		f.U(uint64(env.By.Mode))
		f.Bool(env.By.Trace)
		f.I(env.By.At.UnixMilli())
	})
	put(tagReleaseAt, !env.ReleaseAt.IsZero(), func(f *enc) { f.I(env.ReleaseAt.UnixMilli()) })
	put(tagVERP, env.VERP, func(*enc) {})
	put(tagTLSOptional, env.TLSOptional, func(*enc) {})
	put(tagJunk, env.Junk, func(*enc) {})
	put(tagRelease, env.Release != "", func(f *enc) { f.Str(env.Release) })
	put(tagStays, env.Stays, func(*enc) {})
}

// fields reads what fields wrote. A field of a later version is not passed over: who
// put it there relies on it.
func (d *dec) fields(m *message) error {
	env := &m.env
	for last := uint64(0); len(d.Rest) > 0; {
		tag := d.U()
		f := dec{record.Dec{Rest: d.Bytes()}}
		if tag <= last {
			return fault.New(fault.Corrupt, "a stored queue record has its fields in the wrong order")
		}
		switch last = tag; tag {
		case tagRequireTLS:
			env.RequireTLS = true
		case tagPriority:
			env.Priority = int(max(-9, min(9, f.I())))
		case tagBy:
			env.By = mail.DeliverBy{Mode: mail.ByMode(f.U()), Trace: f.Bool(), At: time.UnixMilli(f.I())}
		case tagReleaseAt:
			env.ReleaseAt = time.UnixMilli(f.I())
		case tagVERP:
			env.VERP = true
		case tagTLSOptional:
			env.TLSOptional = true
		case tagJunk:
			env.Junk = true
		case tagRelease:
			env.Release = f.Str()
		case tagStays:
			env.Stays = true
		default:
			return fault.Newf(fault.Unsupported, "a queue record has the field %d, which this program does not know; start a newer one", tag)
		}
		if err := f.end(); err != nil {
			return err
		}
	}
	return nil
}

func decodeMessage(id ID, b []byte) (*message, error) {
	d, kind, err := newDecOf(b, messageVersion)
	if err != nil {
		return nil, err
	}
	m := &message{id: id, nonce: d.U()}
	for _, t := range [...]*int64{&m.created, &m.expires, &m.delayAt, &m.expiryAt, &m.reportAt, &m.heldAt, &m.size} {
		*t = d.I()
	}
	m.env.From = d.address()
	for _, s := range [...]*string{&m.env.EnvID, &m.env.Login, &m.env.Helo, &m.env.Peer, &m.env.Protocol} {
		*s = d.Str()
	}
	m.env.Ret = mail.Ret(d.U())
	for _, f := range [...]*bool{&m.env.UTF8, &m.env.Body8Bit, &m.env.Binary, &m.has8Bit, &m.needsUTF8} {
		*f = d.Bool()
	}
	m.road = Road(d.U() & 1)
	copy(m.blob[:], d.Str())
	for _, n := range [...]*int{&m.pieces, &m.recipients, &m.groups, &m.open, &m.owed} {
		*n = d.n()
	}
	if kind > 1 {
		if err := d.fields(m); err != nil {
			return nil, err
		}
	}
	return m, d.end()
}

func (r *recipient) encode() []byte {
	e := newEnc()
	e.address(r.Address)
	e.U(uint64(r.Notify))
	e.Str(r.ORcpt)
	e.U(uint64(r.group))
	e.U(uint64(r.state))
	e.U(uint64(r.owed))
	e.I(r.at)
	e.U(uint64(r.result.Code))
	e.Str(r.result.Enhanced, r.result.Text, r.result.Host, r.result.Address, r.result.TLS)
	e.Bool(r.result.DSN)
	l := r.result.Line
	if l == (mail.Line{}) {
		return e.seal()
	}
	e.Str(l.Version, l.Cipher, string(l.Verified), string(l.Failure), l.Why)
	return record.Seal(recipientVersion, e.Enc)
}

func decodeRecipient(b []byte) (*recipient, error) {
	d, kind, err := newDecOf(b, recipientVersion)
	if err != nil {
		return nil, err
	}
	r := &recipient{}
	r.Address = d.address()
	r.Notify = mail.Notify(d.U())
	r.ORcpt = d.Str()
	r.group = d.n()
	r.state = state(d.U())
	r.owed = uint8(d.U())
	r.at = d.I()
	r.result.Code = d.n()
	for _, s := range [...]*string{&r.result.Enhanced, &r.result.Text, &r.result.Host, &r.result.Address, &r.result.TLS} {
		*s = d.Str()
	}
	r.result.DSN = d.Bool()
	if kind > 1 {
		r.result.Line = mail.Line{Version: d.Str(), Cipher: d.Str(), Verified: mail.Proof(d.Str()), Failure: mail.TLSFault(d.Str()), Why: d.Str()}
	}
	return r, d.end()
}

func (g *group) encode() []byte {
	e := newEnc()
	e.Str(g.lane, g.reason)
	e.I(g.next)
	e.I(g.at)
	e.U(uint64(g.attempts))
	e.U(uint64(g.waiting))
	return e.seal()
}

func decodeGroup(b []byte) (*group, error) {
	d, err := newDec(b)
	if err != nil {
		return nil, err
	}
	g := &group{lane: d.Str(), reason: d.Str(), next: d.I(), at: d.I(), attempts: d.n(), waiting: d.n()}
	return g, d.end()
}

func (l *lane) encode() []byte {
	e := newEnc()
	e.I(l.due)
	e.I(l.notBefore)
	e.U(uint64(l.fails))
	e.Str(l.reason)
	e.U(uint64(l.classes))
	e.I(l.served)
	return record.Seal(laneVersion, e.Enc)
}

func decodeLane(b []byte) (*lane, error) {
	d, kind, err := newDecOf(b, laneVersion)
	if err != nil {
		return nil, err
	}
	l := &lane{due: d.I(), notBefore: d.I(), fails: d.n(), reason: d.Str(), classes: plain}
	if kind > 1 {
		l.classes, l.served = uint32(d.U()), d.I()
	}
	return l, d.end()
}

func (p place) encode() []byte {
	e := newEnc()
	e.I(p.at)
	e.I(p.served)
	return e.seal()
}

func decodePlace(b []byte) (p place, err error) {
	d, err := newDec(b)
	if err != nil {
		return p, err
	}
	p = place{at: d.I(), served: d.I()}
	return p, d.end()
}

// counts is kept so that asking costs nothing.
type counts struct{ messages, held int }

func (c counts) encode() []byte {
	e := newEnc()
	e.I(int64(c.messages))
	e.I(int64(c.held))
	return e.seal()
}

func decodeCounts(b []byte) (counts, error) {
	d, err := newDec(b)
	if err != nil {
		return counts{}, err
	}
	c := counts{messages: int(d.I()), held: int(d.I())}
	return c, d.end()
}

func encodeLook(at int64) []byte {
	e := newEnc()
	e.I(at)
	return e.seal()
}

func decodeLook(b []byte) (at int64, err error) {
	d, err := newDec(b)
	if err != nil {
		return 0, err
	}
	at = d.I()
	return at, d.end()
}

func keyKey(key string) []byte { return engine.KeyString(famKey, key) }

func encodeKeyRecord(id ID) []byte {
	e := newEnc()
	e.U(uint64(id))
	return e.seal()
}

func decodeKeyRecord(b []byte) (ID, error) {
	d, err := newDec(b)
	if err != nil {
		return 0, err
	}
	id := ID(d.U())
	return id, d.end()
}
