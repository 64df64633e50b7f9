package directory

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Mended is one thing that Repair has done.
type Mended struct {
	Account mail.AccountID // 0: it concerns none
	Address string
	Lost    bool // somebody has to give it again
	Refused bool // the account did not get the address that was given for it
	What    string
}

// recoveredDomain is the domain of accounts of which the address is lost (RFC 2606: there is
// no such domain).
const recoveredDomain = "recovered.invalid"

// Repair brings the records of a directory that is not open into accord, after some were
// lost or damaged. data are the accounts that have mail; one of them that the directory does
// not know any more gets the address that give has for it, or one at recovered.invalid,
// and no password. One that has such an address already gets the one given, and keeps its
// password. No address is taken from whom it leads to, and no id is given twice.
func Repair(ctx context.Context, eng engine.Engine, data []mail.AccountID, give map[mail.AccountID]mail.Address, now time.Time, report func(Mended)) error {
	return eng.Update(ctx, shard, func(w engine.Writer) error {
		m := &mender{w: w, now: now, give: give, removed: map[mail.AccountID]bool{}, domains: map[string]bool{},
			entries: map[mail.AccountID]mail.Address{}, accounts: map[mail.AccountID]*accountRecord{},
			holders: map[mail.Address]mail.AccountID{}, making: map[mail.Address]mail.AccountID{}, given: map[string]bool{}}
		if err := m.all(data); err != nil {
			return err
		}
		for _, f := range m.found { // if all ends before it is done, it is told twice, and not never
			report(f)
		}
		return nil
	})
}

type mender struct {
	w        engine.Writer
	now      time.Time
	give     map[mail.AccountID]mail.Address
	found    []Mended
	broken   [][]byte
	domains  map[string]bool
	entries  map[mail.AccountID]mail.Address // who has which address, in its canonical form
	holders  map[mail.Address]mail.AccountID // what each address leads to, 0: an alias
	making   map[mail.Address]mail.AccountID // accounts in the making
	accounts map[mail.AccountID]*accountRecord
	removed  map[mail.AccountID]bool // or in the making
	given    map[string]bool         // domains of addresses that were given
	highest  mail.AccountID

	ofDomains []string         // that have keys or settings
	noted     []mail.AccountID // as having their password elsewhere
}

func (m *mender) note(id mail.AccountID, address string, lost bool, what string) {
	m.found = append(m.found, Mended{Account: id, Address: address, Lost: lost, What: what})
}

func (m *mender) all(data []mail.AccountID) error {
	if err := m.read(); err != nil {
		return err
	}
	if len(m.domains)+len(m.holders)+len(m.accounts)+len(m.broken)+len(data) == 0 {
		return m.names(nil) // it never was, and nothing can be given
	}
	for _, key := range m.broken {
		if err := m.mend(key); err != nil {
			return err
		}
	}
	if err := m.names(data); err != nil {
		return err
	}
	if err := m.needDomains(); err != nil {
		return err
	}
	if err := m.notes(); err != nil {
		return err
	}
	return m.meta()
}

// read takes in all that is whole.
func (m *mender) read() error {
	var newer error
	err := m.w.Scan(nil, nil, false, func(key, value []byte) bool {
		kind, d, err := unseal(value)
		if err == nil && kind >= recEnd { // whole, and nothing to mend by who does not know what it says
			newer = fault.Newf(fault.Unsupported, "a record of the directory has kind %d, which this program does not know; start a newer one", kind)
			return false
		}
		if err == nil {
			err = m.one(key, kind, d)
		}
		if err != nil {
			m.broken = append(m.broken, bytes.Clone(key))
		}
		return true
	})
	return cmp.Or(err, newer)
}

func (m *mender) one(key []byte, kind byte, d *decoder) error {
	switch key[0] {
	case famDomain:
		rec, err := decodeDomain(d)
		if err == nil && canonicalDomain(rec.name) == string(key[1:]) {
			m.domains[string(key[1:])] = true
		} else if err == nil {
			err = fmt.Errorf("another name")
		}
		return err
	case famEntry:
		e, err := decodeEntry(kind, d)
		if err != nil {
			return err
		}
		m.holders[addressOf(key)] = e.account
	case famAccount:
		rec, err := decodeAccount(kind, d)
		if err == nil {
			err = rec.sound()
		}
		if err != nil {
			return err
		}
		m.accounts[mail.AccountID(engine.Num(key, 0))] = rec
	case famPending:
		of, err := decodePending(kind, d)
		if err != nil {
			return err
		}
		m.removed[of.id], m.highest = true, max(m.highest, of.id)
		m.making[addressOf(key)] = of.id
	case famRemoved:
		m.removed[mail.AccountID(engine.Num(key, 0))] = true
	case famSigning:
		domain, selector, _ := strings.Cut(string(key[1:]), "\x00")
		m.ofDomains = append(m.ofDomains, domain)
		_, err := readKey([]byte(selector), kind, d)
		return err
	case famSettings:
		m.ofDomains = append(m.ofDomains, string(key[1:]))
		_, err := decodeSettings(d)
		return err
	case famPublished:
		_, err := decodePublished(d)
		return err
	case famElsewhere:
		m.noted = append(m.noted, mail.AccountID(engine.Num(key, 0)))
	}
	return nil
}

// notes brings what is noted of accounts into accord with their records: those that were
// lost have no password elsewhere any more.
func (m *mender) notes() error {
	for _, id := range m.noted {
		if rec := m.accounts[id]; rec == nil || !rec.elsewhere() {
			if err := m.w.Delete(elsewhereKey(id)); err != nil {
				return err
			}
		}
	}
	for id, rec := range m.accounts {
		if rec.elsewhere() {
			if err := m.w.Put(elsewhereKey(id), seal(recElsewhere, nil)); err != nil {
				return err
			}
		}
	}
	return nil
}

// mend takes a damaged record out, or writes it anew if others say what it was.
func (m *mender) mend(key []byte) error {
	switch key[0] {
	case famDomain:
		m.note(0, string(key[1:]), true, "the record of the domain was damaged; its catch-all, if it had one, is lost")
		return m.domain(string(key[1:]))
	case famEntry:
		address := addressOf(key)
		if !m.claimed(address) {
			m.note(0, address.String(), true, "what the address stands for is lost; if it was an alias, make it again: martlet alias add")
		}
		return m.w.Delete(key)
	case famAccount:
		return m.w.Delete(key) // its entry makes it anew
	case famRemoved:
		m.removed[mail.AccountID(engine.Num(key, 0))] = true
		return m.w.Put(key, seal(recRemoved, nil))
	case famSigning:
		domain, selector, _ := strings.Cut(string(key[1:]), "\x00")
		m.note(0, domain, true, fmt.Sprintf("the key %s that signed its mail is lost, and another is made: publish it, martlet dns show %s", selector, domain))
		return m.w.Delete(key)
	case famSettings:
		m.note(0, string(key[1:]), true, "what was set for the domain is lost: set it again, martlet domain set")
		return m.w.Delete(key)
	case famElsewhere:
		return m.w.Delete(key) // its account tells
	case famPublished:
		m.note(0, string(key[1:]), false, "which records of the DNS were made here is forgotten; what is not wanted any more is to be taken out by hand")
		return m.w.Delete(key)
	case famMeta:
		m.note(0, "", false, "the directory's own record was damaged")
		return m.w.Delete(key)
	}
	m.note(0, addressOf(key).String(), false, "an account in the making was damaged; it can be made again")
	return m.w.Delete(key)
}

// claimed tells whether the record of an account says that it has an address.
func (m *mender) claimed(address mail.Address) bool {
	for _, rec := range m.accounts {
		if canonical(rec.address) == address {
			return true
		}
	}
	return false
}

func (m *mender) needDomains() error {
	names := slices.Clone(m.ofDomains)
	for a := range m.holders {
		names = append(names, a.Domain)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if m.domains[name] {
			continue
		}
		if name != recoveredDomain {
			// That a given address has lost its domain, an earlier repair has told.
			m.note(0, name, !m.given[name], "the domain was lost and is there again; its catch-all, if it had one, is lost")
		}
		if err := m.domain(name); err != nil {
			return err
		}
	}
	return nil
}

func (m *mender) domain(name string) error {
	m.domains[name] = true
	return m.w.Put(domainKey(name), domainRecord{name: name, created: m.now}.encode())
}

// meta makes sure that no id is given twice.
func (m *mender) meta() error {
	was, err := getMeta(m.w)
	if err == nil && was.lastID >= m.highest && len(was.secret) > 0 {
		return nil
	}
	was.lastID = max(was.lastID, m.highest) + departIDs
	return m.w.Put(metaKey(), was.encode()) // Open makes another secret
}
