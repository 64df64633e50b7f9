package directory

import (
	"context"
	"fmt"
	"strings"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Verify reads every record and checks checksums and cross-references. report is
// called with a sentence for each problem; live with the id of each account, which
// is to have data in the store.
func (d *Directory) Verify(ctx context.Context, report func(string), live func(mail.AccountID)) error {
	return d.eng.View(ctx, shard, func(r engine.Reader) error {
		v := &verifier{report: report, domains: map[string]bool{}, entries: map[mail.AccountID]mail.Address{}, awaited: map[mail.AccountID]bool{}}
		for _, check := range []struct {
			family byte
			fn     func(key []byte, kind byte, d *decoder) error
		}{
			{famDomain, v.domain}, {famEntry, v.entry}, {famAccount, v.account}, {famPending, v.pending}, {famMeta, v.meta},
			{famSigning, v.signing}, {famSettings, v.settings}, {famPublished, v.published}, {famElsewhere, v.elsewhere},
		} {
			if err := v.all(r, check.family, check.fn); err != nil {
				return err
			}
		}
		for id := range v.awaited {
			report(fmt.Sprintf("account %d has its password elsewhere, and is not noted as such", id))
		}
		for id, address := range v.entries {
			report(fmt.Sprintf("%s names account %d, which has no record", address, id))
		}
		for _, id := range v.live {
			live(id)
		}
		return nil
	})
}

// Claims returns the ids that stand for somebody: of accounts, of those in the making, and of
// those that are removed and whose data is not gone yet.
func (d *Directory) Claims(ctx context.Context) (map[mail.AccountID]bool, error) {
	claims := map[mail.AccountID]bool{}
	err := d.eng.View(ctx, shard, func(r engine.Reader) error {
		clear(claims)
		for _, family := range []byte{famAccount, famRemoved} {
			err := r.Scan([]byte{family}, []byte{family + 1}, false, func(key, _ []byte) bool {
				claims[mail.AccountID(engine.Num(key, 0))] = true
				return true
			})
			if err != nil {
				return err
			}
		}
		return r.Scan([]byte{famPending}, []byte{famPending + 1}, false, func(_, value []byte) bool {
			if _, dec, err := unseal(value); err == nil { // else Verify tells
				claims[mail.AccountID(dec.number())] = true
			}
			return true
		})
	})
	return claims, err
}

// verifier collects what later records are held against.
type verifier struct {
	report  func(string)
	domains map[string]bool
	entries map[mail.AccountID]mail.Address // without an account record yet
	awaited map[mail.AccountID]bool         // whose password is elsewhere
	highest mail.AccountID
	live    []mail.AccountID
}

// all gives every record of a family to fn; a record that cannot be read is a
// problem, not an end.
func (v *verifier) all(r engine.Reader, family byte, fn func([]byte, byte, *decoder) error) error {
	prefix := []byte{family}
	return r.Scan(prefix, engine.After(prefix), false, func(key, value []byte) bool {
		kind, dec, err := unseal(value)
		if err == nil {
			err = fn(key, kind, dec)
		}
		if err != nil {
			v.report(fmt.Sprintf("record %q: %v", key, err))
		}
		return true
	})
}

func (v *verifier) domain(key []byte, _ byte, d *decoder) error {
	v.domains[string(key[1:])] = true
	rec, err := decodeDomain(d)
	if err == nil && canonicalDomain(rec.name) != string(key[1:]) {
		v.report(fmt.Sprintf("domain %q says it is %q", key[1:], rec.name))
	}
	return err
}

func (v *verifier) entry(key []byte, kind byte, d *decoder) error {
	address := addressOf(key)
	e, err := decodeEntry(kind, d)
	if err != nil {
		return err
	}
	if !v.domains[address.Domain] {
		v.report(fmt.Sprintf("%s is of a domain that is not here", address))
	}
	if other, twice := v.entries[e.account]; twice {
		v.report(fmt.Sprintf("%s and %s are the same account", other, address))
	}
	if e.account != 0 {
		v.entries[e.account] = address
	}
	return nil
}

func (v *verifier) account(key []byte, kind byte, d *decoder) error {
	id := mail.AccountID(engine.Num(key, 0))
	rec, err := decodeAccount(kind, d)
	if err != nil {
		return err
	}
	if address, ok := v.entries[id]; !ok || address != canonical(rec.address) {
		v.report(fmt.Sprintf("account %d says it is %s, which does not name it", id, rec.address))
	}
	if err := rec.sound(); err != nil {
		return err
	}
	if rec.elsewhere() {
		v.awaited[id] = true
	}
	delete(v.entries, id)
	v.highest = max(v.highest, id)
	v.live = append(v.live, id)
	return nil
}

func (v *verifier) elsewhere(key []byte, _ byte, _ *decoder) error {
	id := mail.AccountID(engine.Num(key, 0))
	if !v.awaited[id] {
		v.report(fmt.Sprintf("account %d is noted as one that has its password elsewhere, and has not", id))
	}
	delete(v.awaited, id)
	return nil
}

func (v *verifier) pending(_ []byte, kind byte, d *decoder) error {
	m, err := decodePending(kind, d)
	v.highest = max(v.highest, m.id)
	return err
}

func (v *verifier) meta(_ []byte, _ byte, d *decoder) error {
	if last := mail.AccountID(d.number()); last < v.highest {
		v.report(fmt.Sprintf("the last id is said to be %d, but there is %d", last, v.highest))
	}
	d.bytes()
	return d.done()
}

func (v *verifier) signing(key []byte, kind byte, d *decoder) error {
	domain, selector, _ := strings.Cut(string(key[1:]), "\x00")
	if !v.domains[domain] {
		v.report(fmt.Sprintf("signing key %s is of %s, which is not here", selector, domain))
	}
	_, err := readKey([]byte(selector), kind, d)
	return err
}

func (v *verifier) settings(key []byte, _ byte, d *decoder) error {
	if domain := string(key[1:]); !v.domains[domain] {
		v.report(fmt.Sprintf("there are settings of %s, which is not here", domain))
	}
	_, err := decodeSettings(d)
	return err
}

func (v *verifier) published(key []byte, _ byte, d *decoder) error {
	if domain := string(key[1:]); !v.domains[domain] {
		v.report(fmt.Sprintf("there are records of the DNS of %s, which is not here", domain))
	}
	_, err := decodePublished(d)
	return err
}
