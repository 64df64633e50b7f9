package main

import (
	"io/fs"
	"os"
	"path/filepath"

	"github.com/martlet-mail/martlet/internal/move/rfc822"
)

// sourceFolder is a folder from which mail is read. No name and no link leads out of it, and
// what is no plain file does not hold up who opens it.
type sourceFolder struct{ root *os.Root }

// Open opens a file or a folder to be read.
func (f sourceFolder) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return f.root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|openNoWait, 0)
}

// Stat tells of a file, or of what a link in the folder leads to.
func (f sourceFolder) Stat(name string) (fs.FileInfo, error) {
	return f.root.Stat(filepath.FromSlash(name))
}

// Lstat tells of a file, or of the link itself.
func (f sourceFolder) Lstat(name string) (fs.FileInfo, error) {
	return f.root.Lstat(filepath.FromSlash(name))
}

// ReadLink reads a link.
func (f sourceFolder) ReadLink(name string) (string, error) {
	return f.root.Readlink(filepath.FromSlash(name))
}

// sourcePlace is the path of a source: a folder, and a name in it ("." for the folder itself).
type sourcePlace struct {
	folder sourceFolder
	name   string
	id     string // Source.ID
	base   string // what the path ends with
}

// openSource opens the folder that a path names, or the one in which the file lies.
func openSource(kind, path string) (*sourcePlace, error) {
	dir, name, id, err := sourcePath(kind, path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, failed("cannot read %s: %v", path, err)
	}
	return &sourcePlace{sourceFolder{root}, name, id, filepath.Base(filepath.Join(dir, name))}, nil
}

func newTemp() (rfc822.Temp, error) { return tempFile() }
