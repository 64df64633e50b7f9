package pebble

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// badSector is a disk that cannot read parts of files of a folder.
type badSector struct {
	vfs.FS
	dir string
	bad func(name string) (from, to int64)
}

func (fs badSector) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.Open(name, o...)
	if err != nil || filepath.Dir(name) != fs.dir {
		return f, err
	}
	from, to := fs.bad(filepath.Base(name))
	return &badFile{File: f, from: from, to: to}, nil
}

type badFile struct {
	vfs.File
	from, to, at int64
}

func (f *badFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.at)
	f.at += int64(n)
	return n, err
}

func (f *badFile) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case off >= f.to || off+int64(len(p)) <= f.from:
		return f.File.ReadAt(p, off)
	case off >= f.from:
		return 0, syscall.EIO
	}
	n, err := f.File.ReadAt(p[:f.from-off], off)
	if err == nil {
		err = syscall.EIO
	}
	return n, err
}

// A file that the disk cannot read, all of it or a part, does not end a repair: all that can be
// read is kept, and what cannot is told.
func TestRepairOfUnreadableFiles(t *testing.T) {
	const all = 1 << 40
	for name, c := range map[string]struct {
		from, to int64
		keeps    []string
		hole     bool
	}{
		"log":          {0, all, []string{"first", "second"}, true},
		"part of .log": {40 << 10, 44 << 10, []string{"first", "second", "third", "last"}, true},
		syncedName:     {0, all, []string{"first", "second", "third", "last"}, false},
		sumsName:       {0, all, []string{"first", "second", "third", "last"}, false},
		"MANIFEST-":    {0, all, []string{"first", "second", "third", "last"}, false},
		"copy-of-":     {0, all, []string{"first", "second", "third", "last"}, false},
		".sst":         {0, all, []string{"third", "last"}, true},
		"head of .sst": {0, 100, []string{"third", "last"}, true},
		".sst.end":     {0, all, []string{"first", "second", "third", "last"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			kind := name[strings.LastIndex(name, " ")+1:]
			w := newReplaced(t)
			e := w.open()
			w.put(e, "first")
			w.put(e, "second")
			if err := e.db.Flush(); err != nil {
				t.Fatal(err)
			}
			w.put(e, "third")
			for i := range uint64(3) {
				body := chance(i, 20<<10)
				if err := e.Blobs().Put(ctx, bodyRef(i), int64(len(body)), bytes.NewReader(body)); err != nil {
					t.Fatal(err)
				}
			}
			w.put(e, "last")
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			plain := w.opt.FS
			w.opt.FS = badSector{plain, w.dir, func(file string) (from, to int64) {
				if strings.HasPrefix(file, kind) || strings.HasSuffix(file, kind) {
					return c.from, c.to
				}
				return 0, 0
			}}
			s, err := Repair(ctx, w.dir, w.away, w.opt, nil)
			if err != nil {
				t.Fatal(err)
			}
			if (len(s.Holes) > 0) != c.hole {
				t.Errorf("holes: %+v", s.Holes)
			}
			if !slices.ContainsFunc(s.Damaged, func(d FileDamage) bool { return strings.Contains(d.What, "cannot be read") }) && kind != ".sst.end" && kind != "copy-of-" {
				t.Errorf("damaged: %+v", s.Damaged)
			}
			w.opt.FS = plain
			w.has(c.keeps...)
		})
	}
}
