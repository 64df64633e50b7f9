package directory

import (
	"context"
	"errors"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Domain is a domain whose mail ends here.
type Domain struct {
	Name     string       // as AddDomain was told, in lower case
	CatchAll mail.Address // gets what no other address of the domain does; zero: nobody
	Created  time.Time
}

// AddDomain makes a domain local. An internationalised one may be written in letters
// or in A-labels; either way it is both. Faults: Exists, Invalid.
func (d *Directory) AddDomain(ctx context.Context, name string) error {
	written, name, err := parseDomain(name)
	if err != nil {
		return err
	}
	created := d.opt.Now()
	return d.update(ctx, func(w engine.Writer) error {
		_, found, err := getDomain(w, name)
		if err != nil {
			return err
		}
		if found {
			return fault.Newf(fault.Exists, "domain %s is here already", written)
		}
		return w.Put(domainKey(name), domainRecord{name: written, created: created}.encode())
	})
}

// RemoveDomain makes a domain foreign again, and deletes its keys and settings. Faults: NotFound; Denied while it has
// accounts or aliases.
func (d *Directory) RemoveDomain(ctx context.Context, name string) error {
	_, name, err := parseDomain(name)
	if err != nil {
		return err
	}
	return d.update(ctx, func(w engine.Writer) error {
		rec, err := needDomain(w, name)
		if err != nil {
			return err
		}
		for _, family := range []byte{famEntry, famPending} {
			var left string
			prefix := engine.KeyString(family, name+"\x00")
			err := w.Scan(prefix, engine.After(prefix), false, func(key, _ []byte) bool {
				left = string(key[len(prefix):])
				return false
			})
			if err != nil {
				return err
			}
			if left != "" {
				return fault.Newf(fault.Denied, "domain %s still has addresses such as %s; remove them first",
					rec.name, mail.Address{Local: left, Domain: rec.name})
			}
		}
		prefix := signingPrefix(name)
		return errors.Join(
			w.DeleteRange(prefix, engine.After(prefix)),
			w.Delete(settingsKey(name)),
			w.Delete(publishedKey(name)),
			w.Delete(domainKey(name)),
		)
	})
}

// SetCatchAll says who gets mail for addresses of a domain that do not exist: any
// address, here or elsewhere, or zero for nobody. Faults: NotFound.
func (d *Directory) SetCatchAll(ctx context.Context, domain string, target mail.Address) error {
	_, domain, err := parseDomain(domain)
	if err != nil {
		return err
	}
	return d.update(ctx, func(w engine.Writer) error {
		rec, err := needDomain(w, domain)
		if err != nil {
			return err
		}
		rec.catchAll = target
		return w.Put(domainKey(domain), rec.encode())
	})
}

// Domains returns all domains in order of their names in A-labels.
func (d *Directory) Domains(ctx context.Context) ([]Domain, error) {
	var all []Domain
	err := d.eng.View(ctx, shard, func(r engine.Reader) error {
		all = nil
		return scan(r, []byte{famDomain}, nil, func(key []byte, _ byte, dec *decoder) (bool, error) {
			rec, err := decodeDomain(dec)
			all = append(all, Domain{rec.name, rec.catchAll, rec.created})
			return true, err
		})
	})
	return all, err
}

// Domain returns one of them. Faults: NotFound.
func (d *Directory) Domain(ctx context.Context, name string) (Domain, error) {
	written, name, err := parseDomain(name)
	if err != nil {
		return Domain{}, err
	}
	rec, found, err := d.domain(ctx, name)
	if err == nil && !found {
		err = fault.Newf(fault.NotFound, "domain %s is not one of this server", written)
	}
	return Domain{rec.name, rec.catchAll, rec.created}, err
}

// IsLocal tells whether mail for a domain ends here.
func (d *Directory) IsLocal(ctx context.Context, domain string) (bool, error) {
	_, found, err := d.domain(ctx, canonicalDomain(domain))
	return found, err
}

// written returns a domain's name as AddDomain was told it.
func (d *Directory) written(ctx context.Context, name string) (string, error) {
	rec, found, err := d.domain(ctx, name)
	if found {
		name = rec.name
	}
	return name, err
}

// domain returns a domain's record, from the cache if it can. name is canonical.
func (d *Directory) domain(ctx context.Context, name string) (rec domainRecord, found bool, err error) {
	if name == "" || len(name) > 255 {
		return rec, false, nil
	}
	generation := d.cache.now()
	if was, ok := lookup(&d.cache, &d.cache.domains, name); ok {
		return was.domainRecord, was.local, nil
	}
	err = d.eng.View(ctx, shard, func(r engine.Reader) error {
		rec, found, err = getDomain(r, name)
		return err
	})
	if err == nil {
		keep(&d.cache, &d.cache.domains, generation, name, maybeDomain{rec, found})
	}
	return rec, found, err
}

func needDomain(r engine.Reader, name string) (domainRecord, error) {
	rec, found, err := getDomain(r, name)
	if err == nil && !found {
		err = fault.Newf(fault.NotFound, "domain %s is not one of this server", name)
	}
	return rec, err
}

// scan yields the records of a key prefix from a key on (nil: the first), in order,
// until fn returns false.
func scan(r engine.Reader, prefix, from []byte, fn func(key []byte, kind byte, d *decoder) (bool, error)) error {
	if from == nil {
		from = prefix
	}
	var inner error
	err := r.Scan(from, engine.After(prefix), false, func(key, value []byte) bool {
		kind, d, err := unseal(value)
		if err != nil {
			inner = err
			return false
		}
		more, err := fn(key, kind, d)
		inner = err
		return more && err == nil
	})
	if err != nil {
		return err
	}
	return inner
}
