package pebble

import (
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A table that is still being written is no damaged one.
func TestCheckBesideWriting(t *testing.T) {
	e, err := Open("data", Options{FS: vfs.NewMem(), Now: time.Now, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	f, err := e.disk.Create("data/900000.sst", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte("the first block")); err != nil {
		t.Fatal(err)
	}
	said := func(file, what string) { t.Errorf("%s %s", file, what) }
	if _, err := e.Check(t.Context(), said); err != nil {
		t.Fatal(err)
	}
	// One that counts and has no line is held against its own checksums; one that does not count is
	// about to be removed.
	if err := e.db.Flush(); err != nil {
		t.Fatal(err)
	}
	names, err := e.disk.FS.List("data")
	if err != nil {
		t.Fatal(err)
	}
	table := ""
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") && name != "900000.sst" {
			table = name
		}
	}
	if err := e.disk.witness.forget(table); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{table, "900001.sst"} {
		g, err := e.disk.FS.Create("data/"+name, vfs.WriteCategoryUnspecified)
		if err != nil || g.Close() != nil {
			t.Fatal(err)
		}
	}
	found := 0
	if _, err := e.Check(t.Context(), func(file, _ string) {
		if found++; file != table {
			t.Errorf("%s is damaged", file)
		}
	}); err != nil || found != 1 {
		t.Errorf("%d damaged, %v", found, err)
	}
}

// A table that is about to be removed at the start does not come onto the list again: verify
// would miss it.
func TestTableGoesAtTheStart(t *testing.T) {
	fs := vfs.NewMem()
	for name, b := range map[string][]byte{"000001.sst": []byte("blocks"), sumsName: sumsLine(extent{"000001.sst", 6, 1})} {
		f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = f.Write(b)
		}
		if err != nil || f.Close() != nil {
			t.Fatal(err)
		}
	}
	w := newWitness(fs, "")
	if _, err := w.setAside(); err != nil || !w.has("000001.sst") {
		t.Fatalf("not read, %v", err)
	}
	if err := w.forget("000001.sst"); err != nil { // and the file is still there
		t.Fatal(err)
	}
	if err := w.beginSums(); err != nil || w.has("000001.sst") {
		t.Errorf("listed again, %v", err)
	}
}
