package pebble

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/martlet-mail/martlet/test/promise"
)

// allKinds are the calls of the file system.
var allKinds = map[string]errorfs.OpKind{
	"create": errorfs.OpCreate, "link": errorfs.OpLink, "open": errorfs.OpOpen, "opendir": errorfs.OpOpenDir,
	"remove": errorfs.OpRemove, "removeall": errorfs.OpRemoveAll, "rename": errorfs.OpRename,
	"reuse": errorfs.OpReuseForWrite, "mkdirall": errorfs.OpMkdirAll, "lock": errorfs.OpLock, "list": errorfs.OpList,
	"preallocate": errorfs.OpFilePreallocate, "stat": errorfs.OpStat, "usage": errorfs.OpGetDiskUsage,
	"close": errorfs.OpFileClose, "read": errorfs.OpFileRead, "readat": errorfs.OpFileReadAt,
	"write": errorfs.OpFileWrite, "writeat": errorfs.OpFileWriteAt, "filestat": errorfs.OpFileStat,
	"sync": errorfs.OpFileSync, "syncdata": errorfs.OpFileSyncData, "syncto": errorfs.OpFileSyncTo,
}

// TestR6EachCall fails the nth call of each kind, once and from then on. Whatever happens
// the engine neither hangs nor ends the process; it stops writing if it may have lost
// something, and reads on; and the next Open, with the disk whole again or after a power
// cut, finds all that was acknowledged and nothing by half.
func TestR6EachCall(t *testing.T) {
	most := promise.Times(t, "R6", 16/min(effort, 4), 200)
	trials, hit := 0, map[string]int{}
	for what, op := range allKinds {
		for n := 1; n <= most; n = next(n) {
			for _, once := range []bool{true, false} {
				b := &breaker{skip: n - 1, once: once, match: func(o errorfs.Op) bool { return o.Kind == op }}
				if err := breakDisk(b, uint64(n), nil); err != nil {
					t.Errorf("%s, call %d, once %t: %v", what, n, once, err)
				}
				if b.count() > 0 {
					trials++
					hit[what]++
				}
			}
			if hit[what] == 0 {
				break // there is no such call
			}
		}
	}
	for _, must := range []string{"create", "remove", "reuse", "write", "sync", "syncdata", "open", "readat"} {
		if hit[must] == 0 {
			t.Errorf("no call of the kind %q was ever made", must)
		}
	}
	t.Logf("failures by kind: %v", hit)
	promise.Kept(t, "R6", "kinds of calls", len(hit), "failures", trials, "lost", 0, "half", 0)
}

// next is the call that fails after the nth: each, or, in the short form, ever fewer.
func next(n int) int {
	if promise.Long() {
		return n + 1
	}
	return 2 * n
}

// TestR6NoticesLoss fails syncs and does not let the engine know: if nothing is lost then,
// the test above proves nothing.
func TestR6NoticesLoss(t *testing.T) {
	noticed := 0
	for n := range 4 {
		b := &breaker{skip: n, match: func(o errorfs.Op) bool {
			return o.Kind == errorfs.OpFileSync || o.Kind == errorfs.OpFileSyncData || o.Kind == errorfs.OpFileSyncTo
		}}
		if breakDisk(b, uint64(n), func(fs vfs.FS) vfs.FS { return deafFS{fs} }) != nil {
			noticed++
		}
	}
	if noticed == 0 {
		t.Error("an engine that does not heed failed syncs lost nothing")
	}
}

// deafFS hides that a sync has failed.
type deafFS struct{ vfs.FS }

func (fs deafFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return deaf(fs.FS.Create(name, category))
}

func (fs deafFS) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return deaf(fs.FS.ReuseForWrite(old, name, category))
}

func (fs deafFS) OpenDir(name string) (vfs.File, error) { return deaf(fs.FS.OpenDir(name)) }

func deaf(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return deafFile{f}, nil
}

type deafFile struct{ vfs.File }

func (f deafFile) Sync() error     { _ = f.File.Sync(); return nil }
func (f deafFile) SyncData() error { _ = f.File.SyncData(); return nil }

func (f deafFile) SyncTo(length int64) (bool, error) {
	full, _ := f.File.SyncTo(length)
	return full, nil
}
