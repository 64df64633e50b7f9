package pebble

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	db "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// TestNewerFormatIsNotTouched refuses a folder that says it is newer, before anything in it
// is changed, and says who wrote it and what to do.
func TestNewerFormatIsNotTouched(t *testing.T) {
	fs := vfs.NewMem()
	open(t, "data", small(fs)).Close()
	if err := replaceFile(fs, "data", formatName, formatLine(format+1, "martlet 9.9")); err != nil {
		t.Fatal(err)
	}
	before := files(t, fs)
	_, err := Open("data", small(fs))
	if !fault.Is(err, fault.Unsupported) || !strings.Contains(fault.Say(err), "martlet 9.9") {
		t.Fatalf("got %v", err)
	}
	for name, b := range files(t, fs) {
		if before[name] != b {
			t.Errorf("%s was changed", name)
		}
	}
}

// TestFormatIsRaised opens a folder of format 1, whose number was in the database alone.
// It must refuse versions that know no other from then on.
func TestFormatIsRaised(t *testing.T) {
	fs := vfs.NewMem()
	e := open(t, "data", small(fs))
	key := append([]byte{spaceMeta}, "format"...)
	if err := e.db.Set(key, []byte{1}, db.Sync); err != nil {
		t.Fatal(err)
	}
	e.Close()
	if err := fs.Remove("data/" + formatName); err != nil {
		t.Fatal(err)
	}
	e = open(t, "data", small(fs))
	defer e.Close()
	v, closer, err := e.db.Get(key)
	if err != nil || len(v) != 1 || v[0] != format {
		t.Errorf("the database says format %x (%v)", v, err)
	}
	closer.Close()
	line, err := readWhole(fs, "data/"+formatName)
	if number, _, ok := parseFormat(string(line)); err != nil || !ok || number != format {
		t.Errorf("the file says %q (%v)", line, err)
	}
}

// TestDamagedFormatFile is no reason to refuse anything.
func TestDamagedFormatFile(t *testing.T) {
	fs := vfs.NewMem()
	open(t, "data", small(fs)).Close()
	hurt := []byte(strings.Replace(string(formatLine(format, "martlet")), "2", "6", 1))
	if err := replaceFile(fs, "data", formatName, hurt); err != nil {
		t.Fatal(err)
	}
	open(t, "data", small(fs)).Close()
}

func files(t *testing.T, fs vfs.FS) map[string]string {
	t.Helper()
	names, err := fs.List("data")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, name := range names {
		b, err := readWhole(fs, "data/"+name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(b)
	}
	return all
}

// TestEarlierVersionWasHere lets a version that knows nothing of the lists open the folder:
// it flushes and removes logs, and then refuses. That is no damage.
func TestEarlierVersionWasHere(t *testing.T) {
	fs := vfs.NewMem()
	e := open(t, "data", small(fs))
	err := e.Update(t.Context(), 1, func(w engine.Writer) error { return w.Put([]byte("a"), []byte("1")) })
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
	old, err := db.Open("data", &db.Options{FS: fs, FormatMajorVersion: db.FormatValueSeparation})
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Set([]byte("\x01other"), []byte("x"), db.Sync); err != nil {
		t.Fatal(err)
	}
	if err := old.Flush(); err != nil {
		t.Fatal(err)
	}
	old.Close()
	e = open(t, "data", small(fs))
	defer e.Close()
	if _, err := e.Check(t.Context(), func(file, what string) { t.Errorf("%s %s", file, what) }); err != nil {
		t.Fatal(err)
	}
}

// A store that a newer version wrote is not looked into, nor rewritten by a repair, be the file
// that says so damaged or not.
func TestNoRepairOfANewerFormat(t *testing.T) {
	for _, line := range [][]byte{formatLine(format+1, "martlet 99"), []byte("damaged"), nil} {
		w := newReplaced(t)
		e := w.open()
		w.put(e, "first")
		if err := errors.Join(e.db.Set(formatKey(), []byte{format + 1}, db.Sync), e.db.Flush(), e.Close()); err != nil {
			t.Fatal(err)
		}
		w.write(filepath.Join(w.dir, formatName), line)
		if line == nil {
			if err := os.Remove(filepath.Join(w.dir, formatName)); err != nil {
				t.Fatal(err)
			}
		}
		for file, b := range w.files("*.end") { // something
			w.write(file, b[:len(b)/2])
		}
		before := w.files("*")
		if _, err := Inspect(ctx, w.dir, w.opt); len(line) > 10 && !fault.Is(err, fault.Unsupported) {
			t.Errorf("%s: inspect: %v", line, err)
		}
		if _, err := Repair(ctx, w.dir, w.away, w.opt, nil); !fault.Is(err, fault.Unsupported) {
			t.Errorf("%s: repair: %v", line, err)
		}
		if after := w.files("*"); !maps.EqualFunc(before, after, bytes.Equal) {
			t.Errorf("%s: something has changed", line)
		}
	}
}
