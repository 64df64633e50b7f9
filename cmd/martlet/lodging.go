package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/disk"
	"github.com/martlet-mail/martlet/internal/fault"
)

// shared tells whether the store is one that other machines work on, too. What is in the
// data folder is then this node's alone.
func shared(cfg *conf.Config) bool { return cfg.Store.Engine == "postgres" }

// enter makes the data folder and takes from it what the house needs of this machine. Where
// the engine has no lock there a server takes one; a command works beside it, in a spool
// of its own.
func (h *house) enter() error {
	spool := filepath.Join(string(h.cfg.Data), "spool")
	if err := errors.Join(makeFolder(string(h.cfg.Data)), makeFolder(spool)); err != nil {
		return fault.Wrap(fault.Unavailable, "cannot make the data folder", err)
	}
	switch {
	case !shared(h.cfg):
	case h.serving:
		lock, err := files.FS.Lock(engineLock(h.cfg))
		var path *fs.PathError
		switch {
		case errors.As(err, &path):
			return fault.Wrap(fault.Unavailable, "cannot lock the data folder", err)
		case err != nil:
			return fault.Wrap(fault.Busy, "the data folder is in use", err)
		}
		h.giveBack = append(h.giveBack, func() { _ = lock.Close() })
		clearSpool(spool)
	default:
		own, err := os.MkdirTemp(spool, commandSpool+"*")
		if err != nil {
			return fault.Wrap(fault.Unavailable, "cannot make a folder for what is under way", err)
		}
		h.giveBack = append(h.giveBack, func() { _ = os.RemoveAll(own) })
		spool = own
	}
	h.spool = disk.NewSpool(vfs.Default, spool)
	return nil
}

// leave gives back what enter took.
func (h *house) leave() {
	for _, give := range h.giveBack {
		give()
	}
	h.giveBack = nil
}

// commandSpool begins the names of the folders that commands spool in.
const commandSpool = "command-"

// clearSpool removes folders that commands have left that were killed. What lies in one has
// no name, so that only its age tells that nobody uses it.
func clearSpool(spool string) {
	left, _ := filepath.Glob(filepath.Join(spool, commandSpool+"*"))
	for _, dir := range left {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > 48*time.Hour {
			_ = os.Remove(dir)
		}
	}
}
