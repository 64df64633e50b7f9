package admin

import (
	"slices"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/doctor"
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
	domains, err := a.Directory.Domains(r.ctx)
	if err != nil {
		return err
	}
	if in.Domain != "" {
		one, err := a.Directory.Domain(r.ctx, in.Domain)
		if err != nil {
			return err
		}
		domains = slices.DeleteFunc(domains, func(d directory.Domain) bool { return d.Name != one.Name })
	}
	o, err := a.Names.Doctor(r.ctx)
	if err != nil {
		return err
	}
	for _, d := range domains {
		of, err := publish.DomainOf(r.ctx, a.Directory, d.Name)
		if err != nil {
			return err
		}
		o.Domains = append(o.Domains, of)
	}
	return doctor.New(o).Run(r.ctx, func(l doctor.Line) error {
		err := r.send(l)
		r.flush()
		return err
	})
}
