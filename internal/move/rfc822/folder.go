package rfc822

import (
	"errors"
	"io"
	"io/fs"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Bounds of a folder tree.
const (
	MaxDepth   = 32      // levels below the folder that was given
	MaxFolders = 100_000 // folders that are looked into
)

// Open opens a plain file of a folder. What is a link, a device or a pipe is refused: a
// folder of mail has none, and one that points elsewhere is not to be followed.
func Open(fsys fs.FS, name string) (fs.File, fs.FileInfo, error) {
	if info, err := lstat(fsys, name); err == nil && !info.Mode().IsRegular() {
		return nil, nil, fault.Newf(fault.Invalid, "%s is %s, not a plain file", name, kind(info.Mode()))
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, nil, refused(name, err)
	}
	info, err := f.Stat() // of what was opened, whatever lies there by now
	if err == nil && !info.Mode().IsRegular() {
		err = fault.Newf(fault.Invalid, "%s is %s, not a plain file", name, kind(info.Mode()))
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, refused(name, err)
	}
	return f, info, nil
}

func lstat(fsys fs.FS, name string) (fs.FileInfo, error) {
	if l, ok := fsys.(fs.ReadLinkFS); ok {
		return l.Lstat(name)
	}
	return fs.Stat(fsys, name)
}

func kind(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "a symbolic link"
	case m.IsDir():
		return "a folder"
	}
	return "a device or a pipe"
}

// refused says why a file could not be opened.
func refused(name string, err error) error {
	var f *fault.Error
	switch {
	case errors.As(err, &f):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return fault.Wrap(fault.NotFound, name+" is not there", err)
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(fault.Denied, name+" may not be read by this user", err)
	}
	return fault.Wrap(fault.Unavailable, name+" cannot be read: "+err.Error(), err)
}

// ReadSmall reads a small file whole; one that is larger than most is refused.
func ReadSmall(fsys fs.FS, name string, most int64) ([]byte, error) {
	f, info, err := Open(fsys, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > most {
		return nil, fault.Newf(fault.TooLarge, "%s has %d bytes, at most %d are read", name, info.Size(), most)
	}
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, refused(name, err)
	}
	return b, nil
}

// Walk goes through a folder tree in the order of names, within its bounds. Links are not
// followed. A folder that cannot be read is told to fn with err.
func Walk(fsys fs.FS, fn func(name string, d fs.DirEntry, err error) error) error {
	folders := 0
	return fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			if name == "." {
				return refused(".", err)
			}
			return fn(name, d, refused(name, err))
		}
		if d.IsDir() {
			folders++
			if folders > MaxFolders || strings.Count(name, "/") >= MaxDepth {
				return fault.Newf(fault.TooLarge, "the folder has more than %d folders, or more than %d levels: %s", MaxFolders, MaxDepth, name)
			}
		}
		if d.Type()&^(fs.ModeDir|fs.ModePerm) != 0 && !d.Type().IsRegular() && !d.IsDir() {
			return nil // links, devices, pipes
		}
		return fn(name, d, nil)
	})
}

// message is one that is a file of its own.
type message struct {
	io.Reader
	io.Closer
}

// OpenMessage opens a message that is a file of its own.
func OpenMessage(fsys fs.FS, name string) (io.ReadCloser, error) {
	f, _, err := Open(fsys, name)
	if err != nil {
		return nil, err
	}
	return message{NewReader(f, Form{}), f}, nil
}

// List calls fn with what a folder holds, in no order and in pieces: it may hold millions.
func List(fsys fs.FS, name string, fn func(fs.DirEntry)) error {
	f, err := fsys.Open(name)
	if err != nil {
		return refused(name, err)
	}
	defer f.Close()
	dir, ok := f.(fs.ReadDirFile)
	if !ok {
		return fault.Newf(fault.Invalid, "%s is no folder", name)
	}
	for {
		some, err := dir.ReadDir(1000)
		for _, d := range some {
			fn(d)
		}
		if err == io.EOF || err == nil && len(some) == 0 {
			return nil
		}
		if err != nil {
			return refused(name, err)
		}
	}
}

// Level makes a level of a mailbox name of a file's name, without one of the endings.
func Level(file string, endings ...string) string {
	for _, e := range endings {
		if len(file) > len(e) && strings.EqualFold(file[len(file)-len(e):], e) {
			return file[:len(file)-len(e)]
		}
	}
	return file
}
