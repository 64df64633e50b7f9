// Package backup keeps earlier states of a whole server in a folder, a repository, and
// brings them back.
//
// A repository holds objects named by their content: bodies, and the records of shards cut
// into chunks. A snapshot names the chunks of every shard as of one moment of that shard,
// and is whole by itself; what it shares with others is there once. A snapshot that is
// opened is an engine that cannot be written, so what reads mail reads it from a backup,
// too. docs/backup.md has the format and what a restore promises.
//
// Backups are made while the server works: each shard is read in one View, without a lock.
// Memory: about 100 bytes for each object in the repository, 80 bytes for each message of
// an account that is compared, a few megabytes besides.
//
// The package listens to nobody, encrypts nothing and copies nothing to other machines.
package backup

import (
	"io"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
)

// House is the server that backups are of.
type House struct {
	Engine    engine.Engine
	Store     *store.Store
	Directory *directory.Directory
	Disk      Disk   // where backups go
	Version   string // of the program
	Now       func() time.Time
	Rand      io.Reader
}

// Progress is how far something is.
type Progress struct {
	Step  string // what is done now
	Done  int64
	Total int64 // 0: not known
	Bytes int64 // read or written so far
}

// Problem is something in a repository, or in the store that is saved, that is not as it
// should be.
type Problem struct {
	File string // in the repository; "": none
	What string
}

func unavailable(doing string, err error) error {
	return fault.Wrap(fault.Unavailable, doing, err)
}
