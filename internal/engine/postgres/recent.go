package postgres

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// identity is that of one state of a shard. version grows with each commit; token is
// drawn by the commit, so that two states never have the same identity, also where a
// failover has lost some and others came in their place. A shard that was never written has
// version 0.
type identity struct {
	epoch   int64
	version int64
	token   int64
}

// head is what the row of a shard says.
type head struct {
	identity
	home   int64  // the group where the shard lives
	state  int64  // 0 where it may be written
	recent []byte // see trail
}

// span is the keys in [from, to); a nil to means the end.
type span struct{ from, to []byte }

// touched is what a commit has written to.
type touched struct {
	keys  [][]byte // in order
	spans []span
	all   bool // more than can be told
}

// The trail of a shard says what its last commits were, the newest first: for each its token
// and what it touched. By it a node that is some commits behind forgets that and no more, and
// one whose connection broke sees whether its commit has happened. It is limited, for each
// commit writes it: of older commits only the token is kept, and in the end nothing.
const (
	trailBytes   = 600
	touchedBytes = 360 // of one commit
	trailTokens  = 24
)

const trailAll = 0xffff // in place of the number of keys: everything

// trail returns the trail after one more commit.
func trail(token int64, t touched, before []byte) []byte {
	b := make([]byte, 0, trailBytes)
	b = appendStep(b, token, t)
	tokens, room := 1, true
	for step, rest, ok := nextStep(before); ok && tokens < trailTokens; step, rest, ok = nextStep(rest) {
		tokens++
		if room = room && len(b)+len(step.raw)+(trailTokens-tokens)*10 <= trailBytes; room {
			b = append(b, step.raw...)
			continue
		}
		b = appendStep(b, step.token, touched{all: true})
	}
	return b
}

func appendStep(b []byte, token int64, t touched) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(token))
	start := len(b)
	if !t.all {
		if b = appendTouched(b, t); len(b)-start <= touchedBytes {
			return b
		}
	}
	return binary.BigEndian.AppendUint16(b[:start], trailAll)
}

// appendTouched writes keys each as what it shares with the one before and the rest.
func appendTouched(b []byte, t touched) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(min(len(t.keys), trailAll-1)))
	if len(t.keys) > touchedBytes || len(t.spans) > touchedBytes {
		return append(b, make([]byte, touchedBytes)...) // too long for certain
	}
	var last []byte
	for _, k := range t.keys {
		b = appendKey(b, last, k)
		last = k
	}
	b = binary.AppendUvarint(b, uint64(len(t.spans)))
	for _, s := range t.spans {
		b = appendKey(b, nil, s.from)
		if s.to == nil {
			b = append(b, 0)
			continue
		}
		b = appendKey(append(b, 1), s.from, s.to)
	}
	return b
}

func appendKey(b, last, key []byte) []byte {
	shared := 0
	for shared < len(last) && shared < len(key) && last[shared] == key[shared] {
		shared++
	}
	b = binary.AppendUvarint(b, uint64(shared))
	b = binary.AppendUvarint(b, uint64(len(key)-shared))
	return append(b, key[shared:]...)
}

// step is one commit of a trail.
type step struct {
	token int64
	touched
	raw []byte
}

// nextStep reads the first step of a trail; ok is false at its end, or where it cannot be
// read.
func nextStep(b []byte) (s step, rest []byte, ok bool) {
	if len(b) < 10 {
		return s, nil, false
	}
	s.token = int64(binary.BigEndian.Uint64(b))
	n := int(binary.BigEndian.Uint16(b[8:]))
	r := trailReader{b: b[10:]}
	if n == trailAll {
		s.all, s.raw = true, b[:10]
		return s, b[10:], true
	}
	var last []byte
	for range n {
		last = r.key(last)
		s.keys = append(s.keys, last)
	}
	for range r.number() {
		sp := span{from: r.key(nil)}
		if r.byte() == 1 {
			sp.to = r.key(sp.from)
		}
		s.spans = append(s.spans, sp)
	}
	s.raw = b[:len(b)-len(r.b)]
	return s, r.b, !r.bad
}

type trailReader struct {
	b   []byte
	bad bool
}

func (r *trailReader) number() int {
	n, used := binary.Uvarint(r.b)
	if used <= 0 || n > 1<<16 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[used:]
	return int(n)
}

func (r *trailReader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	b := r.b[0]
	r.b = r.b[1:]
	return b
}

func (r *trailReader) key(last []byte) []byte {
	shared, rest := r.number(), r.number()
	if r.bad || shared > len(last) || rest > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	key := slices.Concat(last[:shared], r.b[:rest])
	r.b = r.b[rest:]
	return key
}

// since returns what the commits after the one with a token have touched; ok is false if
// the trail does not reach back to it.
func since(token int64, recent []byte) (list []touched, ok bool) {
	for step, rest, ok := nextStep(recent); ok; step, rest, ok = nextStep(rest) {
		if step.token == token {
			return list, true
		}
		list = append(list, step.touched)
	}
	return nil, false
}

// fate is what became of a commit whose answer was lost.
type fate int

const (
	fateUnknown   fate = iota
	fateCommitted      // it has happened
	fateNot            // it has not, and will not
	fateOpen           // it has not yet, as far as is known
)

// fateOf tells what became of a commit with a token that was to follow a state, by what the
// shard says now.
func fateOf(token int64, before identity, now *head) fate {
	if now.identity == before {
		return fateOpen
	}
	back := now.version // of the step that is looked at
	for step, rest, ok := nextStep(now.recent); ok; step, rest, ok = nextStep(rest) {
		if step.token == token {
			return fateCommitted
		}
		if back == before.version+1 {
			return fateNot // another came in its place
		}
		back--
	}
	if now.version <= before.version {
		return fateNot // a failover has lost what it was to follow, or all that came after
	}
	return fateUnknown
}

// sorted returns keys in order, each once.
func sorted(keys [][]byte) [][]byte {
	slices.SortFunc(keys, bytes.Compare)
	return slices.CompactFunc(keys, bytes.Equal)
}
