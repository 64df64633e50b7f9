package admin

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/doctor"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/publish"
)

// examine streams what the doctor finds, about one domain or all.
func (a *api) examine(r *request) error {
	var in struct {
		Domain string `json:"domain"` // "": all
	}
	if err := r.read(&in); err != nil {
		return err
	}
	if a.Names.Doctor == nil {
		return errNoNames()
	}
	domains, why := a.examined(r.ctx, in.Domain)
	if why != nil && fault.Of(why) != fault.Unavailable {
		return why
	}
	o, err := a.Names.Doctor(r.ctx)
	if err != nil {
		return err
	}
	o.Domains, o.Unread = domains, why
	return doctor.New(o).Run(r.ctx, func(l doctor.Line) error {
		err := r.send(l)
		r.flush()
		return err
	})
}

// storeWait is how long the doctor waits for what knows of domains: what is wrong with the
// store itself is to be told, too.
const storeWait = 10 * time.Second

// examined returns the domains that are looked at: the one that is named, or all.
func (a *api) examined(ctx context.Context, name string) (all []publish.Domain, err error) {
	bounded, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	defer func() {
		if err != nil && bounded.Err() != nil && ctx.Err() == nil {
			err = fault.New(fault.Unavailable, "the store does not answer")
		}
	}()
	var names []string
	if name != "" {
		one, err := a.Directory.Domain(bounded, name)
		if err != nil {
			return nil, err
		}
		names = []string{one.Name}
	} else {
		list, err := a.Directory.Domains(bounded)
		if err != nil {
			return nil, err
		}
		for _, d := range list {
			names = append(names, d.Name)
		}
	}
	for _, n := range names {
		of, err := publish.DomainOf(bounded, a.Directory, n)
		if err != nil {
			return nil, err
		}
		all = append(all, of)
	}
	return all, nil
}
