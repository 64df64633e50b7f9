package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// makeFolder makes a folder, and those above it that are missing, for their owner only. It
// outlasts a power cut: that a folder has a name is durable once the one it lies in has
// been synced. That is done for a folder that is there already, too: the power may have
// gone right after it was made.
func makeFolder(path string) error {
	top := path // of those that are made, or path
	for dir := filepath.Dir(top); dir != top; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		top = dir
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	for at := path; ; at = filepath.Dir(at) {
		// One that may not be read was made by somebody else.
		if err := syncFolder(filepath.Dir(at)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		if at == top {
			return nil
		}
	}
}

// syncFolder makes durable which names a folder has.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
