package directory

import (
	"context"
	"iter"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// MaxTargets bounds the targets of one alias.
const MaxTargets = 500

// Alias is an address that stands for others.
type Alias struct {
	Address mail.Address // the local part in lower case, the domain as AddDomain was told
	Targets []mail.Address
}

// AddAlias makes an alias, or gives an existing one further targets. A target may be
// an account, another alias, or an address elsewhere; it need not exist yet. Faults:
// Exists (the address is an account), NotFound (its domain), Invalid, TooLarge.
func (d *Directory) AddAlias(ctx context.Context, addr mail.Address, targets ...mail.Address) error {
	folded := canonical(addr)
	if folded.Local == "" || len(targets) == 0 {
		return fault.New(fault.Invalid, "an alias needs an address and a target")
	}
	for _, t := range targets {
		if t.Local == "" || t.Domain == "" || canonical(t) == folded {
			return fault.Newf(fault.Invalid, "%q cannot be a target of %s", t, folded)
		}
	}
	return d.update(ctx, func(w engine.Writer) error {
		if _, err := needDomain(w, folded.Domain); err != nil {
			return err
		}
		e, _, err := getEntry(w, folded)
		if err != nil {
			return err
		}
		if e.account != 0 {
			return fault.Newf(fault.Exists, "%s is an account", folded)
		}
		for _, t := range targets {
			if indexOf(e.targets, t) < 0 {
				e.targets = append(e.targets, t)
			}
		}
		if len(e.targets) > MaxTargets {
			return fault.Newf(fault.TooLarge, "%s would have more than %d targets", folded, MaxTargets)
		}
		return w.Put(entryKey(folded), e.encode())
	})
}

// RemoveAlias takes targets away from an alias; without targets, or with the last
// one, the alias goes. Faults: NotFound, for the alias or a target.
func (d *Directory) RemoveAlias(ctx context.Context, addr mail.Address, targets ...mail.Address) error {
	folded := canonical(addr)
	return d.update(ctx, func(w engine.Writer) error {
		e, found, err := getEntry(w, folded)
		if err != nil {
			return err
		}
		if !found || e.account != 0 {
			return fault.Newf(fault.NotFound, "there is no alias %s", folded)
		}
		for _, t := range targets {
			i := indexOf(e.targets, t)
			if i < 0 {
				return fault.Newf(fault.NotFound, "%s is no target of %s", t, folded)
			}
			e.targets = slices.Delete(e.targets, i, i+1)
		}
		if len(targets) == 0 || len(e.targets) == 0 {
			return w.Delete(entryKey(folded))
		}
		return w.Put(entryKey(folded), e.encode())
	})
}

// Aliases yields all aliases, or those of a domain, in order of domain and local
// part. It reads as Accounts does.
func (d *Directory) Aliases(ctx context.Context, domain string) iter.Seq2[Alias, error] {
	return func(yield func(Alias, error) bool) {
		for l, err := range d.entries(ctx, domain) {
			if err == nil && l.entry.account != 0 {
				continue
			}
			if err == nil {
				l.address.Domain, err = d.written(ctx, l.address.Domain)
			}
			if !yield(Alias{l.address, l.entry.targets}, err) || err != nil {
				return
			}
		}
	}
}

func indexOf(list []mail.Address, a mail.Address) int {
	key := canonical(a)
	return slices.IndexFunc(list, func(b mail.Address) bool { return canonical(b) == key })
}
