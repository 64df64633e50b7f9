package pebble

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	db "github.com/cockroachdb/pebble/v2"
)

// rest notices that nothing is written any more.
type rest struct {
	commits atomic.Int64
	waiting atomic.Bool   // a timer runs
	log     atomic.Uint64 // number of the newest log that counts
}

// busy notes a commit. Some time after the last one tidy runs.
func (e *Engine) busy() {
	e.rest.commits.Add(1)
	if e.rest.waiting.CompareAndSwap(false, true) {
		e.awaitRest()
	}
}

func (e *Engine) awaitRest() {
	seen := e.rest.commits.Load()
	time.AfterFunc(e.opt.rest, func() {
		if e.gate.enter() != nil {
			return
		}
		// Not in the gate: on a disk that fails meanwhile the database may never answer,
		// and Close would wait for it.
		e.commits.Add(1)
		e.gate.leave()
		defer e.commits.Done()
		e.rest.waiting.Store(false) // first: a commit from now on begins to wait itself
		if e.rest.commits.Load() == seen {
			e.tidy()
		} else if e.rest.waiting.CompareAndSwap(false, true) {
			e.awaitRest()
		}
	})
}

// tidy removes the logs whose content has been flushed. The database keeps a few of them
// to write over, which makes syncs cheaper while mail comes in one after the other, but
// for a small store they are a third of its bytes. Without them it makes new ones.
//
// A log counts from the moment the database has told that it made it (logCreated) until its
// content is flushed. If one alone counts, it is the newest that was told of before, or one
// yet newer, and all before it have been flushed. One that lies in the directory may not
// count yet: the files themselves say nothing.
func (e *Engine) tidy() {
	e.disk.witnessed(e.disk.witness.rest)
	newest := e.rest.log.Load()
	if newest == 0 || e.db.Metrics().WAL.Files != 1 {
		return
	}
	names, err := e.disk.List(e.dir)
	if err != nil {
		return
	}
	for _, name := range names {
		n, err := strconv.ParseUint(strings.TrimSuffix(name, ".log"), 10, 64)
		if err == nil && isLog(name) && n < newest {
			_ = e.disk.Remove(e.disk.PathJoin(e.dir, name)) // it may have been taken meanwhile
		}
	}
}

// logCreated is told of each log once the database counts it.
func (e *Engine) logCreated(info db.WALCreateInfo) {
	if info.Err == nil {
		e.rest.log.Store(uint64(info.FileNum))
	}
}
