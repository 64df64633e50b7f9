package queue

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/bits"
	"strings"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// A destination is a road and a domain: "rexample.org". What waits for it waits in lanes,
// one for each sender and priority: the destination, a byte 1, a letter for the priority
// (the highest is "a") and what stands for the sender, 16 digits. Earlier versions had one
// lane for each destination, with its name; mail that is still in it has its turn, too.
//
// Each list is in order of turns. A lane whose turn it was goes behind all the others that
// are due; so does a destination. Thus nobody's place depends on how much mail others have.

// destinationOf returns the destination of a domain.
func destinationOf(road Road, domain string) string {
	if len(domain) > 255 {
		domain = domain[:255] // no such domain gets here
	}
	clean := strings.Map(func(r rune) rune {
		if r < ' ' {
			return -1
		}
		return r
	}, domain)
	return string("rl"[road]) + strings.ToLower(clean)
}

// laneOf returns the lane of mail of a sender for a destination.
func laneOf(dest string, env *mail.Envelope) string {
	sum := fnv.New64a()
	sum.Write([]byte(senderOf(env)))
	return fmt.Sprintf("%s\x01%c%016x", dest, 'a'+9-max(-9, min(9, env.Priority)), sum.Sum64())
}

// senderOf returns who has his turn with a message: the account; without one the address
// of its sender, without what tells one message of a list from the next.
func senderOf(env *mail.Envelope) string {
	if env.Login != "" {
		return env.Login
	}
	local := env.From.Local
	if i := strings.IndexAny(local, "+=-"); i > 0 {
		local = local[:i]
	}
	return strings.ToLower(local) + "@" + env.From.Domain
}

// destOf returns the destination of a lane.
func destOf(lane string) string {
	dest, _, _ := strings.Cut(lane, "\x01")
	return dest
}

// domainOf returns the domain of a lane or destination.
func domainOf(lane string) string { return destOf(lane)[1:] }

// flowOf returns what a lane has behind its destination; "" is a lane of earlier versions.
func flowOf(lane string) string {
	_, flow, _ := strings.Cut(lane, "\x01")
	return flow
}

// lanePrefix begins the keys of all waiting groups of a lane. A lane's name has no
// zero byte.
func lanePrefix(lane string) []byte { return append(engine.KeyString(famWaiting, lane), 0) }

// waitingKey is a group's place in its lane.
func waitingKey(lane string, at int64, id ID, n int) []byte {
	k := lanePrefix(lane)
	k = binary.BigEndian.AppendUint64(k, uint64(at))
	k = binary.BigEndian.AppendUint64(k, uint64(id))
	return binary.BigEndian.AppendUint64(k, uint64(n))
}

// splitWaiting reads a key of waitingKey.
func splitWaiting(key []byte) (lane string, at int64, id ID, n int) {
	tail := key[len(key)-24:]
	return string(key[1 : len(key)-25]), int64(binary.BigEndian.Uint64(tail)),
		ID(binary.BigEndian.Uint64(tail[8:])), int(binary.BigEndian.Uint64(tail[16:]))
}

// turnsPrefix begins the keys of the lanes of a destination.
func turnsPrefix(dest string) []byte { return append(engine.KeyString(famTurn, dest), 0) }

// turnKey is a lane's place among those of its destination.
func turnKey(lane string, at int64) []byte {
	flow := flowOf(lane)
	k := append(turnsPrefix(destOf(lane)), flow[0])
	return append(binary.BigEndian.AppendUint64(k, uint64(at)), flow[1:]...)
}

// splitTurn reads the key of a lane's place, less turnsPrefix.
func splitTurn(dest string, rest []byte) (lane string, at int64) {
	return dest + "\x01" + string(rest[:1]) + string(rest[9:]), int64(binary.BigEndian.Uint64(rest[1:]))
}

func dueKey(at int64, dest string) []byte { return append(engine.Key(famDue, uint64(at)), dest...) }

// touch is what a change means for a lane.
type touch struct {
	first   int64 // of the groups put into it; 0: none
	removed bool
	served  bool // it has had its turn
}

// toll is what a change means for a destination.
type toll struct {
	touch
	classes uint32
	changes []func(*lane)
}

// change has the destination's record changed.
func (to *toll) change(fn func(*lane)) { to.changes = append(to.changes, fn) }

// list puts a group into its lane, at g.next.
func (t tx) list(id ID, n int, g *group) error {
	key := waitingKey(g.lane, g.next, id, n)
	t.b.q.heads.added(lanePrefix(g.lane), key)
	to := t.b.lane(g.lane)
	if to.first == 0 || g.next < to.first {
		to.first = max(g.next, 1)
	}
	return t.Put(key, nil)
}

// unlist takes a group out of its lane, where it stands at g.next.
func (t tx) unlist(id ID, n int, g *group) error {
	t.b.lane(g.lane).removed = true
	return t.Delete(waitingKey(g.lane, g.next, id, n))
}

// settle puts the lanes and destinations that a change has touched where they belong.
func (t tx) settle() error {
	for _, name := range sortedKeys(t.b.lanes) {
		if err := t.settleLane(name, t.b.lanes[name]); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(t.b.dests) {
		if err := t.settleDest(name, t.b.dests[name]); err != nil {
			return err
		}
	}
	if t.b.moved {
		if _, err := t.front([]byte{famDue}); err != nil {
			return err
		}
	}
	return t.settleCounts()
}

// placed returns where a list belongs whose first has a time: there if that is to come;
// else, when it has just been served, behind all that are due, or where it is.
func (t tx) placed(first int64, is place, served bool) place {
	now := t.b.now
	switch {
	case first > now:
		return place{first, is.served}
	case served:
		return place{now, now}
	case is.at != 0 && is.at <= min(now, max(first, is.served)):
		return is
	}
	return place{first, is.served}
}

// settleLane puts a lane where it belongs among those of its destination.
func (t tx) settleLane(name string, to *touch) error {
	dest := t.b.dest(destOf(name))
	dest.served = dest.served || to.served
	dest.classes |= classOf(name)
	if flowOf(name) == "" { // its destination looks into it
		dest.removed = dest.removed || to.removed
		dest.lower(to.first)
		return nil
	}
	is, had, err := t.look().turn(name)
	if err != nil {
		return err
	}
	first := to.first
	if to.removed || first == 0 {
		any := false
		if first, any, err = t.firstOf(name); err != nil {
			return err
		}
		if !any {
			dest.removed = true
			if !had {
				return nil
			}
			if err := t.Delete(turnKey(name, is.at)); err != nil {
				return err
			}
			return t.Delete(engine.KeyString(famFlow, name))
		}
	} else if had && is.at <= first {
		return nil
	}
	at := t.placed(first, is, to.served)
	if had && at == is {
		return nil
	}
	if had {
		dest.removed = dest.removed || at.at > is.at
		if err := t.Delete(turnKey(name, is.at)); err != nil {
			return err
		}
	}
	dest.lower(at.at)
	return t.putPlace(name, at)
}

func (to *touch) lower(at int64) {
	if at != 0 && (to.first == 0 || at < to.first) {
		to.first = at
	}
}

func (t tx) putPlace(name string, at place) error {
	key := turnKey(name, at.at)
	n := len(turnsPrefix(destOf(name))) + 1
	t.b.q.heads.added(key[:n:n], key)
	if err := t.Put(key, nil); err != nil {
		return err
	}
	return t.Put(engine.KeyString(famFlow, name), at.encode())
}

// settleDest puts a destination where it belongs among the due: at its first lane's
// time, or at the end of its pause. One without mail is forgotten, with its pause.
func (t tx) settleDest(name string, to *toll) error {
	l, had, err := t.look().lane(name)
	if err != nil {
		return err
	}
	if !had {
		l = &lane{}
	}
	is, first := l.due, to.first
	was := *l
	l.classes |= to.classes
	// What is new of a priority says nothing of when the others are due.
	if to.removed || !had || len(to.changes) > 0 || first == 0 || l.classes != was.classes {
		if first, l.classes, err = t.firstLane(name, l.classes); err != nil {
			return err
		}
		if l.classes == 0 {
			return t.forgetDest(name, is, had)
		}
	} else if is <= max(first, l.notBefore) && *l == was {
		return nil
	}
	for _, change := range to.changes {
		change(l)
	}
	at := t.placed(first, place{is, l.served}, to.served)
	l.due, l.served = max(at.at, l.notBefore), at.served
	if had && *l == was {
		return nil
	}
	if had && is != l.due {
		t.b.moved = true
		if err := t.Delete(dueKey(is, name)); err != nil {
			return err
		}
	}
	if !had || is != l.due {
		t.b.q.heads.added([]byte{famDue}, dueKey(l.due, name))
		if err := t.Put(dueKey(l.due, name), nil); err != nil {
			return err
		}
	}
	return t.Put(engine.KeyString(famLane, name), l.encode())
}

func (t tx) forgetDest(name string, due int64, had bool) error {
	if !had {
		return nil
	}
	t.b.moved = true
	if err := t.Delete(dueKey(due, name)); err != nil {
		return err
	}
	return t.Delete(engine.KeyString(famLane, name))
}

// firstOf returns the time of the first group that waits in a lane.
func (t tx) firstOf(lane string) (at int64, any bool, err error) {
	key, err := t.front(lanePrefix(lane))
	if err == nil && key != nil {
		_, at, _, _ = splitWaiting(key)
	}
	return at, key != nil, err
}

// front returns the first key of a list, nil if it is empty, and lets later looks begin
// there once the change is made.
func (t tx) front(prefix []byte) (key []byte, err error) {
	end := engine.After(prefix)
	low, gen := t.b.q.heads.from(prefix)
	err = t.Scan(low, end, false, func(k, _ []byte) bool {
		key = append(key, k...)
		return false
	})
	if err == nil {
		r := raise{prefix: prefix, key: end, gen: gen}
		if key != nil {
			r.key = key
		}
		t.b.q.heads.found(r)
		t.b.raises = append(t.b.raises, r)
	}
	return key, err
}

// plain is the class of the lane that earlier versions had for all mail of a destination.
const plain = 1 << 31

// classOf returns the bit that stands for a lane's priority in its destination's record.
func classOf(lane string) uint32 {
	if flow := flowOf(lane); flow != "" {
		return 1 << ((flow[0] - 'a') & 31)
	}
	return plain
}

// firstLane returns the earliest time of a lane of a destination, and the priorities of
// which there are any.
func (t tx) firstLane(dest string, classes uint32) (at int64, left uint32, err error) {
	prefix := turnsPrefix(dest)
	n := len(prefix)
	for rest := classes; rest != 0; rest &= rest - 1 {
		class := rest & -rest
		when, any := int64(0), false
		if class == plain {
			when, any, err = t.firstOf(dest)
		} else {
			var key []byte
			key, err = t.front(append(prefix[:n:n], 'a'+byte(bits.TrailingZeros32(class))))
			if any = key != nil; any {
				_, when = splitTurn(dest, key[n:])
			}
		}
		if err != nil {
			return 0, 0, err
		}
		if any && (left == 0 || when < at) {
			at = when
		}
		if any {
			left |= class
		}
	}
	return at, left, nil
}

// turn returns where a lane stands among those of its destination.
func (l look) turn(name string) (at place, had bool, err error) {
	v, ok, err := l.Get(engine.KeyString(famFlow, name))
	if err != nil || !ok {
		return at, false, err
	}
	at, err = decodePlace(v)
	return at, err == nil, err
}

// lane returns the record of a lane's destination.
func (l look) lane(name string) (*lane, bool, error) {
	v, ok, err := l.Get(engine.KeyString(famLane, destOf(name)))
	if err != nil || !ok {
		return nil, false, err
	}
	rec, err := decodeLane(v)
	return rec, err == nil, err
}
