package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/carry"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
	"github.com/martlet-mail/martlet/internal/store"
)

// A store says of itself when nobody may serve from it: while it is filled, while it is
// copied, and when it was: two servers that each go on with one of two stores would give the
// same UIDs to different messages.

// sourceMark says that a store is the source of a copy.
type sourceMark struct {
	To   string // the engine of the target
	At   time.Time
	Done bool   // the copy is finished: the other store is the one that goes on
	Run  string // drawn by each run of the command: two may be at one source
}

var (
	sourceKey  = []byte("s") // in the shard of copies
	restoreKey = []byte("r")
	mendingKey = []byte("w")
	provedKey  = []byte("p") // on a target: the run that has proved it, until it is opened
)

const (
	sourceKind = 2
	underKind  = 3 // something is under way
)

// underWay is the value of a mark that says no more than that it is there.
func underWay() []byte { return record.Seal(underKind, nil) }

func (m sourceMark) encode() []byte {
	var e record.Enc
	e.Str(m.To)
	e.I(m.At.Unix())
	e.Bool(m.Done)
	e.Str(m.Run)
	return record.Seal(sourceKind, e)
}

func decodeSourceMark(b []byte) (m sourceMark, err error) {
	kind, payload, err := record.Open(b)
	if err != nil || kind != sourceKind {
		return m, fault.Wrap(fault.Corrupt, "the mark of a store that is copied is damaged", err)
	}
	d := record.Dec{Rest: payload}
	m.To, m.At, m.Done = d.Str(), time.Unix(d.I(), 0), d.Bool()
	if len(d.Rest) > 0 { // marks had no run once
		m.Run = d.Str()
	}
	return m, d.End("mark of a copied store")
}

// marks are what a store says of itself.
type marks struct {
	source   *sourceMark
	restored bool // a restore into it has not come to its end
	mending  bool // nor has a repair
}

func readMarks(ctx context.Context, e engine.Engine) (m marks, err error) {
	err = e.View(ctx, carry.Shard, func(r engine.Reader) error {
		m = marks{}
		var err error
		if m.source, err = readSourceMark(r); err == nil {
			_, m.restored, err = r.Get(restoreKey)
		}
		if err == nil {
			_, m.mending, err = r.Get(mendingKey)
		}
		return err
	})
	return m, err
}

// readSourceMark returns nil if there is none.
func readSourceMark(r engine.Reader) (*sourceMark, error) {
	value, ok, err := r.Get(sourceKey)
	if err != nil || !ok {
		return nil, err
	}
	m, err := decodeSourceMark(value)
	return &m, err
}

// swapMark puts another mark, nil for none, in the place of a run's own. It returns false, and
// changes nothing, if another mark or none is there: that run is not the one any more that
// keeps servers off.
func swapMark(ctx context.Context, e engine.Engine, run string, to *sourceMark) (own bool, err error) {
	err = e.Update(ctx, carry.Shard, func(w engine.Writer) error {
		now, err := readSourceMark(w)
		if own = err == nil && now != nil && now.Run == run; !own {
			return err
		}
		if to == nil {
			return w.Delete(sourceKey)
		}
		return w.Put(sourceKey, to.encode())
	})
	return own && err == nil, err
}

// setMark writes a mark, or removes it if value is nil.
func setMark(ctx context.Context, e engine.Engine, key, value []byte) error {
	return e.Update(ctx, carry.Shard, func(w engine.Writer) error {
		if value == nil {
			return w.Delete(key)
		}
		return w.Put(key, value)
	})
}

// closes says why nobody may serve from the source of a copy.
func (m *sourceMark) closes(name string) string {
	if m.Done {
		return fmt.Sprintf("the %s store was copied to %s on %s, which goes on since; set engine = %q in [store], or, to lose what has come there since: martlet store reopen %s", name, m.To, localTime(m.At), m.To, name)
	}
	return fmt.Sprintf("the %s store is being copied to %s since %s; let martlet store copy come to its end or run it again, or give the copy up: martlet store reopen %s", name, m.To, localTime(m.At), name)
}

// partCloses says why nobody may serve from the target of a copy.
func partCloses(name, from string) string {
	return fmt.Sprintf("the %s store holds a part of a copy of %s; finish it with martlet store copy, which goes on where it stopped", name, from)
}

func restoreCloses(name string) string {
	return fmt.Sprintf("the %s store holds a part of a restore; run martlet restore --whole again", name)
}

func mendingCloses(name string) string {
	return fmt.Sprintf("a repair of the %s store has not come to its end; run martlet verify --repair again", name)
}

// mayServe returns why nobody may serve from a store, nil if one may.
func mayServe(ctx context.Context, e engine.Engine, name string) error {
	from, unfinished, err := carry.Unfinished(ctx, e)
	if err != nil {
		return err
	}
	if unfinished {
		return failed("%s", partCloses(name, from))
	}
	m, err := readMarks(ctx, e)
	switch {
	case err != nil:
		return err
	case m.restored:
		return failed("%s", restoreCloses(name))
	case m.mending:
		return failed("%s", mendingCloses(name))
	case m.source != nil:
		return failed("%s", m.source.closes(name))
	}
	return nil
}

// notBeside refuses to serve from a database in which nobody is known while there is a store in
// the data folder: it was to be copied, and senders would hear that nobody lives here.
func (h *house) notBeside(ctx context.Context) error {
	if !h.serving || !shared(h.cfg) {
		return nil
	}
	if list, err := os.ReadDir(engineDir(h.cfg)); err != nil || len(list) == 0 {
		return nil
	}
	empty := true
	err := h.engine.View(ctx, store.DirectoryShard, func(r engine.Reader) error {
		empty = true
		return r.Scan(nil, nil, false, func(_, _ []byte) bool { empty = false; return false })
	})
	if err == nil && empty {
		err = misused("the database is empty, and there is a store in %s; bring it over with martlet store copy --from pebble --to postgres, or move it away to begin anew", engineDir(h.cfg))
	}
	return err
}
