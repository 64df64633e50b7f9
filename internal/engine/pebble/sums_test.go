package pebble

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fullSums has no room for the list of checksums while it is full.
type fullSums struct {
	vfs.FS
	full *bool
}

func (fs fullSums) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, c)
	if err == nil && strings.HasSuffix(name, sumsName+".new") {
		return fullFile{f, fs.full}, nil
	}
	return f, err
}

type fullFile struct {
	vfs.File
	full *bool
}

func (f fullFile) Write(p []byte) (int, error) {
	if *f.full {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, syscall.ENOSPC
	}
	return f.File.Write(p)
}

// A list of checksums that there was no room for is no damaged one, and holds all again once
// there is room.
func TestSumsOnFullDisk(t *testing.T) {
	w := newReplaced(t)
	plain, full := w.opt.FS, false
	w.opt.FS = fullSums{plain, &full}
	e := w.open()
	defer e.Close()
	check := func() {
		t.Helper()
		if _, err := e.Check(ctx, func(file, what string) { t.Errorf("%s %s", file, what) }); err != nil {
			t.Fatal(err)
		}
	}
	flush := func(key string) {
		t.Helper()
		w.put(e, key)
		if err := e.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	full = true
	flush("first")
	check()
	flush("second")
	check()
	full = false
	flush("third")
	check()
	sums, whole := parseSums(w.files(sumsName)[w.dir+"/"+sumsName])
	tables := 0
	for path := range w.files("*.sst") {
		tables++
		if _, ok := sums[plain.PathBase(path)]; !ok {
			t.Errorf("%s is not listed", path)
		}
	}
	if tables == 0 || !whole {
		t.Errorf("%d tables, whole: %v", tables, whole)
	}
}

// The list does not grow with the files that come and go.
func TestSumsStayShort(t *testing.T) {
	fs := vfs.NewMem()
	w := newWitness(fs, "")
	if err := w.beginSums(); err != nil {
		t.Fatal(err)
	}
	for i := range 5 * manyLines {
		name := fmt.Sprintf("%06d.sst", i)
		if err := w.keep(extent{name, 1, 1}); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			continue
		}
		if err := w.forget(name); err != nil {
			t.Fatal(err)
		}
	}
	b, err := readWhole(fs, sumsName)
	if err != nil {
		t.Fatal(err)
	}
	sums, whole := parseSums(b)
	if lines := strings.Count(string(b), "\n"); lines > 2*len(w.sums)+manyLines+1 || lines < manyLines/2 {
		t.Errorf("%d lines for %d files", lines, len(w.sums))
	}
	for name, f := range w.sums {
		if sums[name] != f || !whole {
			t.Fatalf("%s is not listed", name)
		}
	}
}
