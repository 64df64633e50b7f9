package queue

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// Mended is one thing that Repair has done.
type Mended struct {
	ID       ID
	From     mail.Address
	To       []mail.Address // who does not get it
	Lost     bool           // the message, or these recipients
	What     string
	Content  []byte // of a message that is lost, as far as it can be read
	Envelope []byte // its records, as they are
}

// Repair brings the records of a queue that nobody uses into accord, after some were lost
// or damaged. Lanes, alarms and counts are made anew from messages, recipients and groups.
// What cannot be sent any more is handed to report, and then taken out: if report fails, the
// repair ends with its error and has not.
func Repair(ctx context.Context, eng engine.Engine, st *store.Store, now time.Time, report func(Mended) error) error {
	shards, err := eng.Shards(ctx)
	if err != nil {
		return err
	}
	for _, sh := range shards {
		if _, ok := PartOf(sh); !ok {
			continue
		}
		if err := repairPart(ctx, eng, st, sh, now, report); err != nil {
			return err
		}
	}
	return nil
}

func repairPart(ctx context.Context, eng engine.Engine, st *store.Store, sh engine.Shard, now time.Time, report func(Mended) error) error {
	q := &Queue{eng: eng, store: st, shard: sh, opt: Options{Now: func() time.Time { return now }}}
	q.front = q
	wrong := false
	if _, err := q.verify(ctx, func(ID, string) { wrong = true }); err == nil && !wrong {
		return nil
	} else if err != nil && !fault.Is(err, fault.Corrupt) {
		return err
	}
	if err := q.newer(ctx); err != nil {
		return err
	}
	m := &mender{q: q, ctx: ctx, now: now.UnixMilli(), report: report}
	if err := m.begin(); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(m.ids)) {
		if err := m.message(id); err != nil {
			return err
		}
	}
	return m.end()
}

// newer returns a fault of kind Unsupported if a record is of a newer program: it is whole, and
// there is nothing to mend by who does not know what it says.
func (q *Queue) newer(ctx context.Context) error {
	return q.eng.View(ctx, q.shard, func(r engine.Reader) (err error) {
		newest := map[byte]byte{famMessage: messageVersion, famRecipient: recipientVersion, famLane: laneVersion, famOwner: ownerVersion,
			famGroup: version, famFlow: version, famKey: version, famCount: version, famLook: version, famSent: version, famBounced: version}
		scanned := r.Scan(nil, nil, false, func(k, v []byte) bool {
			if known := newest[k[0]]; known > 0 {
				_, _, err = newDecOf(v, known)
			}
			if k[0] == famMessage {
				_, err = decodeMessage(ID(engine.Num(k, 0)), v)
			}
			return !fault.Is(err, fault.Unsupported)
		})
		if !fault.Is(err, fault.Unsupported) { // the rest is for the repair
			err = nil
		}
		return cmp.Or(scanned, err)
	})
}

type mender struct {
	q      *Queue
	ctx    context.Context
	now    int64
	report func(Mended) error
	ids    map[ID]bool
	forget map[string]int64 // when keys are to be forgotten
	counts counts
}

// begin finds the messages and wipes what follows from them.
func (m *mender) begin() error {
	m.ids, m.forget = map[ID]bool{}, map[string]int64{}
	var broken [][]byte
	err := m.q.eng.View(m.ctx, m.q.shard, func(r engine.Reader) error {
		return r.Scan(nil, nil, false, func(k, v []byte) bool {
			switch k[0] {
			case famMessage, famPiece, famRecipient, famGroup:
				m.ids[ID(engine.Num(k, 0))] = true
			case famKey:
				if _, err := decodeKeyRecord(v); err != nil {
					broken = append(broken, bytes.Clone(k))
				} else if m.forget[string(k[1:])] == 0 {
					m.forget[string(k[1:])] = m.now + keyAge.Milliseconds()
				}
			case famAlarm:
				if engine.Num(k, 2) == alarmForget {
					m.forget[string(v)] = int64(engine.Num(k, 0))
				}
			case famLook:
				if _, err := decodeLook(v); err != nil {
					broken = append(broken, bytes.Clone(k))
				}
			case famOwner:
				if _, err := decodeOwner(v); err != nil {
					broken = append(broken, bytes.Clone(k))
				}
			}
			return true
		})
	})
	if err != nil {
		return err
	}
	return m.update(func(t tx) error {
		for _, family := range []byte{famWaiting, famFlow, famTurn, famLane, famDue, famAlarm, famCount} {
			if err := t.DeleteRange([]byte{family}, []byte{family + 1}); err != nil {
				return err
			}
		}
		for _, key := range broken {
			if err := t.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
}

func (m *mender) update(fn func(tx) error) error {
	return m.q.update(m.ctx, fn)
}

// found is what is left of a message.
type found struct {
	m          *message // nil: nothing
	recipients map[int]*recipient
	broken     map[int]bool // recipients
	groups     map[int]*group
	parcel     *store.Parcel
	why        string
	raw        []byte
}

// message mends one message, or takes it out.
func (m *mender) message(id ID) error {
	var f found
	err := m.q.eng.View(m.ctx, m.q.shard, func(r engine.Reader) (err error) { f, err = m.read(look{r}, id); return err })
	if err != nil {
		return err
	}
	if f.m == nil || f.parcel == nil {
		if err := m.lost(id, &f); err != nil {
			return err
		}
		return m.update(func(t tx) error { return t.wipe(id) })
	}
	said := Mended{ID: id, From: f.m.env.From}
	for n := range f.broken {
		f.recipients[n] = &recipient{Recipient: mail.Recipient{Address: mail.Address{Local: "lost", Domain: "recovered.invalid"}}, state: failed, at: m.now}
		said.Lost, said.What = true, "a recipient of it cannot be read, and does not get it"
	}
	if said.Lost { // if all ends before it is done, it is told twice, and not never
		said.Content = m.content(f.parcel)
		if err := m.report(said); err != nil {
			return err
		}
	}
	return m.update(func(t tx) error { return m.put(t, id, &f) })
}

func (m *mender) read(l look, id ID) (f found, err error) {
	f = found{recipients: map[int]*recipient{}, broken: map[int]bool{}, groups: map[int]*group{}}
	if f.m, _, err = l.message(id); err != nil {
		f.m, f.why = nil, fault.Say(err)
	}
	for _, family := range []byte{famMessage, famRecipient, famGroup} {
		err := l.Scan(engine.Key(family, uint64(id)), engine.Key(family, uint64(id)+1), false, func(k, v []byte) bool {
			n := int(engine.Num(k, 1))
			f.raw = fmt.Appendf(f.raw, "%x %x\n", k, v)
			if family == famRecipient {
				if r, err := decodeRecipient(v); err == nil {
					f.recipients[n] = r
				}
			}
			if g, err := decodeGroup(v); family == famGroup && err == nil {
				f.groups[n] = g
			}
			return true
		})
		if err != nil {
			return f, err
		}
	}
	if f.m == nil {
		return f, m.orphan(l, id, &f)
	}
	for n := range f.m.recipients {
		f.broken[n] = f.recipients[n] == nil
	}
	maps.DeleteFunc(f.broken, func(_ int, broken bool) bool { return !broken })
	return f, m.parcel(l, &f)
}

func (m *mender) parcel(l look, f *found) error {
	b, err := l.parcel(f.m)
	if err == nil {
		f.parcel, err = m.q.store.DecodeParcel(m.ctx, b)
	}
	if fault.Is(err, fault.Corrupt) || fault.Is(err, fault.NotFound) {
		f.parcel, f.why = nil, "its content: "+fault.Say(err)
		return nil
	}
	return err
}

// orphan reads the content of a message that has no record.
func (m *mender) orphan(l look, id ID, f *found) error {
	var b []byte
	err := l.Scan(engine.Key(famPiece, uint64(id)), engine.Key(famPiece, uint64(id)+1), false, func(_, v []byte) bool { b = append(b, v...); return true })
	if err == nil {
		f.parcel, _ = m.q.store.DecodeParcel(m.ctx, b)
	}
	return err
}

func (m *mender) content(p *store.Parcel) []byte {
	if p == nil {
		return nil
	}
	r, err := p.Open(m.ctx, 0, -1)
	if err != nil {
		return p.Header()
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return p.Header()
	}
	return b
}

func (m *mender) lost(id ID, f *found) error {
	said := Mended{ID: id, Lost: true, What: "it cannot be sent: " + f.why, Content: m.content(f.parcel), Envelope: f.raw}
	if f.why == "" {
		said.What = "it cannot be sent: its record is lost"
	}
	if f.m != nil {
		said.From = f.m.env.From
	}
	for _, n := range slices.Sorted(maps.Keys(f.recipients)) {
		if r := f.recipients[n]; r.state == waiting {
			said.To = append(said.To, r.Address)
		}
	}
	return m.report(said)
}

// wipe removes all of a message that does not follow from it.
func (t tx) wipe(id ID) error {
	for _, family := range []byte{famMessage, famPiece, famRecipient, famGroup} {
		if err := t.DeleteRange(engine.Key(family, uint64(id)), engine.Key(family, uint64(id)+1)); err != nil {
			return err
		}
	}
	return nil
}

// put writes a message anew, with its place in lanes and among the alarms.
func (m *mender) put(t tx, id ID, f *found) error {
	msg := f.m
	msg.open, msg.owed = 0, 0
	open := map[int]*recipient{}
	waits := map[int]int{}
	for n, r := range f.recipients {
		if n >= msg.recipients {
			continue
		}
		if r.state == waiting {
			msg.open++
			waits[r.group]++
			open[r.group] = r
			msg.groups = max(msg.groups, r.group+1)
		}
		if r.owed != 0 {
			msg.owed++
		}
		if err := t.putRecipient(id, n, r); err != nil {
			return err
		}
	}
	if msg.open == 0 && msg.owed == 0 {
		return t.wipe(id)
	}
	m.counts.messages++
	if msg.heldAt != 0 {
		m.counts.held++
	}
	for n := range msg.groups {
		g := f.groups[n]
		if g == nil {
			domain := recoveredLane
			if r := open[n]; r != nil {
				domain = r.Address.Domain
			}
			g = &group{next: m.now, lane: laneOf(destinationOf(msg.road, domain), &msg.env)}
		}
		g.waiting = waits[n]
		if err := t.putGroup(id, n, g); err != nil {
			return err
		}
		if g.waiting > 0 && msg.heldAt == 0 {
			if err := t.list(id, n, g); err != nil {
				return err
			}
		}
	}
	return m.alarms(t, msg)
}

// recoveredLane is that of a group of which nobody waits and the record is lost.
const recoveredLane = "recovered.invalid"

func (m *mender) alarms(t tx, msg *message) error {
	if msg.open > 0 && msg.heldAt == 0 && msg.expiryAt == 0 {
		msg.expiryAt = msg.expires
	}
	if msg.owed > 0 && msg.reportAt == 0 {
		msg.reportAt = m.now
	}
	for kind, at := range [...]int64{alarmDelay: msg.delayAt, alarmExpiry: msg.expiryAt, alarmReport: msg.reportAt} {
		if err := t.setAlarm(kind, msg.id, 0, at); err != nil {
			return err
		}
	}
	return t.putMessage(msg)
}

// end writes what is of no message.
func (m *mender) end() error {
	return m.update(func(t tx) error {
		for key, at := range m.forget {
			v, ok, err := t.Get(keyKey(key))
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			id, err := decodeKeyRecord(v)
			if err != nil {
				continue
			}
			if err := t.rememberBeside(key, id, at); err != nil {
				return err
			}
		}
		e := m.counts
		return t.Put([]byte{famCount}, e.encode())
	})
}
