package sim

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// drive is the file system during one life of the server. It counts the calls that change
// it, fails or delays those it is told to, and ends the life before one of them.
type drive struct {
	w     *world
	mem   *vfs.MemFS
	life  *life
	began time.Time
	rng   *rand.Rand
	power func() // takes the server off the network

	mu     sync.Mutex
	calls  int // that change something
	syncs  int
	armed  bool  // troubles may begin
	met    []int // matching calls of each trouble
	broken bool  // some call has failed for good
	after  *vfs.MemFS
	lost   bool          // the cut took something that had been written
	over   chan struct{} // closed by the cut
}

func newDrive(w *world, n int, power func()) *drive {
	return &drive{w: w, mem: w.mem, life: &w.s.Lives[n], began: time.Now(), power: power, met: make([]int, len(w.s.Lives[n].Faults)),
		rng: rand.New(rand.NewPCG(w.s.Seed, uint64(1000+n))), over: make(chan struct{})}
}

func (d *drive) fs() vfs.FS {
	if w := d.w.opt.wrap; w != nil {
		return errorfs.Wrap(w(d.mem), d)
	}
	return errorfs.Wrap(d.mem, d)
}

func (d *drive) String() string { return "disk" }

// MaybeError is called before each call of the file system.
func (d *drive) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
		return nil
	}
	delay, err := d.change(op)
	if delay > 0 {
		time.Sleep(delay)
	}
	return err
}

func (d *drive) change(op errorfs.Op) (delay time.Duration, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	if isSync(op.Kind) {
		d.syncs++
	}
	if d.after == nil && (d.calls == d.life.Cut.Call || isSync(op.Kind) && d.syncs == d.life.Cut.Sync) {
		d.w.logf("the power fails before call %d (sync %d), %s of %s", d.calls, d.syncs, kindOf(op.Kind), op.Path)
		d.cut()
	}
	if !d.armed || d.after != nil {
		return 0, nil
	}
	now := int(time.Since(d.began).Milliseconds())
	for i, t := range d.life.Faults {
		switch {
		case t.Kind == "slow" && isSync(op.Kind) && strings.Contains(op.Path, ".log") && t.From <= now && now < t.To:
			delay = ms(t.By)
			if d.met[i]++; d.met[i] == 1 {
				d.w.met("slow disks")
			}
		case t.Kind == "full" && (op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpCreate) && strings.Contains(op.Path, t.File) && t.From <= now && now < t.To:
			if d.met[i]++; d.met[i] == 1 {
				d.w.logf("the disk is full")
				d.w.met("full disks")
			}
			return 0, syscall.ENOSPC
		case t.Kind == "eio" && kindOf(op.Kind) == t.What && strings.Contains(op.Path, t.File) && t.From <= now:
			if d.met[i]++; d.met[i] <= t.Skip || t.Once && d.met[i] > t.Skip+1 {
				continue
			}
			d.w.logf("EIO from %s of %s", t.What, op.Path)
			if !d.broken {
				d.w.met("EIO")
				d.w.cutAt(time.Now()) // nothing can be written down from now on
			}
			d.broken = true
			return 0, syscall.EIO
		}
	}
	return delay, nil
}

func isSync(k errorfs.OpKind) bool { return k == errorfs.OpFileSync || k == errorfs.OpFileSyncData }

func kindOf(k errorfs.OpKind) string {
	switch k {
	case errorfs.OpCreate, errorfs.OpReuseForWrite:
		return "create"
	case errorfs.OpFileWrite, errorfs.OpFileWriteAt:
		return "write"
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		return "sync"
	case errorfs.OpRemove:
		return "remove"
	case errorfs.OpRename:
		return "rename"
	}
	return ""
}

// cut ends the life: first nothing more is said, then the disk is kept as it is. It needs
// the lock.
func (d *drive) cut() {
	if d.after != nil {
		return
	}
	d.power()
	d.after = d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: d.life.Cut.Keep, RNG: d.rng})
	d.lost = lost(d.mem, d.after, "data")
	d.w.cutAt(time.Now())
	close(d.over)
}

// cutNow ends the life if nothing has done so before.
func (d *drive) cutNow(why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.after == nil {
		d.w.logf("the power fails: %s", why)
		d.cut()
	}
}

// arm lets troubles begin.
func (d *drive) arm(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed = on
}

func (d *drive) isOver() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.after != nil
}

func (d *drive) isBroken() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.broken
}

// lost tells whether the cut took something that had been written.
func lost(before, after *vfs.MemFS, dir string) bool {
	names, err := before.List(dir)
	if err != nil {
		return false
	}
	for _, name := range names {
		was, ok := content(before, before.PathJoin(dir, name))
		is, still := content(after, after.PathJoin(dir, name))
		if ok && (!still || !bytes.Equal(was, is)) {
			return true
		}
	}
	return false
}

func content(fs vfs.FS, name string) ([]byte, bool) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	return b, err == nil
}

// lazyFS does not sync the log: the disk of the test that must fail.
type lazyFS struct{ vfs.FS }

func (fs lazyFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, category)
	return lazy(f, name), err
}

func (fs lazyFS) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.ReuseForWrite(old, name, category)
	return lazy(f, name), err
}

func lazy(f vfs.File, name string) vfs.File {
	if f == nil || !strings.HasSuffix(name, ".log") {
		return f
	}
	return lazyFile{f}
}

type lazyFile struct{ vfs.File }

func (lazyFile) Sync() error     { return nil }
func (lazyFile) SyncData() error { return nil }
