package disk

import (
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestSpool(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"disk": vfs.Default, "memory": vfs.NewMem()} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := fs.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			s := NewSpool(fs, dir)
			for _, text := range []string{"one", "another"} {
				f, err := s.File()
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if _, err := f.Write([]byte(text)); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(io.NewSectionReader(f, 0, 100))
				if string(got) != text || err != nil {
					t.Errorf("%q, %v", got, err)
				}
			}
			if left, err := fs.List(dir); len(left) != 0 || err != nil {
				t.Errorf("%v lie in the folder, %v", left, err)
			}
		})
	}
	if f, err := NewSpool(vfs.Default, t.TempDir()+"/missing").File(); f != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, %v", f, err)
	}
}

func TestFiles(t *testing.T) {
	mem := vfs.NewMem()
	f, err := mem.Create("/a", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("text"))
	f.Close()
	files := Files{mem}
	if text, err := files.ReadFile("/a"); string(text) != "text" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if info, err := files.Stat("/a"); err != nil || info.Size() != 4 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := files.ReadFile("/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
