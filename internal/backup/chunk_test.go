package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
)

// sorted is a shard of entries in order.
type sorted []entry

func (s sorted) Get(key []byte) ([]byte, bool, error) {
	i, ok := slices.BinarySearchFunc(s, key, func(e entry, k []byte) int { return bytes.Compare(e.key, k) })
	if !ok {
		return nil, false, nil
	}
	return s[i].value, true, nil
}

func (s sorted) Scan(from, to []byte, reverse bool, fn func(key, value []byte) bool) error {
	part := sorted{}
	for _, e := range s {
		if bytes.Compare(e.key, from) >= 0 && (to == nil || bytes.Compare(e.key, to) < 0) {
			part = append(part, e)
		}
	}
	if reverse {
		slices.Reverse(part)
	}
	for _, e := range part {
		if !fn(e.key, e.value) {
			break
		}
	}
	return nil
}

// entries makes n of them: of the sizes that records have.
func entries(rng *rand.Rand, n int) sorted {
	var s sorted
	for i := range n {
		key := append([]byte{byte('a' + i%5)}, binary.BigEndian.AppendUint64(nil, uint64(i)*3)...)
		value := make([]byte, rng.IntN([]int{20, 200, 1000, 4000, 20}[i%5]+1))
		for j := range value {
			value[j] = byte(rng.Uint32())
		}
		s = append(s, entry{key, value})
	}
	slices.SortFunc(s, func(a, b entry) int { return bytes.Compare(a.key, b.key) })
	return s
}

// cutting stores shards in a repository in memory.
func cutting(t testing.TB) *saver {
	t.Helper()
	r, err := open(on(vfs.NewMem()), "/backup", toAdd)
	if err != nil {
		t.Fatal(err)
	}
	s := &saver{repo: r, sound: map[object]bool{}}
	t.Cleanup(func() { s.abandon(); r.close() })
	return s
}

func (s *saver) names(t testing.TB, from engine.Reader) map[name]bool {
	t.Helper()
	tree, err := s.cut(from, plain)
	if err != nil {
		t.Fatal(err)
	}
	all := map[name]bool{}
	for _, c := range tree.chunks {
		all[c.name] = true
	}
	return all
}

// One more record, one less or one changed makes a chunk or two new, whatever there is.
func TestChangesAreLocal(t *testing.T) {
	most, chunks := 0, 0
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := cutting(t)
		was := entries(rng, 5000)
		before := s.names(t, was)
		chunks += len(before)
		for range 12 {
			now := slices.Clone(was)
			i := rng.IntN(len(now))
			switch rng.IntN(3) {
			case 0:
				now = slices.Insert(now, i, entry{append(slices.Clone(now[i].key), 0)[:9], []byte("new")})
				now[i].key = append(slices.Clone(now[i+1].key[:8]), now[i+1].key[8]-1)
			case 1:
				now = slices.Delete(now, i, i+1)
			case 2:
				now[i].value = make([]byte, rng.IntN(3000))
			}
			fresh := 0
			for n := range s.names(t, now) {
				if !before[n] {
					fresh++
				}
			}
			most = max(most, fresh)
		}
	}
	if most > 4 {
		t.Errorf("one change made %d chunks new", most)
	}
	if mean := 6 * 5000 * 1048 / chunks; mean < chunkMean/3 || mean > chunkMean*3 {
		t.Errorf("chunks have about %d bytes", mean)
	}
	t.Logf("%d chunks; a change makes at most %d new", chunks, most)
}

// A shard that is read back from chunks answers as the shard does.
func TestReaderOfChunks(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 2))
		s := cutting(t)
		was := entries(rng, rng.IntN(3000))
		tree, err := s.cut(was, plain)
		if err != nil {
			t.Fatal(err)
		}
		again, err := readTree(tree.encode())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.flush(); err != nil {
			t.Fatal(err)
		}
		r := &reader{ctx: context.Background(), chunks: newChunks(s.repo), tree: again}
		key := func() []byte {
			k := make([]byte, 1+rng.IntN(10))
			for i := range k {
				k[i] = byte(rng.Uint32()) % 8
			}
			k[0] = byte('a' + rng.IntN(6) - 1)
			if len(was) > 0 && rng.IntN(2) == 0 {
				return was[rng.IntN(len(was))].key
			}
			return k
		}
		for range 60 {
			k := key()
			v, ok, err := r.Get(k)
			v2, ok2, _ := was.Get(k)
			if err != nil || ok != ok2 || !bytes.Equal(v, v2) {
				t.Fatalf("seed %d: Get %x: %v %v, want %v", seed, k, ok, err, ok2)
			}
			from, to, reverse, most := key(), key(), rng.IntN(2) == 0, rng.IntN(2000)
			if rng.IntN(3) == 0 {
				from = nil
			}
			if rng.IntN(3) == 0 {
				to = nil
			}
			if a, b := scanned(t, r, from, to, reverse, most), scanned(t, was, from, to, reverse, most); a != b {
				t.Fatalf("seed %d: Scan(%x, %x, %v, %d) differs", seed, from, to, reverse, most)
			}
		}
	}
}

func scanned(t testing.TB, r engine.Reader, from, to []byte, reverse bool, most int) string {
	t.Helper()
	sum := sha256.New()
	n := 0
	if err := r.Scan(from, to, reverse, func(k, v []byte) bool {
		sum.Write(k)
		sum.Write(v)
		n++
		return n < most
	}); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %x", n, sum.Sum(nil))
}
