package queue

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
)

// Verify reads every record of the queue and every message in it, checks checksums,
// counts and cross-references, and reports each fault in words. It may run beside
// Run. It returns the number of messages read; the error is of reading at all.
func (q *Queue) Verify(ctx context.Context, report func(id ID, what string)) (messages int, err error) {
	parts, err := q.all(ctx)
	for _, p := range parts {
		if err == nil {
			n := 0
			n, err = p.verify(ctx, report)
			messages += n
		}
	}
	return messages, err
}

// verify is Verify of one part.
func (q *Queue) verify(ctx context.Context, report func(id ID, what string)) (messages int, err error) {
	if err := q.verifyCounts(ctx, report); err != nil {
		return 0, err
	}
	release, err := q.store.HoldBodies(ctx) // of messages that are sent meanwhile
	if err != nil {
		return 0, err
	}
	defer release()
	for next := []byte{famMessage}; next != nil; {
		next, err = q.verifySome(ctx, next, func(l look, k, v []byte) error {
			id := ID(engine.Num(k, 0))
			messages++
			m, err := decodeMessage(id, v)
			if err != nil {
				report(id, fault.Say(err))
				return nil
			}
			return q.verifyMessage(ctx, l, m, func(what string) { report(id, what) })
		})
		if err != nil {
			return messages, err
		}
	}
	for _, f := range [...]struct {
		fam   byte
		check func(l look, k, v []byte, report func(ID, string)) error
	}{
		{famPiece, verifyOwner}, {famRecipient, verifyOwner}, {famGroup, verifyOwner},
		{famWaiting, verifyWaiting}, {famFlow, verifyFlow}, {famTurn, verifyTurn}, {famLane, verifyLane}, {famDue, verifyDue}, {famAlarm, verifyAlarm}, {famKey, verifyKey}, {famOwner, verifyTerm},
	} {
		for next := []byte{f.fam}; next != nil; {
			next, err = q.verifySome(ctx, next, func(l look, k, v []byte) error { return f.check(l, k, v, report) })
			if err != nil {
				return messages, err
			}
		}
	}
	return messages, nil
}

// verifyCounts counts all messages, in one View.
func (q *Queue) verifyCounts(ctx context.Context, report func(ID, string)) error {
	return q.eng.View(ctx, q.shard, func(r engine.Reader) error {
		said, err := look{r}.counts()
		if err != nil {
			report(0, "the counts: "+fault.Say(err))
			return nil
		}
		var seen counts
		err = r.Scan([]byte{famMessage}, []byte{famMessage + 1}, false, func(k, v []byte) bool {
			seen.messages++
			if m, err := decodeMessage(ID(engine.Num(k, 0)), v); err == nil && m.heldAt != 0 {
				seen.held++
			}
			return true
		})
		if err == nil && seen != said {
			report(0, fmt.Sprintf("there are %d messages, %d held; the count says %d, %d", seen.messages, seen.held, said.messages, said.held))
		}
		return err
	})
}

// verifySome calls fn for some records of a family from a key on, in one View, and
// returns the key to go on at.
func (q *Queue) verifySome(ctx context.Context, from []byte, fn func(l look, k, v []byte) error) (next []byte, err error) {
	type record struct{ k, v []byte }
	err = q.eng.View(ctx, q.shard, func(r engine.Reader) error {
		next = nil
		var found []record
		err := r.Scan(from, []byte{from[0] + 1}, false, func(k, v []byte) bool {
			if len(found) == listBatch {
				next = bytes.Clone(k)
				return false
			}
			found = append(found, record{bytes.Clone(k), bytes.Clone(v)})
			return true
		})
		for _, f := range found {
			if err == nil {
				err = fn(look{r}, f.k, f.v)
			}
		}
		return err
	})
	return next, err
}

// verifyMessage checks a message against all that hangs on it.
func (q *Queue) verifyMessage(ctx context.Context, l look, m *message, report func(string)) error {
	open, owed, seen := 0, 0, 0
	byGroup := map[int]int{}
	err := l.eachRecipient(m, func(_ int, r *recipient) {
		seen++
		if r.state == waiting {
			open++
			byGroup[r.group]++
		}
		if r.owed != 0 {
			owed++
		}
	})
	if err != nil {
		report("a recipient: " + fault.Say(err))
		return nil
	}
	if seen != m.recipients || open != m.open || owed != m.owed {
		report(fmt.Sprintf("has %d recipients, %d waiting, %d with a report to come; its record says %d, %d, %d",
			seen, open, owed, m.recipients, m.open, m.owed))
	}
	if open == 0 && owed == 0 {
		report("is done and still there")
	}
	for n := range m.groups {
		g, err := l.group(m.id, n)
		if err != nil {
			report("a group: " + fault.Say(err))
			continue
		}
		_, listed, err := l.Get(waitingKey(g.lane, g.next, m.id, n))
		if err != nil {
			return err
		}
		if g.waiting != byGroup[n] || listed != (g.waiting > 0 && m.heldAt == 0) {
			report(fmt.Sprintf("group %d: %d wait, its record says %d; in its lane: %v", n, byGroup[n], g.waiting, listed))
		}
	}
	if err := q.verifyAlarms(l, m, report); err != nil {
		return err
	}
	return q.verifyParcel(ctx, l, m, report)
}

func (q *Queue) verifyAlarms(l look, m *message, report func(string)) error {
	if m.owed > 0 && m.reportAt == 0 || m.open > 0 && m.heldAt == 0 && m.expiryAt == 0 {
		report("nothing will wake it when its time comes")
	}
	for _, a := range [...]struct {
		kind int
		at   int64
	}{{alarmDelay, m.delayAt}, {alarmExpiry, m.expiryAt}, {alarmReport, m.reportAt}} {
		if a.at == 0 {
			continue
		}
		_, ok, err := l.Get(alarmKey(a.kind, m.id, a.at))
		if err != nil {
			return err
		}
		if !ok {
			report(fmt.Sprintf("its alarm of kind %d is missing", a.kind))
		}
	}
	return nil
}

func (q *Queue) verifyParcel(ctx context.Context, l look, m *message, report func(string)) error {
	record, err := l.parcel(m)
	if err != nil {
		return err
	}
	ref, err := store.ParcelBlob(record)
	if err == nil && ref != m.blob {
		err = fault.New(fault.Corrupt, "the message names another body than its parcel")
	}
	if err == nil {
		_, err = q.store.DecodeParcel(ctx, record) // reads and checks the whole body
	}
	if fault.Is(err, fault.Corrupt) || fault.Is(err, fault.NotFound) {
		report("its content: " + fault.Say(err))
		return nil
	}
	return err
}

// verifyOwner checks that a record belongs to a message.
func verifyOwner(l look, k, _ []byte, report func(ID, string)) error {
	id := ID(engine.Num(k, 0))
	_, ok, err := l.Get(engine.Key(famMessage, uint64(id)))
	if err == nil && !ok {
		report(id, fmt.Sprintf("a record of family %c belongs to no message", k[0]))
	}
	return err
}

func verifyWaiting(l look, k, _ []byte, report func(ID, string)) error {
	name, at, id, n := splitWaiting(k)
	g, err := l.group(id, n)
	if err != nil || g.lane != name || g.next != at || g.waiting == 0 {
		report(id, "stands in a lane in which it does not wait")
	}
	rec, ok, err := l.lane(name)
	if err != nil || !ok || rec.classes&classOf(name) == 0 {
		report(id, "waits in a lane that its destination does not know")
		return nil
	}
	if is, had, err := l.turn(name); flowOf(name) != "" && (err != nil || !had || is.at > max(at, is.served)) {
		report(id, "waits in a lane whose turn comes too late")
	}
	if rec.due > max(at, rec.notBefore, rec.served) {
		report(id, "waits for a destination that is due too late")
	}
	return nil
}

// verifyFlow checks that a lane has its place and something to wait for it.
func verifyFlow(l look, k, v []byte, report func(ID, string)) error {
	name := string(k[1:])
	is, err := decodePlace(v)
	if err != nil || flowOf(name) == "" {
		report(0, "lane "+shown(name)+": its record cannot be read")
		return nil
	}
	_, placed, err := l.Get(turnKey(name, is.at))
	if err != nil {
		return err
	}
	any, err := l.holds(lanePrefix(name))
	if err != nil {
		return err
	}
	if !placed || !any {
		report(0, "lane "+shown(name)+" has no turn, or nothing that waits for it")
	}
	return nil
}

// shown is a lane's name for people.
func shown(name string) string { return strings.ReplaceAll(name, "\x01", " ") }

// holds tells whether a list has anything.
func (l look) holds(prefix []byte) (any bool, err error) {
	err = l.Scan(prefix, engine.After(prefix), false, func(_, _ []byte) bool { any = true; return false })
	return any, err
}

func verifyTurn(l look, k, _ []byte, report func(ID, string)) error {
	n := bytes.IndexByte(k, 0)
	if n < 0 || len(k) != n+26 {
		report(0, "a turn has no lane")
		return nil
	}
	name, at := splitTurn(string(k[1:n]), k[n+1:])
	if is, had, err := l.turn(name); err != nil || !had || is.at != at {
		report(0, "lane "+shown(name)+" has a turn that its record does not know")
	}
	return nil
}

func verifyLane(l look, k, v []byte, report func(ID, string)) error {
	name := string(k[1:])
	rec, err := decodeLane(v)
	if err != nil {
		report(0, "destination "+name+": "+fault.Say(err))
		return nil
	}
	_, due, err := l.Get(dueKey(rec.due, name))
	if err != nil {
		return err
	}
	any, err := l.holds(turnsPrefix(name))
	if err == nil && !any {
		any, err = l.holds(lanePrefix(name))
	}
	if err != nil {
		return err
	}
	if !any || !due {
		report(0, "destination "+name+" is not due when it should be")
	}
	return nil
}

func verifyDue(l look, k, _ []byte, report func(ID, string)) error {
	name := string(k[9:])
	rec, ok, err := l.lane(name)
	if err != nil || !ok || rec.due != int64(engine.Num(k, 0)) {
		report(0, "destination "+name+" is due at a time that its record does not know")
	}
	return nil
}

func verifyAlarm(l look, k, v []byte, report func(ID, string)) error {
	at, id, kind := int64(engine.Num(k, 0)), ID(engine.Num(k, 1)), int(engine.Num(k, 2))
	if kind == alarmForget {
		_, ok, err := l.Get(keyKey(string(v)))
		if err == nil && !ok {
			report(id, "an idempotency key is to be forgotten and is not there")
		}
		return err
	}
	m, ok, err := l.message(id)
	if err != nil || !ok || kind > alarmReport || [...]int64{m.delayAt, m.expiryAt, m.reportAt}[kind] != at {
		report(id, "an alarm belongs to nothing")
	}
	return nil
}

// verifyTerm checks the record of who works on the part.
func verifyTerm(_ look, _, v []byte, report func(ID, string)) error {
	if _, err := decodeOwner(v); err != nil {
		report(0, "whose turn it is to work on this part of the queue: "+fault.Say(err))
	}
	return nil
}

// verifyKey checks an idempotency key. The message it was given to may be gone.
func verifyKey(_ look, k, v []byte, report func(ID, string)) error {
	if _, err := decodeKeyRecord(v); err != nil {
		report(0, fmt.Sprintf("idempotency key %q: %s", k[1:], fault.Say(err)))
	}
	return nil
}
