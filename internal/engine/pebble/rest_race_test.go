package pebble

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
)

// newLogFS calls made once when a log has been made and the database does not know it yet.
type newLogFS struct {
	vfs.FS
	armed atomic.Bool
	once  sync.Once
	made  func()
}

func (f *newLogFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	f.log(name)
	return file, err
}

func (f *newLogFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(old, name, c)
	f.log(name)
	return file, err
}

func (f *newLogFS) log(name string) {
	if isLog(name) && f.armed.Load() {
		f.once.Do(f.made)
	}
}

// TestTidyWhileALogIsMade: the new log lies in the directory, the old one alone counts, and
// what is in it is on no table yet. The power goes as soon as tidy has looked.
func TestTidyWhileALogIsMade(t *testing.T) {
	mem := vfs.NewCrashableMem()
	fs := &newLogFS{FS: mem}
	opt := small(fs)
	opt.rest = time.Hour
	e := open(t, "data", opt)
	newLedger().write(e, rand.New(rand.NewPCG(1, 1)), 0, 50)
	for e.db.Metrics().WAL.Files != 1 {
		time.Sleep(time.Millisecond)
	}
	var clone *vfs.MemFS
	fs.made = func() {
		e.tidy()
		if dir, err := mem.OpenDir("data"); err == nil {
			dir.Sync()
			dir.Close()
		}
		clone = mem.CrashClone(vfs.CrashCloneCfg{})
	}
	fs.armed.Store(true)
	acknowledged := 0
	for i := 0; clone == nil; i++ {
		if i == 100 {
			t.Fatal("no new log was made")
		}
		acknowledged = i // the one under way is not
		err := e.Update(t.Context(), 77, func(w engine.Writer) error { return w.Put([]byte{1, byte(i)}, make([]byte, 20_000)) })
		if err != nil {
			t.Fatal(err)
		}
	}
	found := 0
	err := open(t, "data", small(clone)).View(t.Context(), 77, func(r engine.Reader) error {
		return r.Scan([]byte{1}, []byte{2}, false, func(_, _ []byte) bool { found++; return true })
	})
	if err != nil || found < acknowledged {
		t.Errorf("of %d acknowledged records %d are there: %v", acknowledged, found, err)
	}
}
