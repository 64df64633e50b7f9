package pebble

import (
	"context"
	"encoding/json"
	"errors"

	db "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Salvaged says what Repair has done, or would.
type Salvaged struct {
	Damaged []FileDamage
	Keys    int      // brought over
	Bytes   int64    // of them
	Values  int      // keys that are lost because what they say cannot be read
	Gaps    int      // ranges of keys of which some may be lost
	Beside  int      // keys found in such ranges all the same
	Turned  []string // files that are as they were again
	Holes   []Hole   // what could not be read
}

// A folder that a repair works in, beside the store's own; and freshName.
const linkedName = ".salvage" // the damaged store as far as it can be opened

// Repair makes a new store of all that can be read of a damaged one and puts it in its place.
// A store that a process has open is Busy, and none can open it meanwhile. The damaged one
// is moved, as it was, to the folder away, which must be on the same file system and not be
// there yet. An interrupted repair is simply run again: it goes on with a store that is new, but
// whose records were not all mended (see BeginMending), and says once more what was lost.
// It needs as much space as the store has.
func Repair(ctx context.Context, dir, away string, opt Options, progress func(Salvaged)) (s Salvaged, err error) {
	opt = opt.withDefaults()
	r := &repair{ctx: ctx, fs: opt.FS, dir: dir, away: away, opt: opt, progress: progress}
	if !unfinished(r.fs, dir) {
		lock, err := takeLock(opt, dir)
		if err != nil {
			return r.done, err
		}
		defer lock.Close()
		if err := mayRead(r.fs, dir); fault.Is(err, fault.Unsupported) {
			return r.done, err
		}
		if r.state, err = stateOf(r.fs, dir); err != nil {
			return r.done, err
		}
	}
	if done, err := r.finish(); done || err != nil {
		return r.done, err
	}
	if r.done.Damaged, err = inspect(ctx, dir, opt); err != nil {
		return r.done, err
	}
	if by, ok := marked(r.fs, dir); ok && opt.Mending {
		if len(r.done.Damaged) == 0 {
			return by, nil
		}
		r.done.Holes = by.Holes
	}
	if err := errors.Join(r.fs.RemoveAll(dir+linkedName), r.fs.RemoveAll(dir+freshName)); err != nil {
		return r.done, err
	}
	if err := r.link(); err != nil {
		return r.done, err
	}
	before := r.done // a copy that hangs may still write to its own
	if err := r.copy(); err != nil {
		return before, errors.Join(err, r.fs.RemoveAll(dir+linkedName), r.fs.RemoveAll(dir+freshName))
	}
	whole, err := json.Marshal(completed{r.done, r.state})
	if err != nil {
		return r.done, err
	}
	if err := replaceFile(r.fs, dir+freshName, wholeName, whole); err != nil {
		return r.done, err
	}
	_, err = r.finish()
	return r.done, err
}

type repair struct {
	ctx       context.Context
	fs        vfs.FS
	dir, away string
	opt       Options
	progress  func(Salvaged)
	done      Salvaged
	state     string // of the damaged store

	count  *census
	bodies []string // files with a hole in bodies
	known  [][]byte // what allEdges returns
	disk   *disk
	from   *db.DB
	to     *db.DB
	batch  *db.Batch
}
