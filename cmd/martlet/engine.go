package main

import (
	"context"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
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
	cfg := h.cfg
	if cfg.Store.Engine != "pebble" || cfg.Blobs.Engine != "store" {
		return nil, misused("this build has no engine %q with blobs in %q; set [store] engine = \"pebble\" and [blobs] engine = \"store\"", cfg.Store.Engine, cfg.Blobs.Engine)
	}
	e, err := pebble.Open(engineDir(cfg), pebble.Options{FS: vfs.Default, Now: time.Now, CacheBytes: int64(cfg.Store.Cache), OpenFiles: storeFiles(), Writer: "martlet " + thisBuild().Version, Log: h.log})
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
