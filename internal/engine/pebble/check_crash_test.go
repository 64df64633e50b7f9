package pebble

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/martlet-mail/martlet/internal/engine"
)

// cutAt takes what a power cut or a kill would leave at one of the calls.
type cutAt struct {
	left atomic.Int64
	fs   *vfs.MemFS
	cut  vfs.CrashCloneCfg
	got  atomic.Pointer[vfs.MemFS]
}

func (c *cutAt) String() string { return "cut" }

func (c *cutAt) MaybeError(errorfs.Op) error {
	if c.left.Add(-1) == 0 {
		c.got.Store(c.fs.CrashClone(c.cut))
	}
	return nil
}

// What an ordinary kill or power cut leaves is no damage: half a table that nobody needs, say,
// or half of the first start.
func TestNoDamageAfterCrash(t *testing.T) {
	crashes := 0
	for n := int64(1); n < 700; n += 9 {
		for _, kept := range []int{50, 100} {
			mem := vfs.NewCrashableMem()
			c := &cutAt{fs: mem, cut: vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: rand.New(rand.NewPCG(uint64(n), 1))}}
			c.left.Store(n)
			opt := endsOptions(errorfs.Wrap(mem, c))
			opt.MemTableBytes = 256 << 10
			e, err := Open("store", opt)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 150 {
				if err := e.Update(ctx, 8, func(w engine.Writer) error { return w.Put(fmt.Append(nil, i), make([]byte, 9000)) }); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			if opt.FS = c.got.Load(); c.got.Load() == nil {
				continue
			}
			if _, err := opt.FS.Stat("store"); err != nil {
				continue
			}
			crashes++
			if found, err := Inspect(ctx, "store", opt); err != nil || len(found) > 0 {
				t.Errorf("cut at %d, %d%% kept: inspect: %v %v", n, kept, found, err)
			}
			if e, err = Open("store", opt); err != nil {
				t.Fatalf("cut at %d, %d%% kept: %v", n, kept, err)
			}
			if _, err := e.Check(ctx, func(f, what string) { t.Errorf("cut at %d, %d%% kept: check: %s %s", n, kept, f, what) }); err != nil {
				t.Error(err)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if crashes < 100 {
		t.Errorf("%d crashes", crashes)
	}
}

// Each table and blob file that is there when the store is closed counts: it is not left out of
// what is checked.
func TestAllFilesCount(t *testing.T) {
	s := newCutStore(t)
	fs := s.disk(s.files)
	names := []string{}
	for name := range s.files {
		names = append(names, name)
	}
	count, err := readCensus(fs, "data/"+currentManifest(names))
	if err != nil {
		t.Fatal(err)
	}
	tables := 0
	for name := range s.files {
		if isTable(name) {
			tables++
		}
		if isTable(name) && !count.counts(name) {
			t.Errorf("%s does not count", name)
		}
	}
	if tables < 3 || count.counts("999999.sst") {
		t.Errorf("%d tables", tables)
	}
}
