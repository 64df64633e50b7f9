package directory

import (
	"context"
	"net/netip"
	"strings"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
)

// errWrong is the one answer to a login that failed, whatever was wrong with it.
func errWrong() *fault.Error { return fault.New(fault.Unauthenticated, "authentication failed") }

// Authenticate checks a password. The login name is the account's full address, in
// any case. A wrong password, an unknown login and an account without a password
// have the same answer after the same work. from is the peer, for the brake on
// failures; loopback, where a webmail stands for many people, and the zero Addr are
// not counted by address. Faults: Unauthenticated, Limited, Unavailable.
func (d *Directory) Authenticate(ctx context.Context, login, password string, from netip.Addr) (Account, error) {
	l := d.login(login)
	if err := d.slow.hear(ctx, l.name, from); err != nil {
		return Account{}, err
	}
	try, err := d.slow.wait(ctx, l.name, from)
	if err != nil {
		return Account{}, err
	}
	defer try.over() // after a panic, too
	account, err := d.verify(ctx, l, password, from)
	switch {
	case err == nil:
		try.worked(ctx)
	case fault.Is(err, fault.Unauthenticated), wasShown(err):
		if err := try.failed(ctx); err != nil {
			return Account{}, err
		}
	default: // nobody was asked about the password
		try.broken()
	}
	return account, err
}

// loginName is a login as the tables know it.
type loginName struct {
	name    string       // canonical, or in lower case what is no address
	address mail.Address // canonical; zero: no address at all
}

func (d *Directory) login(text string) loginName {
	a, err := mail.ParseAddress(text)
	if err != nil {
		return loginName{name: strings.ToLower(text[:min(len(text), 320)])}
	}
	key := canonical(a)
	return loginName{key.String(), key}
}

// verify does the same work whether or not there is such a login.
func (d *Directory) verify(ctx context.Context, l loginName, password string, from netip.Addr) (Account, error) {
	id, rec, err := d.credentials(ctx, l)
	if err != nil {
		return Account{}, err
	}
	typed := password
	password, prepErr := sasl.PreparePassword(password)
	if prepErr != nil {
		password = "" // is nobody's
	}
	if id != 0 && d.known.knows(l.name, id, password, rec.version) {
		return Account{id, rec.address, rec.created}, nil
	}
	if rec.foreign != "" {
		return d.verifyForeign(ctx, l, id, rec, typed, password)
	}
	if at, awaited, err := d.awaits(ctx, l, id, rec); err != nil {
		return Account{}, err
	} else if awaited {
		return d.arrive(ctx, l, at, typed, password, from)
	}
	ok, err := d.hashes.check(ctx, rec.hash, password)
	switch {
	case err != nil:
		return Account{}, err
	case !ok || prepErr != nil || id == 0:
		return Account{}, errWrong()
	}
	d.known.add(l.name, id, password, rec.version)
	d.refresh(ctx, id, rec, password)
	a := Account{id, rec.address, rec.created}
	d.arrived(ctx, a, Typed{typed, rec.version}, Former.Present)
	return a, nil
}

// refresh makes what is kept of a prepared password, known to be right, anew if the
// options ask for another cost than it was made with: else old accounts could be told
// from new ones, and from logins that do not exist, by their cost. An account that only
// ever uses SCRAM keeps its old cost until the password is changed. A failure is no
// failure of the login: the next one tries again.
func (d *Directory) refresh(ctx context.Context, id mail.AccountID, rec *accountRecord, password string) {
	if d.stale(rec) {
		d.renew(ctx, id, rec, password)
	}
}

// renew makes what is kept of a prepared password, known to be right, anew.
func (d *Directory) renew(ctx context.Context, id mail.AccountID, rec *accountRecord, password string) {
	var made accountRecord
	err := d.setCredentials(ctx, &made, password)
	if err == nil {
		err = d.update(ctx, func(w engine.Writer) error {
			now, err := getAccount(w, id)
			if err != nil || now.version != rec.version || now.hash != rec.hash || now.foreign != rec.foreign {
				return err // changed meanwhile
			}
			now.take(&made) // of the same password: the version stays
			return putAccount(w, id, now)
		})
	}
	if err != nil {
		d.opt.Log.Warn("password keeps its old cost", "account", rec.address, "err", err)
	}
}

// stale tells whether credentials have another cost than new ones would have.
func (d *Directory) stale(rec *accountRecord) bool {
	for _, mech := range scramMechanisms {
		if rec.scram[mech].Iterations != d.opt.ScramIterations {
			return true
		}
	}
	cost, _, _, err := decodePHC(rec.hash)
	return err == nil && cost != d.opt.Argon
}

// credentials returns a login's record, or one that nothing fits and id 0.
func (d *Directory) credentials(ctx context.Context, l loginName) (mail.AccountID, *accountRecord, error) {
	nobody := &accountRecord{}
	if l.address.IsZero() {
		return 0, nobody, nil
	}
	if err := d.prove(ctx); err != nil {
		return 0, nil, err
	}
	e, found, err := d.entry(ctx, l.address)
	if err != nil || !found || e.account == 0 {
		return 0, nobody, err
	}
	rec, err := d.account(ctx, e.account)
	if fault.Is(err, fault.NotFound) {
		return 0, nobody, nil
	}
	if err != nil {
		return 0, nil, err
	}
	return e.account, rec, nil
}

// Attempt is one authentication exchange of one peer: it is what package sasl asks.
// It is used by one goroutine.
type Attempt struct {
	d       *Directory
	ctx     context.Context // of the session the exchange belongs to
	line    Line
	account Account

	claimed Account // whose SCRAM keys were handed out
	version uint64  // of its credentials
}

var _ sasl.Credentials = (*Attempt)(nil)

// Attempt begins an exchange. ctx must outlive it.
func (d *Directory) Attempt(ctx context.Context, line Line) *Attempt {
	return &Attempt{d: d, ctx: ctx, line: line}
}

// Account returns who was authenticated, once the exchange is done.
func (a *Attempt) Account() Account { return a.account }

// Verify is Authenticate for PLAIN and LOGIN.
func (a *Attempt) Verify(login, password string) (err error) {
	a.account, err = a.d.Authenticate(a.ctx, login, password, a.line.Peer())
	return err
}

// ScramKeys returns the keys of a login, or, if it has none, ones that stay the same
// and that nothing fits.
func (a *Attempt) ScramKeys(login, mechanism string) (sasl.Keys, error) {
	l := a.d.login(login)
	id, rec, err := a.d.credentials(a.ctx, l)
	if err != nil {
		return sasl.Keys{}, err
	}
	keys, ok := rec.scram[mechanism]
	if !ok {
		return sasl.FakeKeys(a.d.secret, mechanism, l.name, saltLen, a.d.opt.ScramIterations), nil
	}
	a.claimed, a.version = Account{id, rec.address, rec.created}, rec.version
	return keys, nil
}

// ScramDone counts the exchange and holds a proof against what has changed since the
// keys were handed out.
func (a *Attempt) ScramDone(login string, proven bool) error {
	l := a.d.login(login)
	if err := a.d.slow.hear(a.ctx, l.name, a.line.Peer()); err != nil {
		return err
	}
	try, err := a.d.slow.begin(l.name, a.line.Peer())
	if err != nil {
		return err
	}
	if proven && a.claimed.ID != 0 {
		id, rec, err := a.d.credentials(a.ctx, l)
		if err != nil {
			try.broken()
			return err
		}
		if id == a.claimed.ID && rec.version == a.version {
			try.worked(a.ctx)
			a.account = a.claimed
			return nil
		}
	}
	if err := try.failed(a.ctx); err != nil {
		return err
	}
	return errWrong()
}
