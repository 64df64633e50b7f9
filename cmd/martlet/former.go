package main

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"time"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/move/former"
)

// Servers where accounts were before: they are asked about passwords at first logins.

// newFormer returns them.
func newFormer(cfg *conf.Config, log *slog.Logger) (*former.Servers, error) {
	roots, _, err := authorities(cfg.Migrate.CA)
	if err != nil {
		return nil, misconfigured(err)
	}
	return former.New(former.Options{
		Roots: roots, Parallel: cfg.Migrate.Parallel, Timeout: time.Duration(cfg.Migrate.Timeout),
		Dial: new(net.Dialer).DialContext, Now: time.Now, Deadline: context.WithTimeout, Random: rand.Reader, Log: log,
	}), nil
}
