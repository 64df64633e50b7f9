package cluster

import (
	"testing"
	"time"
)

// Each kind of fault is noticed, and nothing else is: a book that is fed a message too much,
// or one too few, does not agree.
func TestBookNotices(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	acked := func(b *Book) { b.Acked("a", now) }
	for _, c := range []struct {
		name                   string
		said                   []func(*Book)
		found                  map[string]int
		lost, doubled, strange int
	}{
		{"as told", []func(*Book){acked}, map[string]int{"a": 1}, 0, 0, 0},
		{"lost", []func(*Book){acked}, nil, 1, 0, 0},
		{"twice", []func(*Book){acked}, map[string]int{"a": 2}, 0, 1, 0},
		{"twice, once told to come again", []func(*Book){(*Book).Later, acked}, map[string]int{"a": 2}, 0, 1, 0},
		{"twice, once without an answer", []func(*Book){func(b *Book) { b.Cut("a", true) }, acked}, map[string]int{"a": 2}, 0, 0, 0},
		{"three times, once without an answer", []func(*Book){func(b *Book) { b.Cut("a", true) }, acked}, map[string]int{"a": 3}, 0, 1, 0},
		{"twice, once cut before the text", []func(*Book){func(b *Book) { b.Cut("a", false) }, acked}, map[string]int{"a": 2}, 0, 1, 0},
		{"not acknowledged and there", nil, map[string]int{"a": 1}, 0, 0, 0},
		{"not acknowledged and not there", nil, nil, 0, 0, 0},
		{"removed", []func(*Book){acked, func(b *Book) { b.Removed("a") }}, nil, 0, 0, 0},
		{"perhaps removed", []func(*Book){acked, func(b *Book) { b.Removing("a") }}, nil, 0, 0, 0},
		{"perhaps removed, and there", []func(*Book){acked, func(b *Book) { b.Removing("a") }}, map[string]int{"a": 1}, 0, 0, 0},
		{"removed, and there", []func(*Book){acked, func(b *Book) { b.Removed("a") }}, map[string]int{"a": 1}, 0, 0, 1},
		{"never sent", []func(*Book){acked}, map[string]int{"a": 1, "b": 1}, 0, 0, 1},
	} {
		b := NewBook()
		b.Try("a", "alice")
		for _, f := range c.said {
			f(b)
		}
		v := b.Compare("alice", c.found)
		if len(v.Lost) != c.lost || len(v.Doubled) != c.doubled || len(v.Strange) != c.strange || v.OK() != (c.lost+c.doubled+c.strange == 0) {
			t.Errorf("%s: %v", c.name, v)
		}
	}
}

func TestBookGap(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	b := NewBook()
	b.Try("a", "alice")
	for _, s := range []int{1, 12, 11, 18} {
		b.Acked("a", at(s))
	}
	if f := b.Since(at(10), at(20)); f.Gap != 6*time.Second || f.Acked != 3 {
		t.Errorf("%+v", f)
	}
	b.Acked("a", at(21))
	if f := b.Since(at(20), at(30)); f.Gap != 9*time.Second || f.Acked != 1 {
		t.Errorf("%+v", f)
	}
}
