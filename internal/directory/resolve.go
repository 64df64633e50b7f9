package directory

import (
	"context"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Limits on the expansion of one address. Within them a loop of aliases is no fault:
// each address is looked at once.
const (
	MaxDepth    = 20   // aliases that lead to aliases
	MaxExpanded = 1000 // addresses looked at
)

// Target is one account that a recipient leads to.
type Target struct {
	Account mail.AccountID
	Address mail.Address // of the account
	Detail  string       // what followed the separator, or ""
}

// Resolution is where a recipient leads.
type Resolution struct {
	Accounts []Target       // here; no account twice
	Remote   []mail.Address // elsewhere; no address twice
	Dead     []mail.Address // local targets of aliases that do not exist any more
}

// Resolve finds where a recipient leads. An address of a foreign domain leads to
// itself: whether it may be relayed is for the caller to say. Faults: NotFound if a
// local address does not exist or leads nowhere, TooLarge over the limits.
func (d *Directory) Resolve(ctx context.Context, rcpt mail.Address) (Resolution, error) {
	w := &walk{d: d, seen: map[mail.Address]bool{}}
	if err := w.run(ctx, rcpt); err != nil {
		return Resolution{}, err
	}
	if isPostmaster(rcpt) && len(w.out.Accounts)+len(w.out.Remote) == 0 {
		if err := w.lastResort(ctx, rcpt); err != nil {
			return Resolution{}, err
		}
	}
	switch {
	case len(w.out.Accounts)+len(w.out.Remote) > 0:
		return w.out, nil
	case len(w.seen) > 1:
		return Resolution{}, fault.New(fault.NotFound, "this address leads to nobody")
	}
	return Resolution{}, fault.New(fault.NotFound, "there is no such user here")
}

// MaySend tells whether an account may send with a sender address: its own, with a
// detail or not, or one that leads to it. The null sender is anybody's. The fault is
// Denied.
func (d *Directory) MaySend(ctx context.Context, id mail.AccountID, from mail.Address) error {
	if from.IsZero() {
		return nil
	}
	r, err := d.Resolve(ctx, from)
	if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.TooLarge) {
		return err
	}
	for _, t := range r.Accounts {
		if t.Account == id {
			return nil
		}
	}
	return fault.Newf(fault.Denied, "you may not send as %s", from)
}

// walk is the expansion of one address, breadth first.
type walk struct {
	d    *Directory
	seen map[mail.Address]bool // canonical
	todo []step
	out  Resolution
}

type step struct {
	address mail.Address
	depth   int
}

func (w *walk) run(ctx context.Context, rcpt mail.Address) error {
	if err := w.push(rcpt, 0); err != nil {
		return err
	}
	for len(w.todo) > 0 {
		next := w.todo[0]
		w.todo = w.todo[1:]
		if err := w.visit(ctx, next); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) push(a mail.Address, depth int) error {
	folded := canonical(a)
	if w.seen[folded] {
		return nil
	}
	if depth > MaxDepth || len(w.seen) >= MaxExpanded {
		return fault.New(fault.TooLarge, "this address expands to too many")
	}
	w.seen[folded] = true
	w.todo = append(w.todo, step{a, depth})
	return nil
}

// visit looks at one address: the exact entry, then that without its detail, then
// what the domain has for everybody else.
func (w *walk) visit(ctx context.Context, s step) error {
	folded := canonical(s.address)
	rec, local, err := w.d.domain(ctx, folded.Domain)
	if err != nil {
		return err
	}
	if !local && folded.Domain != "" {
		w.out.Remote = append(w.out.Remote, s.address)
		return nil
	}
	e, detail, found, err := w.find(ctx, s.address)
	switch {
	case err != nil:
		return err
	case found && e.account != 0:
		return w.add(ctx, e.account, detail)
	case found:
		for _, t := range e.targets {
			if err := w.push(t, s.depth+1); err != nil {
				return err
			}
		}
		return nil
	case isPostmaster(folded) && !w.d.opt.Postmaster.IsZero():
		return w.push(w.d.opt.Postmaster, s.depth+1)
	case !rec.catchAll.IsZero():
		return w.push(rec.catchAll, s.depth+1)
	case s.depth > 0:
		w.out.Dead = append(w.out.Dead, s.address)
	}
	return nil
}

// find looks for an address as it is and, failing that, without its detail.
func (w *walk) find(ctx context.Context, a mail.Address) (e entry, detail string, found bool, err error) {
	e, found, err = w.d.entry(ctx, canonical(a))
	if err != nil || found {
		return e, "", found, err
	}
	base, detail := a.SplitDetail(w.d.opt.DetailSeparator)
	if base == a {
		return entry{}, "", false, nil
	}
	e, found, err = w.d.entry(ctx, canonical(base))
	return e, detail, found, err
}

func (w *walk) add(ctx context.Context, id mail.AccountID, detail string) error {
	for _, t := range w.out.Accounts {
		if t.Account == id {
			return nil
		}
	}
	rec, err := w.d.account(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return nil // removed this moment
	}
	if err != nil {
		return err
	}
	w.out.Accounts = append(w.out.Accounts, Target{id, rec.address, detail})
	return nil
}

// lastResort lets postmaster reach the first account when nobody else does
// (RFC 5321, 4.5.1).
func (w *walk) lastResort(ctx context.Context, rcpt mail.Address) error {
	if rcpt.Domain != "" {
		if _, local, err := w.d.domain(ctx, canonicalDomain(rcpt.Domain)); err != nil || !local {
			return err
		}
	}
	id, err := w.d.firstAccount(ctx)
	if err != nil || id == 0 {
		return err
	}
	return w.add(ctx, id, "")
}

// isPostmaster recognises the reserved name, with a domain or without, in any case
// (RFC 5321, 2.3.5 and 4.1.1.3).
func isPostmaster(a mail.Address) bool { return strings.EqualFold(a.Local, "postmaster") }
