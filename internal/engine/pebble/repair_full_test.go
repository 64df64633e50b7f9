package pebble

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// lateFS fails writes of a repaired store once some have gone well.
type lateFS struct {
	vfs.FS
	left *atomic.Int64
	err  error
}

func (fs lateFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, c)
	if err == nil && strings.Contains(name, freshName) {
		return lateFile{f, fs}, nil
	}
	return f, err
}

type lateFile struct {
	vfs.File
	fs lateFS
}

func (f lateFile) Write(p []byte) (int, error) {
	if f.fs.left.Add(-int64(len(p))) < 0 {
		return 0, f.fs.err
	}
	return f.File.Write(p)
}

// A repair whose disk gets full, or fails, ends with an error, leaves no half of a store
// behind, and the damaged one as it is; with room it can be run again.
func TestRepairOnFullDisk(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
		for _, room := range []int64{100, 4 << 10, 500 << 10} {
			w := newReplaced(t)
			e := w.open()
			w.put(e, "key")
			for i := range 10 {
				big := chance(uint64(i), 90<<10)
				if err := e.Update(ctx, engine.Shard(i), func(w engine.Writer) error { return w.Put([]byte("k"), big) }); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(e.db.Flush(), e.Close()); err != nil {
				t.Fatal(err)
			}
			plain, left := w.opt.FS, new(atomic.Int64)
			left.Store(room)
			w.opt.FS = lateFS{plain, left, cause}
			if _, err := Repair(ctx, w.dir, w.away, w.opt, nil); !fault.Is(err, fault.Unavailable) {
				t.Fatalf("%v after %d bytes: %v", cause, room, err)
			}
			for _, half := range []string{freshName, linkedName} {
				if _, err := plain.Stat(w.dir + half); err == nil {
					t.Errorf("%v after %d bytes: %s is left", cause, room, half)
				}
			}
			w.opt.FS = plain
			if _, err := Repair(ctx, w.dir, w.away, w.opt, nil); err != nil {
				t.Fatalf("with room again: %v", err)
			}
			w.has("key")
		}
	}
}
