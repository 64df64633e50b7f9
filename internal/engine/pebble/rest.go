package pebble

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// rest notices that nothing is written any more.
type rest struct {
	commits atomic.Int64
	waiting atomic.Bool // a timer runs
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
		defer e.gate.leave()
		if e.rest.commits.Load() != seen {
			e.awaitRest()
			return
		}
		e.rest.waiting.Store(false)
		e.tidy()
	})
}

// tidy removes the logs whose content has been flushed. The database keeps a few of them
// to write over, which makes syncs cheaper while mail comes in one after the other, but
// for a small store they are a third of its bytes. Without them it makes new ones.
func (e *Engine) tidy() {
	names, err := e.disk.List(e.dir)
	if err != nil {
		return
	}
	logs := map[int]string{}
	for _, name := range names {
		if n, err := strconv.Atoi(strings.TrimSuffix(name, ".log")); err == nil && isLog(name) {
			logs[n] = name
		}
	}
	// If but one log counts after the list was made, it is the newest or one yet newer;
	// all before it have been flushed, and a number is never used again.
	if len(logs) < 2 || e.db.Metrics().WAL.Files != 1 {
		return
	}
	newest := slices.Max(slices.Collect(maps.Keys(logs)))
	for n, name := range logs {
		if n < newest {
			_ = e.disk.Remove(e.disk.PathJoin(e.dir, name)) // it may have been taken meanwhile
		}
	}
}
