// Package disk is the file system for what the engine does not keep: certificates, the
// configuration, and messages on their way in. It stands on the same vfs.FS as the engine,
// so that a test gives one for all, in memory or one that fails when it is told to.
//
// It makes nothing durable and knows no format.
package disk

import (
	"io"
	"io/fs"
	"strconv"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Files reads files of one file system.
type Files struct{ FS vfs.FS }

// Stat describes a file.
func (f Files) Stat(name string) (fs.FileInfo, error) { return f.FS.Stat(name) }

// ReadFile returns what is in a file.
func (f Files) ReadFile(name string) ([]byte, error) {
	file, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(file)
}

// Spool is a folder of files that nobody is to find again.
type Spool struct {
	fs   vfs.FS
	dir  string
	last atomic.Uint64
}

// NewSpool returns a spool in a folder that is there. No two may share one.
func NewSpool(fs vfs.FS, dir string) *Spool { return &Spool{fs: fs, dir: dir} }

// File makes a file, which is gone once it is closed, and however the process ends.
func (s *Spool) File() (vfs.File, error) {
	name := s.fs.PathJoin(s.dir, "martlet-spool-"+strconv.FormatUint(s.last.Add(1), 10))
	f, err := s.fs.Create(name, vfs.WriteCategoryUnspecified)
	if err == nil {
		err = s.fs.Remove(name) // only the name
	}
	if err != nil && f != nil {
		f.Close()
		f = nil
	}
	return f, err
}
