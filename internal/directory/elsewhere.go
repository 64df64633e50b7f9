package directory

import (
	"context"
	"math"

	"github.com/martlet-mail/martlet/internal/directory/foreign"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
	"github.com/martlet-mail/martlet/internal/turn"
)

// Login is what an account is logged in to with: one of its fields, or nothing.
type Login struct {
	Password string
	// Hash is one that another server made, as foreign.Parse reads it.
	Hash string
	// Waiting: the password is the one that the domain's former server knows. Until the
	// first login with it nobody can log in here.
	Waiting bool
}

// LoginState tells how an account can be logged in to.
type LoginState struct {
	Scheme  string // how its password is kept: "argon2id" is ours; "" if none is
	Foreign bool   // it is kept as another server made it, until the next login with it
	Waiting bool   // it will be known at the first login
}

// ParseHash reads a hash that another server made, within what one login may cost here.
// Faults: Unsupported, TooLarge, Invalid; they do not quote the hash.
func (d *Directory) ParseHash(text string) (*foreign.Hash, error) {
	return foreign.Parse(text, d.opt.PasswordMemory)
}

// LoginOf tells how an account can be logged in to. Faults: NotFound.
func (d *Directory) LoginOf(ctx context.Context, id mail.AccountID) (LoginState, error) {
	rec, err := d.account(ctx, id)
	if err != nil {
		return LoginState{}, err
	}
	s := LoginState{Waiting: rec.waiting, Foreign: rec.foreign != ""}
	switch {
	case rec.hash != "":
		s.Scheme = "argon2id"
	case rec.foreign != "":
		h, err := foreign.Parse(rec.foreign, math.MaxInt64)
		if err != nil {
			return LoginState{}, fault.Wrap(fault.Corrupt, "a stored password hash does not have its form", err)
		}
		s.Scheme = h.Scheme()
	}
	return s, nil
}

// setLogin makes everything that is kept of a login.
func (d *Directory) setLogin(ctx context.Context, rec *accountRecord, with Login) error {
	if with.Hash == "" {
		if err := d.setCredentials(ctx, rec, with.Password); err != nil {
			return err
		}
		rec.waiting = with.Waiting && with.Password == ""
		return nil
	}
	h, err := d.ParseHash(with.Hash)
	if err != nil {
		return err
	}
	if password, is := h.Plain(); is { // nothing is kept of it as it is
		return d.setCredentials(ctx, rec, password)
	}
	rec.scram, rec.foreign = map[string]sasl.Keys{}, h.String()
	if mech, keys, is := h.Scram(); is {
		rec.scram[mech] = keys
	}
	return nil
}

// take makes another record's login this one's.
func (a *accountRecord) take(from *accountRecord) {
	a.hash, a.scram, a.foreign, a.waiting = from.hash, from.scram, from.foreign, from.waiting
}

// sound tells whether what is kept of a password can be read.
func (a *accountRecord) sound() error {
	if a.hash != "" {
		if _, _, _, err := decodePHC(a.hash); err != nil {
			return err
		}
	}
	if a.foreign != "" {
		if _, err := foreign.Parse(a.foreign, math.MaxInt64); err != nil {
			return fault.Wrap(fault.Corrupt, "a stored password hash does not have its form", err)
		}
	}
	return nil
}

// checkForeign holds a password, as it was typed and as it was prepared, against a hash of
// another server. The work of a hash of ours is done, too: whether there is such a login, and
// how its password is kept, does not show in a quick answer.
func (h *hasher) checkForeign(ctx context.Context, text, typed, prepared string) (bool, error) {
	f, err := foreign.Parse(text, math.MaxInt64)
	if err != nil {
		return false, fault.Wrap(fault.Corrupt, "a stored password hash does not have its form", err)
	}
	places, err := h.enterFor(ctx, f.Memory())
	if err != nil {
		return false, err
	}
	defer h.leave(places)
	cost, salt, key, err := decodePHC(h.dummy)
	if err != nil {
		return false, err
	}
	h.run(cost, prepared, salt, uint32(len(key)))
	return f.Matches(typed) || prepared != typed && f.Matches(prepared), nil
}

// enterFor is enter for so many bytes, which may be those of several hashes of ours.
func (h *hasher) enterFor(ctx context.Context, memory int64) (places int, err error) {
	own := int64(h.cost.MemoryKiB) << 10
	need := int(min(max(1, (memory+own-1)/own), int64(cap(h.slots))))
	if need == 1 {
		return 1, h.enter(ctx)
	}
	if err := h.enterSeveral(ctx); err != nil {
		return 0, err
	}
	defer func() { <-h.several }()
	for places < need {
		if err := h.enter(ctx); err != nil {
			h.leave(places)
			return 0, err
		}
		places++
	}
	return places, nil
}

// enterSeveral waits until nobody else is about to take several places: two that have half of
// what they need would wait for ever.
func (h *hasher) enterSeveral(ctx context.Context) error {
	if h.waiting.Add(1) > maxWaiting {
		h.waiting.Add(-1)
		return errTooMany()
	}
	defer h.waiting.Add(-1)
	work := turn.Of(ctx)
	work.Rest()
	defer work.Return()
	select {
	case h.several <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// verifyForeign is verify for an account whose password is kept as another server made it.
func (d *Directory) verifyForeign(ctx context.Context, l loginName, id mail.AccountID, rec *accountRecord, typed, prepared string) (Account, error) {
	ok, err := d.hashes.checkForeign(ctx, rec.foreign, typed, prepared)
	switch {
	case err != nil:
		return Account{}, err
	case !ok:
		return Account{}, errWrong()
	}
	if prepared != "" {
		d.known.add(l.name, id, prepared, rec.version)
		if !d.opt.KeepForeign && wholly(rec.foreign, typed) && wholly(rec.foreign, prepared) {
			d.renew(ctx, id, rec, prepared)
		}
	}
	a := Account{id, rec.address, rec.created}
	d.arrived(ctx, a, Typed{typed, rec.version}, Former.Arrived) // it is the password that it has at its former server
	return a, nil
}

// wholly tells whether a hash of another server is of all of a password. What it does not look
// at may be wrong, and must not become a part of the password.
func wholly(text, password string) bool {
	h, err := foreign.Parse(text, math.MaxInt64)
	return err == nil && h.Whole(password)
}

// anyElsewhere tells whether there is an account whose password is not known here in the form
// that SCRAM needs.
func (d *Directory) anyElsewhere(ctx context.Context) (any bool, err error) {
	generation := d.cache.now()
	if any, ok := lookup(&d.cache, &d.cache.elsewhere, struct{}{}); ok {
		return any, nil
	}
	err = d.eng.View(ctx, shard, func(r engine.Reader) error {
		any = false
		return r.Scan([]byte{famElsewhere}, engine.After([]byte{famElsewhere}), false, func(_, _ []byte) bool {
			any = true
			return false
		})
	})
	if err == nil {
		keep(&d.cache, &d.cache.elsewhere, generation, struct{}{}, any)
	}
	return any, err
}

// offersScram tells whether SCRAM is offered: a program that chooses it would fail to log in
// to an account of which only the password itself tells whether it is right.
func (d *Directory) offersScram(ctx context.Context) bool {
	switch d.opt.Scram {
	case ScramAlways:
		return true
	case ScramNever:
		return false
	}
	some, err := d.anyElsewhere(ctx)
	if err != nil {
		d.opt.Log.Warn("accounts whose passwords are elsewhere could not be looked for", "err", err)
	}
	return !some
}

// Scram says when SCRAM is offered.
type Scram uint8

const (
	ScramAuto   Scram = iota // as long as the passwords of all accounts are known here
	ScramAlways              // to accounts that wait, too, whose programs fail with it
	ScramNever
)
