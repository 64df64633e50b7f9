package pebble

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// replaced is a store on the real disk, to be repaired.
type replaced struct {
	t         *testing.T
	dir, away string
	opt       Options
}

func newReplaced(t *testing.T) *replaced {
	root := t.TempDir()
	return &replaced{t, filepath.Join(root, "store"), filepath.Join(root, "quarantine", "store"),
		Options{FS: vfs.Default, Now: time.Now, CacheBytes: 1 << 20, MemTableBytes: 1 << 20, ReserveBytes: -1}}
}

func (w *replaced) open() *Engine {
	w.t.Helper()
	e, err := Open(w.dir, w.opt)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *replaced) put(e *Engine, key string) {
	w.t.Helper()
	if err := e.Update(ctx, 7, func(w engine.Writer) error { return w.Put([]byte(key), []byte("v")) }); err != nil {
		w.t.Fatal(err)
	}
}

// has opens the store and looks for keys.
func (w *replaced) has(keys ...string) {
	w.t.Helper()
	e := w.open()
	defer e.Close()
	for _, k := range keys {
		err := e.View(ctx, 7, func(r engine.Reader) error {
			_, ok, err := r.Get([]byte(k))
			if err == nil && !ok {
				err = fmt.Errorf("%s is lost", k)
			}
			return err
		})
		if err != nil {
			w.t.Error(err)
		}
	}
}

var ctx = context.Background()

// A store that somebody has open is not repaired: what he writes would lie in the folder that
// is moved away.
func TestRepairOfAnOpenStoreIsRefused(t *testing.T) {
	w := newReplaced(t)
	e := w.open()
	w.put(e, "before")
	if _, err := Inspect(ctx, w.dir, w.opt); !fault.Is(err, fault.Busy) {
		t.Errorf("inspect: %v", err)
	}
	if _, err := Repair(ctx, w.dir, w.away, w.opt, nil); !fault.Is(err, fault.Busy) {
		t.Errorf("repair: %v", err)
	}
	w.put(e, "after")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	w.has("before", "after")
}

// lockSeer is told when a lock is taken or given back, and of each rename.
type lockSeer struct {
	vfs.FS
	rename func(from, to string)
}

func (s lockSeer) Rename(from, to string) error {
	s.rename(from, to)
	err := s.FS.Rename(from, to)
	s.rename("", to)
	return err
}

// Nobody can open the store while it is repaired, in no moment of the exchange.
func TestNobodyOpensAStoreUnderRepair(t *testing.T) {
	w := newReplaced(t)
	e := w.open()
	w.put(e, "key")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	plain, tries := w.opt, 0
	try := func(string, string) {
		tries++
		if e, err := Open(w.dir, plain); err == nil {
			t.Error("the store opens while it is repaired")
			e.Close()
		}
	}
	opt := w.opt
	opt.FS = lockSeer{vfs.Default, try}
	if _, err := Repair(ctx, w.dir, w.away, opt, func(Salvaged) { try("", "") }); err != nil {
		t.Fatal(err)
	}
	if tries < 4 {
		t.Fatalf("%d attempts", tries)
	}
	w.has("key")
}

// The same with the rename cut short: a start finds no store and begins none.
func TestRepairCutShortBetweenTheRenames(t *testing.T) {
	w := newReplaced(t)
	e := w.open()
	w.put(e, "key")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	opt := w.opt
	opt.FS = cutRename{vfs.Default, w.dir}
	if _, err := Repair(ctx, w.dir, w.away, opt, nil); err == nil {
		t.Fatal("not cut short")
	}
	if e, err := Open(w.dir, w.opt); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a start begins a new store: %v", err)
		e.Close()
	}
	if _, err := Repair(ctx, w.dir, w.away, w.opt, nil); err != nil {
		t.Fatal(err)
	}
	w.has("key")
}

// cutRename fails to give a folder its name.
type cutRename struct {
	vfs.FS
	to string
}

func (c cutRename) Rename(from, to string) error {
	if to == c.to {
		return os.ErrPermission
	}
	return c.FS.Rename(from, to)
}

// A repair that was complete but for the exchange is not put in the place of a store that was
// used since.
func TestStaleRepairIsMadeAnew(t *testing.T) {
	for _, used := range []bool{true, false} {
		w := newReplaced(t)
		e := w.open()
		w.put(e, "before")
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		opt := w.opt
		opt.FS = cutRename{vfs.Default, w.away}
		if _, err := Repair(ctx, w.dir, w.away, opt, nil); err == nil {
			t.Fatal("not cut short")
		}
		keys := []string{"before"}
		if used {
			e = w.open()
			w.put(e, "since")
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			keys = append(keys, "since")
		}
		opt.FS = noSalvage{vfs.Default}
		if _, err := Repair(ctx, w.dir, w.away, opt, nil); (err != nil) != used {
			t.Errorf("used %v, made anew: %v", used, err)
		}
		if used {
			if _, err := Repair(ctx, w.dir, w.away, w.opt, nil); err != nil {
				t.Fatal(err)
			}
		}
		w.has(keys...)
	}
}

// noSalvage cannot begin a repair.
type noSalvage struct{ vfs.FS }

func (n noSalvage) MkdirAll(dir string, perm os.FileMode) error {
	if strings.HasSuffix(dir, linkedName) {
		return os.ErrPermission
	}
	return n.FS.MkdirAll(dir, perm)
}

// A store whose records are not all mended yet is not opened, and a repair that goes on says
// once more what was lost.
func TestRepairCutShortBeforeTheRecords(t *testing.T) {
	w := newReplaced(t)
	e := w.open()
	w.put(e, "key")
	if err := e.db.Flush(); err != nil {
		t.Fatal(err)
	}
	w.put(e, "lost")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for file, b := range w.files("*.log") {
		w.write(file, b[:len(b)/2])
	}
	mending := w.opt
	mending.Mending = true
	first, err := Repair(ctx, w.dir, w.away, mending, nil)
	if err != nil || len(first.Holes) == 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	if e, err := Open(w.dir, w.opt); !fault.Is(err, fault.Corrupt) {
		t.Errorf("opened: %v", err)
		e.Close()
	}
	if found, err := Inspect(ctx, w.dir, w.opt); err != nil || len(found) != 1 {
		t.Errorf("inspect: %v, %v", found, err)
	}
	e, err = Open(w.dir, mending) // to mend the records
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Repair(ctx, w.dir, w.away+"2", mending, nil)
	if err != nil || !reflect.DeepEqual(again, first) {
		t.Errorf("again: %+v, %v", again, err)
	}
	if err := EndMending(w.dir, w.opt); err != nil {
		t.Fatal(err)
	}
	w.has("key")
	if err := BeginMending(w.dir, w.opt); err != nil {
		t.Fatal(err)
	}
	if e, err := Open(w.dir, w.opt); !fault.Is(err, fault.Corrupt) {
		t.Errorf("opened: %v", err)
		e.Close()
	}
}
