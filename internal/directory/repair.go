package directory

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Mended is one thing that Repair has done.
type Mended struct {
	Account mail.AccountID // 0: it concerns none
	Address string
	Lost    bool // somebody has to give it again
	What    string
}

// recoveredDomain is the domain of accounts of which the address is lost (RFC 2606: there is
// no such domain).
const recoveredDomain = "recovered.invalid"

// Repair brings the records of a directory that is not open into accord, after some were
// lost or damaged. data are the accounts that have mail; one of them that the directory does
// not know any more gets the address that give has for it, or one at recovered.invalid,
// and no password. No id is given twice.
func Repair(ctx context.Context, eng engine.Engine, data []mail.AccountID, give map[mail.AccountID]mail.Address, now time.Time, report func(Mended)) error {
	var found []Mended
	err := eng.Update(ctx, shard, func(w engine.Writer) error {
		m := &mender{w: w, now: now, give: give, removed: map[mail.AccountID]bool{}, domains: map[string]bool{},
			entries: map[mail.AccountID]mail.Address{}, accounts: map[mail.AccountID]mail.Address{}}
		err := m.all(data)
		found = m.found
		return err
	})
	if err == nil {
		for _, f := range found {
			report(f)
		}
	}
	return err
}

type mender struct {
	w        engine.Writer
	now      time.Time
	give     map[mail.AccountID]mail.Address
	found    []Mended
	broken   [][]byte
	domains  map[string]bool
	entries  map[mail.AccountID]mail.Address // who has which address, in its canonical form
	aliases  []mail.Address
	accounts map[mail.AccountID]mail.Address // as their records say
	removed  map[mail.AccountID]bool         // or in the making
	highest  mail.AccountID

	ofDomains []string // that have keys or settings
}

func (m *mender) note(id mail.AccountID, address string, lost bool, what string) {
	m.found = append(m.found, Mended{id, address, lost, what})
}

func (m *mender) all(data []mail.AccountID) error {
	if err := m.read(); err != nil {
		return err
	}
	if len(m.domains)+len(m.entries)+len(m.accounts)+len(m.broken)+len(data) == 0 {
		return nil // it never was
	}
	for _, key := range m.broken {
		if err := m.mend(key); err != nil {
			return err
		}
	}
	for _, id := range data {
		m.highest = max(m.highest, id)
		if err := m.owner(id); err != nil {
			return err
		}
	}
	for id, address := range m.accounts {
		if err := m.named(id, address); err != nil {
			return err
		}
	}
	for id, address := range m.entries {
		if _, ok := m.accounts[id]; ok {
			continue
		}
		m.note(id, address.String(), true, "its record is lost, with its password and the day it was made: give it a password, martlet account passwd "+address.String())
		if err := m.w.Put(accountKey(id), (&accountRecord{address: address, created: m.now, version: uint64(m.now.Unix())}).encode()); err != nil {
			return err
		}
	}
	if err := m.needDomains(); err != nil {
		return err
	}
	return m.meta()
}

// read takes in all that is whole.
func (m *mender) read() error {
	return m.w.Scan(nil, nil, false, func(key, value []byte) bool {
		kind, d, err := unseal(value)
		if err == nil {
			err = m.one(key, kind, d)
		}
		if err != nil {
			m.broken = append(m.broken, bytes.Clone(key))
		}
		return true
	})
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
		if e.account == 0 {
			m.aliases = append(m.aliases, addressOf(key))
		} else {
			m.entries[e.account] = addressOf(key)
		}
	case famAccount:
		rec, err := decodeAccount(d)
		if err == nil && rec.hash != "" {
			_, _, _, err = decodePHC(rec.hash)
		}
		if err != nil {
			return err
		}
		m.accounts[mail.AccountID(engine.Num(key, 0))] = rec.address
	case famPending:
		id := mail.AccountID(d.number())
		if err := d.done(); err != nil {
			return err
		}
		m.removed[id], m.highest = true, max(m.highest, id)
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
		if !slices.ContainsFunc(mapValues(m.accounts), func(a mail.Address) bool { return canonical(a) == address }) {
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
	case famMeta:
		m.note(0, "", false, "the directory's own record was damaged")
		return m.w.Delete(key)
	}
	m.note(0, addressOf(key).String(), false, "an account in the making was damaged; it can be made again")
	return m.w.Delete(key)
}

func mapValues(m map[mail.AccountID]mail.Address) (list []mail.Address) {
	for _, a := range m {
		list = append(list, a)
	}
	return list
}

// owner sees to it that an account that has mail has an address.
func (m *mender) owner(id mail.AccountID) error {
	_, named := m.entries[id]
	_, known := m.accounts[id]
	want, given := m.give[id]
	if given && named && m.entries[id].Domain == recoveredDomain {
		if err := m.w.Delete(entryKey(m.entries[id])); err != nil {
			return err
		}
		named, known = false, false
		delete(m.accounts, id)
	}
	if named || known || m.removed[id] {
		return nil
	}
	if !given {
		want = mail.Address{Local: fmt.Sprintf("recovered-%d", id), Domain: recoveredDomain}
		m.note(id, want.String(), true, fmt.Sprintf("there is mail of account %d, and its address is lost; give it back: martlet verify --repair --give %d=ADDRESS", id, id))
	}
	return m.name(id, want)
}

// named sees to it that the address of an account leads to it.
func (m *mender) named(id mail.AccountID, address mail.Address) error {
	m.highest = max(m.highest, id)
	if at, ok := m.entries[id]; ok && at == canonical(address) || m.removed[id] {
		return nil
	}
	m.note(id, address.String(), false, "its address led to nothing, and leads to it again")
	return m.name(id, address)
}

func (m *mender) name(id mail.AccountID, address mail.Address) error {
	folded := canonical(address)
	m.entries[id] = folded
	return m.w.Put(entryKey(folded), entry{account: id}.encode())
}

func (m *mender) needDomains() error {
	names := slices.Clone(m.ofDomains)
	for _, a := range append(mapValues(m.entries), m.aliases...) {
		names = append(names, a.Domain)
	}
	for _, name := range names {
		if m.domains[name] {
			continue
		}
		m.note(0, name, name != recoveredDomain, "the domain was lost and is there again; its catch-all, if it had one, is lost")
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
