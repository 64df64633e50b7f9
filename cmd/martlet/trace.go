package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/trace"
)

// openTrace opens the stories of messages, nil if none are to be kept.
func openTrace(cfg *conf.Config, log *slog.Logger) (*trace.Book, error) {
	if cfg.Trace.Keep == 0 || cfg.Trace.Size == 0 {
		return nil, nil
	}
	b, err := trace.Open(trace.Options{
		FS: vfs.Default, Dir: filepath.Join(string(cfg.Data), "trace"), Keep: time.Duration(cfg.Trace.Keep), Bytes: int64(cfg.Trace.Size),
		Now: time.Now, Log: log,
	})
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "cannot make the folder of [trace]", err)
	}
	return b, nil
}

// keepTrace writes what is told of messages to disk each second.
func (h *house) keepTrace(ctx context.Context) error {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	h.trace.Run(ctx, second.C)
	return nil
}
