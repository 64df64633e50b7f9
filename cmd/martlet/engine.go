package main

import (
	"context"
	"crypto/rand"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/engine/postgres"
	"github.com/martlet-mail/martlet/internal/fault"
)

// keeper is an engine as the house needs it.
type keeper interface {
	engine.Engine

	// Healthy returns why the engine cannot be written to now, nil if it can.
	Healthy() error
	// Failed is closed when it never will be again in this process.
	Failed() <-chan struct{}
	// ReadFailures returns how many reads have failed.
	ReadFailures() int64
	// CheckFiles reads every file of its own and reports those that are not as they were
	// written; an engine without files does nothing.
	CheckFiles(ctx context.Context, report func(file, what string)) error
}

// openEngine opens the engine that the configuration names.
func (h *house) openEngine(ctx context.Context) (keeper, error) {
	if shared(h.cfg) {
		return h.openShared(ctx)
	}
	e, err := pebble.Open(engineDir(h.cfg), pebble.Options{FS: vfs.Default, Now: time.Now, CacheBytes: h.cfg.Store.Memory("pebble"), OpenFiles: storeFiles(), Writer: "martlet " + thisBuild().Version, Log: h.log})
	if err != nil {
		return nil, err
	}
	return embedded{e}, nil
}

// embedded is the engine in the data folder.
type embedded struct{ *pebble.Engine }

func (e embedded) CheckFiles(ctx context.Context, report func(file, what string)) error {
	_, err := e.Check(ctx, report)
	return err
}

// A command wants less of a database than a server: it makes few calls at a time, and a
// person waits for it.
const (
	commandConnections = 4
	commandPatience    = 10 * time.Second
)

// sharedOptions are those of the engine whose database other nodes have, too, but for the
// object store.
func (h *house) sharedOptions() postgres.Options {
	s := &h.cfg.Store
	o := postgres.Options{
		URL: s.URL, Connections: s.Connections, CacheBytes: s.Memory("postgres"), Patience: time.Duration(s.Patience),
		Node: nodeName(h.cfg), Run: h.run, Over: int64(h.cfg.Blobs.Over), Log: h.log, Rand: rand.Reader,
	} // bodies are dated by the database's clock, which is the same for all nodes
	if !h.serving {
		o.Brief, o.Connections, o.Patience = true, min(o.Connections, commandConnections), min(o.Patience, commandPatience)
	}
	return o
}

// openShared opens that engine.
func (h *house) openShared(ctx context.Context) (keeper, error) {
	o := h.sharedOptions()
	var err error
	if o.Objects, err = h.openObjects(o.Patience); err != nil {
		return nil, err
	}
	e, err := postgres.Open(ctx, o)
	if fault.Is(err, fault.Unavailable) {
		return nil, err // which says where
	}
	if err != nil {
		return nil, fault.Wrap(fault.Of(err), "the database "+conf.Discreet(o.URL)+" cannot be used", err)
	}
	return e, nil
}

// nodeName is what this machine is called among others on the same store.
func nodeName(cfg *conf.Config) string {
	if cfg.Cluster.Node != "" {
		return cfg.Cluster.Node
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "node"
	}
	return name
}
