package pebble

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	db "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Of a table of which some blocks are damaged, wherever they lie, a repair keeps all others: it
// does not miss what lies between two of them.
func TestRepairBetweenDamagedBlocks(t *testing.T) {
	const n = 6000
	for space, record := range map[string]func(i uint32) (key, value []byte){
		"headers": func(i uint32) (key, value []byte) {
			name := mail.BlobRef(sha256.Sum256(binary.BigEndian.AppendUint32(nil, i)))
			return headerKey(name), header{time.Unix(1, 0), 0, nil}.encode(name)
		},
		"records": func(i uint32) (key, value []byte) {
			return append(shardPrefix(engine.Shard(i/2000)), engine.Key(byte('a'+i%7), uint64(i)<<(i%30))...), chance(uint64(i), 50)
		},
	} {
		t.Run(space, func(t *testing.T) {
			w := newReplaced(t)
			w.opt.MemTableBytes = 8 << 20
			e := w.open()
			keys := map[string]bool{}
			batch := e.db.NewBatch()
			for i := range uint32(n) {
				key, value := record(i)
				keys[string(key)] = true
				if err := batch.Set(key, value, nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := batch.Commit(db.NoSync); err != nil {
				t.Fatal(err)
			}
			if err := e.db.Flush(); err != nil {
				t.Fatal(err)
			}
			if err := e.db.Compact(ctx, []byte{0}, []byte{255}, false); err != nil {
				t.Fatal(err)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			s := &cutStore{t: t, files: map[string][]byte{}}
			for path, b := range w.files("*") {
				name := vfs.Default.PathBase(path)
				if s.files[name] = b; isTable(name) && len(b) > len(s.files[s.old]) {
					s.old = name
				}
			}
			blocks := layoutOf(t, s.files[s.old]).Data
			for seed := range uint64(10) {
				rng := rand.New(rand.NewPCG(seed, 33))
				b := slices.Clone(s.files[s.old])
				hurt := 2 + rng.IntN(4)
				for range hurt {
					at := int(blocks[rng.IntN(len(blocks))].Offset)
					for k := range 40 {
						b[at+50+k] = 0x5a
					}
				}
				left := s.count(s.with(s.old, b), keys)
				if lost, most := n-left, hurt*n*2/len(blocks); lost == 0 || lost > most {
					t.Errorf("seed %d: %d of %d are lost with %d of %d blocks", seed, lost, n, hurt, len(blocks))
				}
			}
		})
	}
}

// count repairs the store and counts keys of the database that are there.
func (s *cutStore) count(files map[string][]byte, keys map[string]bool) (n int) {
	s.t.Helper()
	fs := s.disk(files)
	if _, err := Repair(ctx, "data", "quarantine/now/data", endsOptions(fs), nil); err != nil {
		s.t.Fatal(err)
	}
	e, err := Open("data", endsOptions(fs))
	if err != nil {
		s.t.Fatal(err)
	}
	defer e.Close()
	for key := range keys {
		_, closer, err := e.db.Get([]byte(key))
		if err == nil {
			n++
			_ = closer.Close()
		}
	}
	return n
}
