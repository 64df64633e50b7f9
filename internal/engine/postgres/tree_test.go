package postgres

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var someKeys = rapid.SampledFrom([]string{"a", "a\x00", "ab", "b", "b\xff", "c", "d", "\xff", "\xff\xff", "\x00", "e", "f", "g", "h"})

// knower is a tree beside the truth.
type knower struct {
	t     *tree
	truth map[string]string
	known map[string]bool // must be, as far as all keys of someKeys go
}

func drawRange(rt *rapid.T) (from, to []byte) {
	from, to = []byte(someKeys.Draw(rt, "from")), []byte(someKeys.Draw(rt, "to"))
	if rapid.IntRange(0, 4).Draw(rt, "open") == 0 {
		from = []byte{}
	}
	if rapid.IntRange(0, 4).Draw(rt, "end") == 0 {
		to = nil
	}
	if to != nil && bytes.Compare(from, to) >= 0 {
		rt.Skip("empty")
	}
	return from, to
}

func within(k string, from, to []byte) bool {
	return k >= string(from) && (to == nil || k < string(to))
}

func (k *knower) records(from, to []byte) (list []record) {
	for _, key := range slices.Sorted(maps.Keys(k.truth)) {
		if within(key, from, to) {
			list = append(list, record{[]byte(key), []byte(k.truth[key])})
		}
	}
	return list
}

func (k *knower) mark(from, to []byte, known bool) {
	for _, key := range []string{"a", "a\x00", "ab", "b", "b\xff", "c", "d", "\xff", "\xff\xff", "\x00", "e", "f", "g", "h"} {
		if within(key, from, to) {
			if known {
				k.known[key] = true
			} else {
				delete(k.known, key)
			}
		}
	}
}

// TestTree does random things to a tree and to the truth: what the tree says is true, it
// knows what it was told, and does not know what it was to forget.
func TestTree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		k := &knower{t: newTree(), truth: map[string]string{}, known: map[string]bool{}}
		for range rapid.IntRange(0, 8).Draw(rt, "records") {
			k.truth[someKeys.Draw(rt, "key")] = rapid.StringN(0, 2, 4).Draw(rt, "value")
		}
		var kept []*knower // copies, which nothing may change
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				key, value := someKeys.Draw(rt, "key"), rapid.StringN(0, 2, 4).Draw(rt, "value")
				k.t.put([]byte(key), []byte(value))
				k.truth[key], k.known[key] = value, true
			},
			"remove": func(rt *rapid.T) {
				key := someKeys.Draw(rt, "key")
				k.t.remove([]byte(key))
				delete(k.truth, key)
				k.known[key] = true
			},
			"removeRange": func(rt *rapid.T) {
				from, to := drawRange(rt)
				k.t.removeRange(from, to)
				maps.DeleteFunc(k.truth, func(key, _ string) bool { return within(key, from, to) })
				k.mark(from, to, true)
			},
			"learn": func(rt *rapid.T) {
				from, to := drawRange(rt)
				k.t.learn(from, to, k.records(from, to))
				k.mark(from, to, true)
			},
			"learnOlder": func(rt *rapid.T) { // what is known hides it
				key := someKeys.Draw(rt, "key")
				if k.known[key] {
					k.t.learnKey([]byte(key), []byte("old"), rapid.Bool().Draw(rt, "there"))
				}
			},
			"learnKey": func(rt *rapid.T) {
				key := someKeys.Draw(rt, "key")
				value, there := k.truth[key]
				k.t.learnKey([]byte(key), []byte(value), there)
				k.known[key] = true
			},
			"forget": func(rt *rapid.T) {
				key := someKeys.Draw(rt, "key")
				k.t.forget([]byte(key))
				delete(k.known, key)
				k.truth[key] = "changed by another"
			},
			"forgetRange": func(rt *rapid.T) {
				from, to := drawRange(rt)
				k.t.forgetRange(from, to)
				k.mark(from, to, false)
				k.truth["d"] = k.truth["d"] + "+"
				if !within("d", from, to) {
					k.t.forget([]byte("d"))
					delete(k.known, "d")
				}
			},
			"trim": func(rt *rapid.T) {
				k.t.trim()
				for key := range k.known {
					if _, w := k.t.get([]byte(key)); w == unknown {
						delete(k.known, key)
					}
				}
				if k.t.cold != 0 {
					rt.Fatalf("%d cold bytes are left", k.t.cold)
				}
			},
			"copy": func(rt *rapid.T) {
				kept = append(kept, &knower{k.t, maps.Clone(k.truth), maps.Clone(k.known)})
				k.t = k.t.copy()
			},
			"": func(rt *rapid.T) {
				k.check(rt)
				for _, old := range kept {
					old.check(rt)
				}
			},
		})
	})
}

func (k *knower) check(rt *rapid.T) {
	size, cold := int64(0), int64(0)
	k.t.b.Scan(func(it item) bool { size, cold = size+it.size(), cold+it.coldSize(); return true })
	if size != k.t.bytes || cold != k.t.cold {
		rt.Fatalf("%d bytes, counted as %d; cold %d, counted as %d", size, k.t.bytes, cold, k.t.cold)
	}
	for _, key := range []string{"a", "a\x00", "ab", "b", "b\xff", "c", "d", "\xff", "\xff\xff", "\x00", "e", "f", "g", "h"} {
		value, w := k.t.get([]byte(key))
		truth, there := k.truth[key]
		switch {
		case w == unknown && k.known[key]:
			rt.Fatalf("%q is not known", key)
		case w != unknown && !k.known[key]:
			rt.Fatalf("%q is known, and was forgotten", key)
		case w == present && (!there || truth != string(value)), w == absent && there:
			rt.Fatalf("%q is %q (%v), not %q (%v)", key, value, w, truth, there)
		}
	}
	from, to := drawRange(rt)
	k.walk(rt, from, to, rapid.IntRange(1, 5).Draw(rt, "most"))
}

// walk goes over a range in both directions as far as it is known, in steps.
func (k *knower) walk(rt *rapid.T, from, to []byte, most int) {
	expect := k.records(from, to)
	var got []record
	end := false
	for at := from; !end; {
		list, next, known := k.t.walkForward(nil, at, to, most)
		got = append(got, list...)
		if end = next == nil || !known; !end && bytes.Compare(next, at) <= 0 && len(list) == 0 {
			rt.Fatalf("stands still at %q", at)
		}
		if next == nil && len(got) != len(expect) {
			rt.Fatalf("%d records of %d", len(got), len(expect))
		}
		at = next
	}
	same(rt, got, expect[:min(len(got), len(expect))])
	slices.Reverse(expect)
	got = nil
	for at, end := to, false; !end; {
		list, next, known, done := k.t.walkBack(nil, from, at, most)
		got = append(got, list...)
		if done && len(got) != len(expect) {
			rt.Fatalf("%d records of %d, backwards", len(got), len(expect))
		}
		end = done || !known
		at = next
	}
	same(rt, got, expect[:min(len(got), len(expect))])
}

func same(rt *rapid.T, got, expect []record) {
	if !slices.EqualFunc(got, expect, func(a, b record) bool { return bytes.Equal(a.key, b.key) && bytes.Equal(a.value, b.value) }) {
		rt.Fatalf("%q, not %q", got, expect)
	}
}

// TestHides: what was touched in a stretch hides behind what is known of it, and only there.
func TestHides(t *testing.T) {
	tr := newTree()
	tr.put([]byte("b"), nil)
	tr.learn([]byte("m"), []byte("p"), nil)
	key := func(k string) touched { return touched{keys: [][]byte{[]byte(k)}} }
	for i, test := range []struct {
		d        touched
		from, to string
		want     bool
	}{
		{key("b"), "a", "c", true},
		{key("a"), "a", "c", false},
		{key("c"), "a", "c", true}, // outside
		{key("n"), "a", "", true},
		{key("q"), "a", "", false},
		{key("b\x00"), "b", "b\x00", true}, // outside
		{touched{all: true}, "x", "y", false},
		{touched{spans: []span{{[]byte("a"), []byte("c")}}}, "c", "d", true},
		{touched{spans: []span{{[]byte("a"), []byte("c")}}}, "b", "d", false},
		{touched{spans: []span{{[]byte("a"), nil}}}, "x", "", false},
		{touched{spans: []span{{[]byte("x"), nil}}}, "a", "x", true},
	} {
		var to []byte
		if test.to != "" {
			to = []byte(test.to)
		}
		if got := tr.hides(&test.d, []byte(test.from), to); got != test.want {
			t.Errorf("%d: %v", i, got)
		}
	}
}

// TestNeighbours: a scan that begins with a key that was read by itself, and goes on with what
// was read from the next possible key on, finds no gap between the two.
func TestNeighbours(t *testing.T) {
	tr := newTree()
	a, end := []byte("a"), []byte("z")
	tr.learnKey(a, []byte("1"), true)
	tr.learn(after(a), end, []record{{[]byte("b"), []byte("2")}})
	list, next, known := tr.walkForward(nil, a, end, 10)
	if len(list) != 2 || next != nil || !known {
		t.Errorf("%q, %q, %v", list, next, known)
	}
	tr.learnKey([]byte("zz"), nil, true)
	if list, next, known = tr.walkForward(nil, []byte("b"), nil, 10); len(list) != 1 || string(next) != "z" || known {
		t.Errorf("%q, %q, %v: what is behind z is not known", list, next, known)
	}
	if list, next, known = tr.walkForward(nil, []byte("zz"), nil, 10); len(list) != 1 || string(next) != "zz\x00" || known {
		t.Errorf("%q, %q, %v: what is behind zz is not known", list, next, known)
	}
}
