package directory

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// Account is one who has mailboxes here.
type Account struct {
	ID      mail.AccountID
	Address mail.Address // as it was given; it is also the login name
	Created time.Time
}

// AddAccount makes an account with its mailboxes. A password of "" makes one that
// nobody can log in to yet. After a failure, whatever it was, the call may be
// repeated: the account is seen by nobody before all of it is there, and a second
// call goes on where the first stopped. Faults: Exists, NotFound (the domain),
// Invalid.
func (d *Directory) AddAccount(ctx context.Context, addr mail.Address, password string, quota store.Quota) (Account, error) {
	return d.AddAccountWith(ctx, addr, Login{Password: password}, quota)
}

// AddAccountWith is AddAccount for any kind of login. Faults: those of ParseHash, too.
func (d *Directory) AddAccountWith(ctx context.Context, addr mail.Address, with Login, quota store.Quota) (Account, error) {
	rec := &accountRecord{address: addr, created: d.opt.Now()}
	if addr.Local == "" {
		return Account{}, fault.New(fault.Invalid, "account address has no local part")
	}
	if err := d.setLogin(ctx, rec, with); err != nil {
		return Account{}, err
	}
	ctx, release, err := d.alone(ctx)
	if err != nil {
		return Account{}, err
	}
	defer release()
	made, err := d.fill(ctx, addr, func(ctx context.Context, id mail.AccountID) error { return d.data.CreateAccount(ctx, id, quota) })
	if err != nil {
		return Account{}, err
	}
	if err := d.moveIn(ctx, addr, made, rec); err != nil {
		return Account{}, err
	}
	return Account{made.id, addr, rec.created}, nil
}

// mustBeFree tells whether an address is neither an account nor an alias.
func mustBeFree(r engine.Reader, folded mail.Address) error {
	e, found, err := getEntry(r, folded)
	switch {
	case err != nil || !found:
		return err
	case e.account != 0:
		return fault.Newf(fault.Exists, "%s is an account already", folded)
	}
	return fault.Newf(fault.Exists, "%s is an alias already", folded)
}

// RemoveAccount removes an account, or what an AddAccount left that did not come to
// its end, and then its mail. Its address is free at once; aliases that lead to it
// stay. What a crash leaves of the mail is removed at the next Open. Faults:
// NotFound.
func (d *Directory) RemoveAccount(ctx context.Context, addr mail.Address) error {
	ctx, release, err := d.alone(ctx)
	if err != nil {
		return err
	}
	defer release()
	folded := canonical(addr)
	var gone making
	err = d.update(ctx, func(w engine.Writer) error {
		var err error
		if gone, err = removable(w, folded); err != nil {
			return err
		}
		if err := w.Delete(pendingKey(folded)); err != nil {
			return err
		}
		if err := w.Delete(entryKey(folded)); err != nil {
			return err
		}
		if err := errors.Join(w.Delete(accountKey(gone.id)), w.Delete(elsewhereKey(gone.id))); err != nil {
			return err
		}
		return w.Put(removedKey(gone.id), gone.removed())
	})
	d.known.forget(folded.String()) // whatever the outcome: it may be unknown
	if err != nil {
		return err
	}
	return d.finishRemoval(ctx, gone)
}

// removable returns an account, made or in the making.
func removable(r engine.Reader, folded mail.Address) (making, error) {
	m, found, err := getMaking(r, folded)
	if err != nil || found {
		return m, err
	}
	e, err := needAccount(r, folded)
	return making{id: e.account}, err
}

func needAccount(r engine.Reader, folded mail.Address) (entry, error) {
	e, found, err := getEntry(r, folded)
	if err == nil && (!found || e.account == 0) {
		err = fault.Newf(fault.NotFound, "there is no account %s", folded)
	}
	return e, err
}

// finishRemoval removes the data of an account, of one in the making only what was made for it.
func (d *Directory) finishRemoval(ctx context.Context, gone making) error {
	id := gone.id
	err := d.data.DeleteAccount(d.provided(ctx, gone.birth, func(r engine.Reader) error {
		_, waits, err := r.Get(removedKey(id))
		if err == nil && !waits {
			err = errFinished
		}
		return err
	}), id)
	if errors.Is(err, errFinished) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.update(ctx, func(w engine.Writer) error {
		if _, waits, err := w.Get(removedKey(id)); err != nil || !waits {
			return err
		}
		return w.Delete(removedKey(id))
	})
}

// errFinished is of a removal that another process has brought to its end.
var errFinished = fault.New(fault.NotFound, "the account's data is removed already")

// finishRemovals removes the data of accounts whose removal was cut short. One that
// cannot be removed now waits for the next Open.
func (d *Directory) finishRemovals(ctx context.Context) error {
	var left []making
	err := d.eng.View(ctx, shard, func(r engine.Reader) error {
		left = nil
		return scan(r, []byte{famRemoved}, nil, func(key []byte, kind byte, dec *decoder) (bool, error) {
			m, err := decodeRemoved(key, kind, dec)
			left = append(left, m)
			return true, err
		})
	})
	for _, m := range left {
		if err := d.finishRemoval(ctx, m); err != nil {
			d.opt.Log.Warn("data of a removed account is still there", "account", m.id, "err", err)
		}
	}
	return err
}

// SetPassword changes an account's password; "" takes it away. Sessions that are
// logged in stay so. Faults: NotFound, Invalid.
func (d *Directory) SetPassword(ctx context.Context, addr mail.Address, password string) error {
	return d.SetLogin(ctx, addr, Login{Password: password})
}

// SetLogin is SetPassword for any kind of login. Faults: those of ParseHash, too.
func (d *Directory) SetLogin(ctx context.Context, addr mail.Address, with Login) error {
	var made accountRecord
	if err := d.setLogin(ctx, &made, with); err != nil {
		return err
	}
	folded := canonical(addr)
	err := d.update(ctx, func(w engine.Writer) error {
		e, err := needAccount(w, folded)
		if err != nil {
			return err
		}
		rec, err := getAccount(w, e.account)
		if err != nil {
			return err
		}
		rec.take(&made)
		rec.version++
		return putAccount(w, e.account, rec)
	})
	d.known.forget(folded.String())
	return err
}

// Lookup returns the account of an address, which must be the account's own: no
// alias, no detail. Faults: NotFound.
func (d *Directory) Lookup(ctx context.Context, addr mail.Address) (Account, error) {
	folded := canonical(addr)
	e, found, err := d.entry(ctx, folded)
	if err != nil {
		return Account{}, err
	}
	if !found || e.account == 0 {
		return Account{}, fault.Newf(fault.NotFound, "there is no account %s", folded)
	}
	rec, err := d.account(ctx, e.account)
	if err != nil {
		return Account{}, err
	}
	return Account{e.account, rec.address, rec.created}, nil
}

// AccountByID returns an account by its id. Faults: NotFound.
func (d *Directory) AccountByID(ctx context.Context, id mail.AccountID) (Account, error) {
	rec, err := d.account(ctx, id)
	if err != nil {
		return Account{}, err
	}
	return Account{id, rec.address, rec.created}, nil
}

// page is how many records one View of a listing reads.
const page = 500

// Accounts yields all accounts, or those of a domain, in order of domain and local
// part. It holds no snapshot between two pages, so it may take its time; an account
// made or removed meanwhile may be in it or not. After an error it ends.
func (d *Directory) Accounts(ctx context.Context, domain string) iter.Seq2[Account, error] {
	return func(yield func(Account, error) bool) {
		for a, err := range d.entries(ctx, domain) {
			if err != nil {
				yield(Account{}, err)
				return
			}
			if a.entry.account == 0 {
				continue
			}
			rec, err := d.account(ctx, a.entry.account)
			if fault.Is(err, fault.NotFound) {
				continue // removed since the page was read
			}
			if err != nil {
				yield(Account{}, err)
				return
			}
			if !yield(Account{a.entry.account, rec.address, rec.created}, nil) {
				return
			}
		}
	}
}

// listed is an entry with its address, as it is keyed.
type listed struct {
	address mail.Address
	entry   entry
}

// entries yields what every address is, page by page.
func (d *Directory) entries(ctx context.Context, domain string) iter.Seq2[listed, error] {
	prefix := []byte{famEntry}
	if domain != "" {
		prefix = engine.KeyString(famEntry, canonicalDomain(domain)+"\x00")
	}
	return func(yield func(listed, error) bool) {
		var from []byte
		for more := true; more; {
			var got []listed
			err := d.eng.View(ctx, shard, func(r engine.Reader) error {
				got = nil
				return scan(r, prefix, from, func(key []byte, kind byte, dec *decoder) (bool, error) {
					e, err := decodeEntry(kind, dec)
					got = append(got, listed{addressOf(key), e})
					return len(got) < page, err
				})
			})
			if err != nil {
				yield(listed{}, err)
				return
			}
			for _, l := range got {
				if !yield(l, nil) {
					return
				}
			}
			if more = len(got) == page; more {
				from = append(entryKey(got[len(got)-1].address), 0)
			}
		}
	}
}

// addressOf reads the address back from an entry's key.
func addressOf(key []byte) mail.Address {
	for i, c := range key {
		if c == 0 {
			return mail.Address{Domain: string(key[1:i]), Local: string(key[i+1:])}
		}
	}
	return mail.Address{}
}

// entry returns what an address is, from the cache if it can.
func (d *Directory) entry(ctx context.Context, folded mail.Address) (e entry, found bool, err error) {
	if len(folded.Local)+len(folded.Domain) > 500 {
		return entry{}, false, nil // longer than any key
	}
	generation := d.cache.now()
	if e, ok := lookup(&d.cache, &d.cache.entries, folded); ok {
		return e, true, nil
	}
	err = d.eng.View(ctx, shard, func(r engine.Reader) error {
		e, found, err = getEntry(r, folded)
		return err
	})
	if err == nil && found {
		keep(&d.cache, &d.cache.entries, generation, folded, e)
	}
	return e, found, err
}

// account returns an account's record, from the cache if it can. It is not to be
// changed. Faults: NotFound.
func (d *Directory) account(ctx context.Context, id mail.AccountID) (rec *accountRecord, err error) {
	generation := d.cache.now()
	if rec, ok := lookup(&d.cache, &d.cache.accounts, id); ok {
		return rec, nil
	}
	err = d.eng.View(ctx, shard, func(r engine.Reader) error {
		kind, dec, found, err := get(r, accountKey(id), recAccount, recAccountElsewhere)
		if err != nil {
			return err
		}
		if !found {
			return fault.New(fault.NotFound, "there is no such account")
		}
		rec, err = decodeAccount(kind, dec)
		return err
	})
	if err != nil {
		return nil, err
	}
	keep(&d.cache, &d.cache.accounts, generation, id, rec)
	return rec, nil
}

// firstAccount returns the oldest account's id, or 0 if there is none.
func (d *Directory) firstAccount(ctx context.Context) (id mail.AccountID, err error) {
	generation := d.cache.now()
	d.cache.mu.RLock()
	id = d.cache.first
	d.cache.mu.RUnlock()
	if id != 0 {
		return id, nil
	}
	err = d.eng.View(ctx, shard, func(r engine.Reader) error {
		return r.Scan([]byte{famAccount}, engine.After([]byte{famAccount}), false, func(key, _ []byte) bool {
			id = mail.AccountID(engine.Num(key, 0))
			return false
		})
	})
	d.cache.mu.Lock()
	defer d.cache.mu.Unlock()
	if err == nil && d.cache.generation == generation {
		d.cache.first = id
	}
	return id, err
}
