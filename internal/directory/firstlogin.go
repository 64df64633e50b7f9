package directory

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
	"github.com/martlet-mail/martlet/internal/turn"
)

// Former is where a domain's mail was before, and where passwords are known that are not known
// here yet. Its methods may be called at the same time.
type Former interface {
	// Check asks a former server whether a password is right. nil means that it says so.
	// Faults: Unauthenticated if it says no; any other that it does not tell, Shown if the
	// password has been sent.
	Check(ctx context.Context, at Origin, user, password string) error
	// Arrived is told of an account whose owner has just logged in for the first time, and
	// with what, so that its mail can be fetched. It returns at once, and keeps the password
	// no longer than it needs it.
	Arrived(account Account, at Origin, user string, with Typed)
	// Present is told of every later login with a password to an account of a domain that has
	// a former server, whether the account was ever there or not. It returns at once. The
	// password is for the former server only if it is the one that has arrived from there.
	Present(account Account, at Origin, user string, with Typed)
}

// Typed is a password that was right.
type Typed struct {
	Password string
	// Version is of the account's credentials: it grows when the password is changed here, and
	// is the same as long as it is not.
	Version uint64
}

// Shown marks an error of Former.Check as one after which the former server has, or may have, seen
// the password. Whatever it answered, by what it did not answer to others it can be guessed
// which is right: the attempt counts.
func Shown(err error) error { return &shown{err} }

type shown struct{ error }

func (s *shown) Unwrap() error { return s.error }

func wasShown(err error) bool { return errors.As(err, new(*shown)) }

// Origin is a domain's former server.
type Origin struct {
	Domain string
	Server string // imaps://HOST:PORT or imap://HOST:PORT
	Mail   bool   // whether the mail there is to be fetched, too
	Link   bool   // and the account kept in step with it from then on
}

// arrival is what is set for first logins of a domain.
type arrival struct {
	Origin
	localPart bool // the former server's names have no domain
	create    bool // accounts that are not there are made
}

// arrivals returns what is set for a domain; false if nobody arrives.
func (d *Directory) arrivals(ctx context.Context, domain string) (arrival, bool, error) {
	if d.opt.Former == nil || domain == "" {
		return arrival{}, false, nil
	}
	s, err := d.Settings(ctx, domain)
	if err != nil || s.MigrateFrom == "" {
		return arrival{}, false, err
	}
	if s.MigrateUntil != "" {
		until, err := time.Parse(time.DateOnly, string(s.MigrateUntil))
		if err != nil || !d.opt.Now().Before(until) {
			return arrival{}, false, nil
		}
	}
	return arrival{
		Origin:    Origin{Domain: s.Domain, Server: string(s.MigrateFrom), Mail: s.MigrateMail != "no", Link: s.MigrateMail == "link"},
		localPart: s.MigrateUser == "localpart", create: s.MigrateCreate,
	}, true, nil
}

// user is what a former server calls an account.
func (a arrival) user(addr mail.Address) string {
	if a.localPart {
		return addr.Local
	}
	return addr.String()
}

// awaits tells whether a login is one whose password the domain's former server is to be
// asked about, and at what.
func (d *Directory) awaits(ctx context.Context, l loginName, id mail.AccountID, rec *accountRecord) (arrival, bool, error) {
	if l.address.IsZero() || id != 0 && !rec.waiting {
		return arrival{}, false, nil
	}
	at, set, err := d.arrivals(ctx, l.address.Domain)
	if err != nil || !set || id == 0 && !at.create {
		return arrival{}, false, err
	}
	if id != 0 {
		return at, true, nil
	}
	if !newcomer(l.address, d.opt.DetailSeparator) {
		return arrival{}, false, nil
	}
	_, taken, err := d.entry(ctx, l.address) // an alias
	if err != nil || taken {
		return arrival{}, false, err
	}
	_, local, err := d.domain(ctx, l.address.Domain)
	return at, local, err
}

// newcomer tells whether an account may be made by logging in to it: its name has no detail,
// none of the signs with which servers take one name for another (user*master), and is written
// as logins are compared (RFC 4013): else one person would have as many accounts as spellings.
func newcomer(addr mail.Address, separator string) bool {
	if len(addr.Local) == 0 || len(addr.Local) > 64 || separator != "" && strings.Contains(addr.Local, separator) {
		return false
	}
	if _, err := sasl.PrepareIdentifier(addr.Local); err != nil || spelling(addr.Local) != addr.Local {
		return false
	}
	return !strings.ContainsFunc(addr.Local, func(r rune) bool {
		return !(r == '.' || r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || r > 0x7f)
	})
}

// arrive is verify for a login that is awaited. typed is the password as it was typed,
// prepared as it is kept; the brake has counted the attempt.
func (d *Directory) arrive(ctx context.Context, l loginName, at arrival, typed, prepared string, from netip.Addr) (Account, error) {
	if prepared == "" { // some servers take an empty password for a visit without a name
		_, err := d.refused(ctx, prepared)
		return Account{}, err
	}
	leave, alone, err := d.flights.enter(ctx, d.opt.Sleep, spelling(l.name))
	if err != nil {
		return Account{}, err
	}
	leave = sync.OnceFunc(leave)
	defer leave()
	if !alone { // meanwhile somebody else has tried
		return d.verify(ctx, l, typed, from)
	}
	id, rec, err := d.credentials(ctx, l)
	if err != nil {
		return Account{}, err
	}
	if id != 0 && !rec.waiting { // somebody else's first login has landed just before
		leave()
		return d.verify(ctx, l, typed, from)
	}
	addr := l.address
	if id != 0 {
		addr = rec.address
	}
	work := turn.Of(ctx)
	work.Rest()
	err = d.opt.Former.Check(ctx, at.Origin, at.user(addr), typed)
	work.Resume()
	switch {
	case fault.Is(err, fault.Unauthenticated):
		d.opt.Log.Info("first login refused by the former server", "login", l.name, "server", at.Server, "err", err)
		return d.refused(ctx, prepared)
	case err != nil:
		d.opt.Log.Warn("first login could not be checked at the former server", "login", l.name, "server", at.Server, "err", err)
		return Account{}, fault.Wrap(fault.Unavailable, "your former mail server cannot be asked now, try again later", err)
	}
	account, version, err := d.settle(ctx, addr, id, rec, prepared)
	if err != nil {
		return Account{}, err
	}
	d.known.add(l.name, account.ID, prepared, version) // its program's other connections
	d.opt.Log.Info("first login", "account", account.Address, "server", at.Server, "from", from)
	d.opt.Former.Arrived(account, at.Origin, at.user(addr), Typed{typed, version})
	return account, nil
}

// arrived tells the former server's keeper of a login with the password that the account has
// had there, or has now.
func (d *Directory) arrived(ctx context.Context, a Account, with Typed, tell func(Former, Account, Origin, string, Typed)) {
	at, set, err := d.arrivals(ctx, canonical(a.Address).Domain)
	if err != nil {
		d.opt.Log.Warn("the former server of a domain could not be looked up", "account", a.Address, "err", err)
	}
	if set && err == nil {
		tell(d.opt.Former, a, at.Origin, at.user(a.Address), with)
	}
}

// refused is the answer to a wrong password, after the work that it has everywhere.
func (d *Directory) refused(ctx context.Context, prepared string) (Account, error) {
	if _, err := d.hashes.check(ctx, "", prepared); err != nil {
		return Account{}, err
	}
	return Account{}, errWrong()
}

// settle keeps the password of an account that has arrived, which is made if it is not there.
func (d *Directory) settle(ctx context.Context, addr mail.Address, id mail.AccountID, rec *accountRecord, prepared string) (a Account, version uint64, err error) {
	changed := fault.New(fault.Busy, "the account was changed this moment, try again")
	if id == 0 {
		name, err := d.written(ctx, addr.Domain)
		if err != nil {
			return Account{}, 0, err
		}
		a, err := d.AddAccount(ctx, mail.Address{Local: addr.Local, Domain: name}, prepared, store.Quota{})
		if fault.Is(err, fault.Exists) {
			err = changed
		}
		return a, 0, err
	}
	var made accountRecord
	if err := d.setCredentials(ctx, &made, prepared); err != nil {
		return Account{}, 0, err
	}
	err = d.update(ctx, func(w engine.Writer) error {
		now, err := getAccount(w, id)
		if err != nil {
			return err
		}
		if !now.waiting || now.version != rec.version {
			return changed
		}
		now.take(&made)
		now.version++
		return putAccount(w, id, now)
	})
	return Account{id, rec.address, rec.created}, rec.version + 1, err
}

// flights lets one at a time ask about a login: programs open several connections at once,
// and a former server is not to be asked the same thing by each.
type flights struct {
	mu    sync.Mutex
	going map[string]chan struct{} // closed when it has landed
}

// longestFlight is for how long one waits for another's answer: less than a former server is
// waited for, so that a server which asks itself comes to an end.
const longestFlight = 10 * time.Second

// enter waits until nobody asks about a login. alone is false if somebody did meanwhile.
func (f *flights) enter(ctx context.Context, sleep func(context.Context, time.Duration) error, name string) (leave func(), alone bool, err error) {
	f.mu.Lock()
	ahead, busy := f.going[name]
	if !busy {
		mine := make(chan struct{})
		if f.going == nil {
			f.going = map[string]chan struct{}{}
		}
		f.going[name] = mine
		f.mu.Unlock()
		return func() {
			f.mu.Lock()
			delete(f.going, name)
			f.mu.Unlock()
			close(mine)
		}, true, nil
	}
	f.mu.Unlock()
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	late := make(chan struct{})
	go func() {
		if sleep(within, longestFlight) == nil {
			close(late)
		}
	}()
	work := turn.Of(ctx)
	work.Rest()
	defer work.Return()
	select {
	case <-ahead:
		return func() {}, false, nil
	case <-late:
		return nil, false, fault.New(fault.Unavailable, "your former mail server is being asked, try again later")
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}

// server is a setting that names an IMAP server, or - for none.
type server string

// parseServer checks what migrate-from may be.
func parseServer(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "imaps" || u.Scheme == "imap") && u.Hostname() != "" && u.User == nil &&
		(u.Path == "" || u.Path == "/") && u.RawQuery == "" && u.Fragment == "" && !strings.ContainsAny(text, " \t;,")
}

// day is a setting that is a date, such as 2027-03-31, or empty.
type day string
