package main

import (
	"io"
	"log/slog"

	"github.com/martlet-mail/martlet/internal/conf"
)

// newLog returns the log of a server.
func newLog(w io.Writer, cfg conf.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Level)) // conf has checked it
	opt := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}
