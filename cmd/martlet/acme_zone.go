package main

import (
	"context"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/publish"
)

// zoneSolver proves a name by a record in its zone (RFC 8555, 8.4). A name that is an alias
// elsewhere must have its proof there, too; such names are not proven here.
type zoneSolver struct{ updater *publish.Updater }

func (s zoneSolver) Present(ctx context.Context, c acme.Challenge) error {
	return s.send(ctx, c, func(r publish.Record) publish.Change { return publish.Change{Add: []publish.Record{r}} })
}

func (s zoneSolver) CleanUp(ctx context.Context, c acme.Challenge) error {
	return s.send(ctx, c, func(r publish.Record) publish.Change { return publish.Change{Remove: []publish.Record{r}} })
}

// propagation is how long the secondary servers of a zone have, which are told by NOTIFY.
const propagation = 10 * time.Second

// Wait is of acmez.Waiter.
func (s zoneSolver) Wait(ctx context.Context, _ acme.Challenge) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(propagation):
		return nil
	}
}

func (s zoneSolver) send(ctx context.Context, c acme.Challenge, change func(publish.Record) publish.Change) error {
	name := c.DNS01TXTRecordName()
	zone, found := s.updater.ZoneOf(name)
	if !found {
		return fault.Newf(fault.NotFound, "%s lies in no zone of dns.update", name)
	}
	return s.updater.Send(ctx, zone, change(publish.Record{Name: name, Type: "TXT", Value: c.DNS01KeyAuthorization()}))
}
