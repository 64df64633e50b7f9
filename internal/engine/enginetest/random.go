package enginetest

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// model is what the engine should hold: sorted maps, in the simplest way.
type model struct {
	t      *testing.T
	h      Harness
	e      engine.Engine
	base   engine.Shard // first of this run's shards
	shards [3]map[string]string
	blobs  map[mail.BlobRef][]byte
}

// testRandom runs random operations on the engine and the model beside each other.
// All runs share one engine and differ in the shards and blobs they use.
func testRandom(t *testing.T, h Harness) {
	e := closing(t, h.Open(t, newClock().now))
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		if run++; h.Runs > 0 && run > h.Runs {
			return
		}
		m := &model{t: t, h: h, e: e, base: engine.Shard(run * 16), blobs: map[mail.BlobRef][]byte{}}
		for i := range m.shards {
			m.shards[i] = map[string]string{}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"update": m.update,
			"view":   m.view,
			"blob":   m.blob,
			"reopen": m.reopen,
			"":       m.check,
		})
		e = m.e
	})
}

var keys = rapid.SampledFrom([]string{"a", "a\x00", "ab", "b", "b\xff", "c", "d", "\xff", "\xff\xff", "\x00", "e", "f"})

func drawBound(rt *rapid.T, label string) []byte {
	if rapid.IntRange(0, 3).Draw(rt, label+" nil") == 0 {
		return nil
	}
	return []byte(keys.Draw(rt, label))
}

// update does up to eight writes and reads in one Update, which may fail at the end.
func (m *model) update(rt *rapid.T) {
	i := rapid.IntRange(0, len(m.shards)-1).Draw(rt, "shard")
	n := rapid.IntRange(0, 8).Draw(rt, "writes")
	fails := rapid.IntRange(0, 4).Draw(rt, "fails") == 0
	sorry := errors.New("sorry")
	var after map[string]string
	err := m.e.Update(m.t.Context(), m.base+engine.Shard(i), func(w engine.Writer) error {
		after = maps.Clone(m.shards[i])
		for range n {
			if err := write(rt, w, after); err != nil {
				return err
			}
		}
		if fails {
			return sorry
		}
		return nil
	})
	switch {
	case fails && errors.Is(err, sorry):
	case err != nil || fails:
		rt.Fatalf("update: %v, fails %v", err, fails)
	default:
		m.shards[i] = after
	}
}

// write does one operation on the engine and on the model.
func write(rt *rapid.T, w engine.Writer, m map[string]string) error {
	key := keys.Draw(rt, "key")
	switch rapid.IntRange(0, 4).Draw(rt, "operation") {
	case 0, 1:
		value := string(body(len(m), rapid.SampledFrom([]int{0, 1, 10, 600, 5000}).Draw(rt, "size")))
		m[key] = value
		return w.Put([]byte(key), []byte(value))
	case 2:
		delete(m, key)
		return w.Delete([]byte(key))
	case 3:
		from, to := drawBound(rt, "from"), drawBound(rt, "to")
		maps.DeleteFunc(m, func(k, _ string) bool { return inside(k, from, to) })
		return w.DeleteRange(from, to)
	}
	compareScan(rt, w, m)
	return nil
}

func inside(k string, from, to []byte) bool {
	return k >= string(from) && (to == nil || k < string(to))
}

// compareScan scans a random range in a random direction, and gets a random key.
func compareScan(rt *rapid.T, r engine.Reader, m map[string]string) {
	from, to := drawBound(rt, "from"), drawBound(rt, "to")
	reverse := rapid.Bool().Draw(rt, "reverse")
	var expect []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if inside(k, from, to) {
			expect = append(expect, k+"="+m[k])
		}
	}
	if reverse {
		slices.Reverse(expect)
	}
	got, err := scan(r, from, to, reverse)
	if err != nil || !slices.Equal(got, expect) {
		rt.Fatalf("scan %q to %q: got %q, want %q, %v", from, to, got, expect, err)
	}
	key := keys.Draw(rt, "get")
	value, ok, err := r.Get([]byte(key))
	expected, there := m[key]
	if err != nil || ok != there || string(value) != expected {
		rt.Fatalf("get %q: got %q %v %v", key, value, ok, err)
	}
}

func (m *model) view(rt *rapid.T) {
	i := rapid.IntRange(0, len(m.shards)-1).Draw(rt, "shard")
	err := m.e.View(m.t.Context(), m.base+engine.Shard(i), func(r engine.Reader) error {
		compareScan(rt, r, m.shards[i])
		return nil
	})
	if err != nil {
		rt.Fatalf("view: %v", err)
	}
}

func (m *model) blob(rt *rapid.T) {
	n := rapid.IntRange(0, 3).Draw(rt, "blob")
	name := blobName(int(m.base) + n)
	data, there := m.blobs[name]
	switch rapid.IntRange(0, 3).Draw(rt, "operation") {
	case 0:
		if !there {
			data = body(n, rapid.SampledFrom([]int{0, 1, 300, 65_532, 100_000, 700_000}).Draw(rt, "size"))
		}
		if err := m.e.Blobs().Put(m.t.Context(), name, int64(len(data)), bytes.NewReader(data)); err != nil {
			rt.Fatalf("put: %v", err)
		}
		m.blobs[name] = data
	case 1:
		ok, err := m.e.Blobs().Delete(m.t.Context(), name, endOfTime)
		if ok != there || err != nil {
			rt.Fatalf("delete: %v, %v", ok, err)
		}
		delete(m.blobs, name)
	default:
		got, err := readBlob(m.t.Context(), m.e, name, 0, -1)
		if (err == nil) != there || !bytes.Equal(got, data) {
			rt.Fatalf("blob: %d bytes of %d, %v", len(got), len(data), err)
		}
	}
}

func (m *model) reopen(rt *rapid.T) {
	if m.h.Reopen == nil || rapid.IntRange(0, 3).Draw(rt, "reopen") > 0 {
		rt.Skip("not now")
	}
	m.e = closing(m.t, m.h.Reopen(m.t, m.e))
}

// check compares everything.
func (m *model) check(rt *rapid.T) {
	for i, expect := range m.shards {
		err := m.e.View(m.t.Context(), m.base+engine.Shard(i), func(r engine.Reader) error {
			got := map[string]string{}
			err := r.Scan(nil, nil, false, func(k, v []byte) bool {
				got[string(k)] = string(v)
				return true
			})
			if !maps.Equal(got, expect) {
				rt.Fatalf("shard %d: got %q, want %q", i, got, expect)
			}
			return err
		})
		if err != nil {
			rt.Fatalf("view: %v", err)
		}
	}
}
