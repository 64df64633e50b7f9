package directory

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/martlet-mail/martlet/internal/mail"
)

// names brings the accounts and their addresses into accord. Whoever an address leads to
// keeps it; then come those whose own record says that they have it, the older account
// first, and only then what is given by hand.
func (m *mender) names(data []mail.AccountID) error {
	if err := m.oneEach(); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(m.accounts)) {
		if err := m.named(id); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.give)) {
		if err := m.giveOne(id, slices.Contains(data, id)); err != nil {
			return err
		}
	}
	all := slices.AppendSeq(slices.Clone(data), maps.Keys(m.accounts))
	slices.Sort(all)
	for _, id := range all {
		m.highest = max(m.highest, id)
		if err := m.nameless(id); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.entries)) {
		if m.accounts[id] != nil {
			continue
		}
		address := m.entries[id]
		m.note(id, address.String(), true, "its record is lost, with its password and the day it was made: give it a password, martlet account passwd "+address.String())
		if err := m.record(id, &accountRecord{address: address, created: m.now, version: uint64(m.now.Unix())}); err != nil {
			return err
		}
	}
	return nil
}

func byAddress(a, b mail.Address) int {
	return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Local, b.Local))
}

// oneEach leaves each account one address: the one of its record, or else the first.
func (m *mender) oneEach() error {
	for _, address := range slices.SortedFunc(maps.Keys(m.holders), byAddress) {
		id := m.holders[address]
		if id == 0 {
			continue
		}
		was, twice := m.entries[id]
		if !twice {
			m.entries[id] = address
			continue
		}
		if rec := m.accounts[id]; rec != nil && canonical(rec.address) == address {
			m.entries[id], address = address, was
		}
		m.note(id, address.String(), false, "the address led to the account "+m.entries[id].String()+", which has its own, and is free")
		if err := m.free(address); err != nil {
			return err
		}
	}
	return nil
}

// named sees to it that an account that has a record has the address that it says, or says
// the one that it has.
func (m *mender) named(id mail.AccountID) error {
	rec := m.accounts[id]
	at, has := m.entries[id]
	if has && at == canonical(rec.address) || m.removed[id] {
		return nil
	}
	holder, taken := m.holders[canonical(rec.address)]
	switch {
	case !taken:
		m.note(id, rec.address.String(), false, "its address led to nothing, and leads to it again")
		return m.name(id, rec.address)
	case has:
		m.note(id, at.String(), false, fmt.Sprintf("its record said that it is %s, which is %s", rec.address, whose(holder)))
		return m.name(id, at)
	}
	return nil
}

// nameless gives an account that has no address one that nobody else has.
func (m *mender) nameless(id mail.AccountID) error {
	if _, named := m.entries[id]; named || m.removed[id] {
		return nil
	}
	said := ""
	if rec := m.accounts[id]; rec != nil {
		said = fmt.Sprintf("; its record says %s, which is %s", rec.address, whose(m.holders[canonical(rec.address)]))
	}
	address := mail.Address{Local: fmt.Sprintf("recovered-%d", id), Domain: recoveredDomain}
	for n := 2; ; n++ {
		if _, taken := m.holders[address]; !taken {
			break
		}
		address.Local = fmt.Sprintf("recovered-%d-%d", id, n)
	}
	m.note(id, address.String(), true, fmt.Sprintf("there is mail of account %d, and its address is lost%s; give it back: martlet verify --repair --give %d=ADDRESS", id, said, id))
	return m.name(id, address)
}

// giveOne gives an account whose address is lost the one that it is to have.
func (m *mender) giveOne(id mail.AccountID, data bool) error {
	address := m.give[id]
	folded := canonical(address)
	at, named := m.entries[id]
	holder, taken := m.holders[folded]
	_, making := m.making[folded]
	refuse := func(why string, of ...any) error {
		m.found = append(m.found, Mended{Account: id, Address: address.String(), Refused: true, What: fmt.Sprintf("account %d does not get %s: ", id, address) + fmt.Sprintf(why, of...)})
		return nil
	}
	switch {
	case named && at == folded:
		m.note(id, address.String(), false, "it has the address that is given for it")
		return nil
	case m.removed[id]:
		return refuse("it is being made or removed")
	case !named && !data && m.accounts[id] == nil:
		return refuse("there is no such account")
	case named && at.Domain != recoveredDomain:
		return refuse("it is %s, and its address is not lost", at)
	case taken:
		return refuse("that is %s; give it another", whose(holder))
	case making:
		return refuse("an account with this address is in the making; give it another")
	}
	m.given[folded.Domain] = true
	m.note(id, address.String(), false, "it has the address that is given for it")
	return m.name(id, address)
}

func whose(holder mail.AccountID) string {
	if holder == 0 {
		return "an alias"
	}
	return fmt.Sprintf("the address of account %d", holder)
}

// name makes a free address lead to an account, and the record of the account say so. What
// it had before is free.
func (m *mender) name(id mail.AccountID, address mail.Address) error {
	folded := canonical(address)
	if was, ok := m.entries[id]; ok && was != folded {
		if err := m.free(was); err != nil {
			return err
		}
	}
	m.entries[id], m.holders[folded] = folded, id
	if rec := m.accounts[id]; rec != nil && rec.address != address {
		rec.address = address
		if err := m.record(id, rec); err != nil {
			return err
		}
	}
	return m.w.Put(entryKey(folded), entry{account: id}.encode())
}

func (m *mender) record(id mail.AccountID, rec *accountRecord) error {
	m.accounts[id] = rec
	return m.w.Put(accountKey(id), rec.encode())
}

func (m *mender) free(address mail.Address) error {
	delete(m.holders, address)
	return m.w.Delete(entryKey(address))
}
