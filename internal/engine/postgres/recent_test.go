package postgres

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
)

// TestTrail: a trail tells what the last commits were as far as it goes, stays small, and
// never tells less of a commit than it touched.
func TestTrail(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	type done struct {
		token int64
		touched
	}
	var all []done
	var b []byte
	for i := range 3000 {
		d := done{token: int64(i + 1)}
		for range random.IntN(12) * random.IntN(20) {
			d.keys = append(d.keys, engine.Key(byte(random.IntN(9)), random.Uint64N(300), random.Uint64N(70000)))
		}
		if d.keys = sorted(d.keys); random.IntN(9) == 0 {
			d.spans = []span{{engine.Key(3), engine.Key(3, 5)}, {[]byte{}, nil}}
		}
		b = trail(d.token, d.touched, b)
		if all = append(all, d); len(b) > trailBytes {
			t.Fatalf("%d bytes", len(b))
		}
		n := 0
		for step, rest, ok := nextStep(b); ok; step, rest, ok = nextStep(rest) {
			of := all[len(all)-1-n]
			if step.token != of.token {
				t.Fatalf("commit %d, step %d: token %d, not %d", i, n, step.token, of.token)
			}
			if !step.all && !(slices.EqualFunc(step.keys, of.keys, bytes.Equal) && slices.EqualFunc(step.spans, of.spans, func(a, b span) bool {
				return bytes.Equal(a.from, b.from) && bytes.Equal(a.to, b.to) && (a.to == nil) == (b.to == nil)
			})) {
				t.Fatalf("commit %d, step %d: %d keys of %d, %d spans of %d", i, n, len(step.keys), len(of.keys), len(step.spans), len(of.spans))
			}
			n++
		}
		if n != min(i+1, trailTokens) {
			t.Fatalf("commit %d: %d steps", i, n)
		}
	}
	list, ok := since(2998, b)
	if !ok || len(list) != 2 {
		t.Errorf("%d commits since, %v", len(list), ok)
	}
	if _, ok := since(1, b); ok {
		t.Error("goes back for ever")
	}
}

// TestFate: what became of a commit, by what came after it.
func TestFate(t *testing.T) {
	const mine = 77
	before := identity{epoch: 1, version: 10, token: 10}
	at := func(version int64, tokens ...int64) *head { // of the trail, the newest last
		h := &head{identity: identity{epoch: 1, version: version, token: tokens[len(tokens)-1]}}
		for _, token := range tokens {
			h.recent = trail(token, touched{}, h.recent)
		}
		return h
	}
	var many []int64
	for i := range int64(trailTokens + 3) {
		many = append(many, 100+i)
	}
	for what, test := range map[string]struct {
		now  *head
		want fate
	}{
		"nothing has happened":           {at(10, 9, 10), fateOpen},
		"it is the last":                 {at(11, 9, 10, mine), fateCommitted},
		"others came after it":           {at(13, 10, mine, 12, 13), fateCommitted},
		"another came in its place":      {at(11, 9, 10, 99), fateNot},
		"and others after that":          {at(13, 10, 99, 12, 13), fateNot},
		"a failover lost what it was on": {at(8, 7, 8), fateNot},
		"and others came":                {at(10, 7, 8, 98, 99), fateNot},
		"and more":                       {at(12, 8, 98, 99, 5, 6), fateNot},
		"too much has happened":          {at(10+trailTokens+3, many...), fateUnknown},
		"the shard is gone":              {&head{}, fateNot},
	} {
		if got := fateOf(mine, before, test.now); got != test.want {
			t.Errorf("%s: %d, not %d", what, got, test.want)
		}
	}
	if got := fateOf(mine, identity{}, &head{}); got != fateOpen {
		t.Errorf("a first commit that has not happened: %d", got)
	}
}

// FuzzTrail: what cannot be a trail does no harm.
func FuzzTrail(f *testing.F) {
	f.Add(trail(1, touched{keys: [][]byte{{1}, {1, 2}}, spans: []span{{[]byte{3}, nil}}}, nil))
	f.Add(trail(2, touched{all: true}, trail(1, touched{}, nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		for step, rest, ok := nextStep(b); ok; step, rest, ok = nextStep(rest) {
			if len(rest) >= len(b) || len(step.keys) > trailAll {
				t.Fatal("does not end")
			}
			n++
		}
		if n > len(b) {
			t.Fatal("more steps than bytes")
		}
		if next := trail(5, touched{keys: [][]byte{{9}}}, b); len(next) > trailBytes {
			t.Fatalf("%d bytes", len(next))
		}
	})
}
