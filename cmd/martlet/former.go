package main

import (
	"context"
	"crypto/rand"
	"net"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/former"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/move/link"
	"github.com/martlet-mail/martlet/internal/store"
)

// Servers where accounts were before: they are asked about passwords at first logins, and for
// the mail after that.

// newFormer returns them. The house has its store.
func (h *house) newFormer() (*former.Servers, error) {
	roots, _, err := authorities(h.cfg.Migrate.CA)
	if err != nil {
		return nil, misconfigured(err)
	}
	return former.New(context.Background(), former.Options{
		Roots: roots, Parallel: h.cfg.Migrate.Parallel, Timeout: time.Duration(h.cfg.Migrate.Timeout),
		Dial: new(net.Dialer).DialContext, Now: time.Now, Deadline: context.WithTimeout, Random: rand.Reader, Log: h.log,
		Fetching: &former.Fetching{
			Targets: func(id mail.AccountID) move.Target { return move.NewLocal(h.store, id) },
			Spool:   move.Options{Now: time.Now, Wait: pause, Spool: func() (store.SpoolFile, error) { return h.spool.File() }},
			Version: thisBuild().Version, Places: h.cfg.Migrate.Pulls,
			Link: h.linkFormer,
		},
	}), nil
}

// linkFormer keeps an account in step with its former server. It is made to the account's
// order when the links are there, which they are once the house is open.
func (h *house) linkFormer(ctx context.Context, account directory.Account, at former.Server, user, password string) error {
	security := "offered"
	if at.Security == imapc.TLS {
		security = "tls"
	}
	_, err := h.links.Add(ctx, link.Rule{
		Account: account.ID, User: user, Created: time.Now(),
		Server: link.Server{Protocol: "imap", Security: security, Host: at.Host, Port: at.Port},
	}, link.Secret{Password: password})
	return err
}

// pause waits for a time.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
