package directory

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// books is a directory of example.org as its records say, and what a repair of it told.
type books struct {
	*testing.T
	eng  engine.Engine
	told []Mended
}

var ann, bob = mail.Address{Local: "ann", Domain: "example.org"}, mail.Address{Local: "bob", Domain: "example.org"}

// newBooks writes whose records say that they have which address, and whom addresses lead to.
func newBooks(t *testing.T, records map[mail.AccountID]mail.Address, entries map[mail.Address]mail.AccountID) *books {
	b := &books{T: t, eng: newEngine(t)}
	t.Cleanup(func() { b.eng.Close() })
	b.put(domainKey("example.org"), domainRecord{name: "example.org", created: time.Unix(1, 0)}.encode())
	for id, a := range records {
		b.put(accountKey(id), (&accountRecord{address: a, created: time.Unix(1, 0), version: uint64(id)}).encode())
	}
	for a, id := range entries {
		b.put(entryKey(a), entry{account: id}.encode())
	}
	return b
}

func (b *books) put(key, value []byte) {
	b.Helper()
	if err := b.eng.Update(bg, shard, func(w engine.Writer) error { return w.Put(key, value) }); err != nil {
		b.Fatal(err)
	}
}

func (b *books) repair(give map[mail.AccountID]mail.Address, data ...mail.AccountID) {
	b.Helper()
	b.told = nil
	if err := Repair(bg, b.eng, data, give, time.Unix(2, 0), func(m Mended) { b.told = append(b.told, m) }); err != nil {
		b.Fatal(err)
	}
	for _, m := range b.told {
		b.Logf("%+v", m)
	}
}

// is holds all addresses against what is wanted, and each account's record against its address.
func (b *books) is(want string) {
	b.Helper()
	var got []string
	err := b.eng.View(bg, shard, func(r engine.Reader) error {
		return scan(r, []byte{famEntry}, nil, func(key []byte, kind byte, d *decoder) (bool, error) {
			e, err := decodeEntry(kind, d)
			if err != nil || e.account == 0 {
				return true, err
			}
			rec, err := getAccount(r, e.account)
			if err != nil {
				return false, err
			}
			if canonical(rec.address) != addressOf(key) {
				b.Errorf("account %d has %s, and its record says %s", e.account, addressOf(key), rec.address)
			}
			if rec.version != uint64(e.account) && rec.version != 2 { // made anew
				b.Errorf("account %d has another record than it had", e.account)
			}
			got = append(got, fmt.Sprintf("%s=%d", addressOf(key), e.account))
			return true, nil
		})
	})
	if all := strings.Join(got, " "); err != nil || all != want {
		b.Errorf("addresses are %s, %v; they should be %s", all, err, want)
	}
}

func (b *books) tells(lost, refused bool, id mail.AccountID, word string) {
	b.Helper()
	if !slices.ContainsFunc(b.told, func(m Mended) bool {
		return m.Lost == lost && m.Refused == refused && m.Account == id && strings.Contains(m.What, word)
	}) {
		b.Errorf("it does not tell of account %d: %s", id, word)
	}
}

// TestRepairGivesNobodysAddress gives an account whose data is there, and that nobody knows,
// an address that somebody has.
func TestRepairGivesNobodysAddress(t *testing.T) {
	b := newBooks(t, map[mail.AccountID]mail.Address{3: ann}, map[mail.Address]mail.AccountID{ann: 3})
	b.repair(map[mail.AccountID]mail.Address{5: {Local: "Ann", Domain: "EXAMPLE.org"}}, 3, 5)
	b.tells(false, true, 5, "the address of account 3")
	b.tells(true, false, 5, "its address is lost")
	b.is("ann@example.org=3 recovered-5@recovered.invalid=5")
}

func TestRepairRefusesToGive(t *testing.T) {
	records := map[mail.AccountID]mail.Address{3: ann, 5: {Local: "recovered-5", Domain: recoveredDomain}, 6: {Local: "recovered-6", Domain: recoveredDomain}}
	entries := map[mail.Address]mail.AccountID{ann: 3, records[5]: 5, records[6]: 6}
	const nothing = "ann@example.org=3 recovered-5@recovered.invalid=5 recovered-6@recovered.invalid=6"
	info, making := mail.Address{Local: "info", Domain: "example.org"}, mail.Address{Local: "new", Domain: "example.org"}
	for name, tt := range map[string]struct {
		give map[mail.AccountID]mail.Address
		id   mail.AccountID
		word string
		then string
	}{
		"an account's":    {map[mail.AccountID]mail.Address{5: ann}, 5, "the address of account 3", nothing},
		"an alias":        {map[mail.AccountID]mail.Address{5: info}, 5, "an alias", nothing},
		"in the making":   {map[mail.AccountID]mail.Address{5: making}, 5, "in the making", nothing},
		"it has its own":  {map[mail.AccountID]mail.Address{3: bob}, 3, "is not lost", nothing},
		"no such account": {map[mail.AccountID]mail.Address{4: bob}, 4, "no such account", nothing},
		"the same twice":  {map[mail.AccountID]mail.Address{5: bob, 6: bob}, 6, "the address of account 5", "ann@example.org=3 bob@example.org=5 recovered-6@recovered.invalid=6"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t, records, entries)
			b.put(entryKey(info), entry{targets: []mail.Address{ann}}.encode())
			b.put(pendingKey(making), seal(recPending, []byte{9}))
			b.repair(tt.give, 3, 5, 6)
			b.tells(false, true, tt.id, tt.word)
			b.is(tt.then)
		})
	}
}

// TestRepairGivesOnce gives a lost account an address, and again: it keeps its record, and
// nothing is lost.
func TestRepairGivesOnce(t *testing.T) {
	lost := mail.Address{Local: "recovered-5", Domain: recoveredDomain}
	b := newBooks(t, map[mail.AccountID]mail.Address{5: lost}, map[mail.Address]mail.AccountID{lost: 5})
	give := map[mail.AccountID]mail.Address{5: {Local: "ann", Domain: "gone.example"}}
	for range 2 {
		b.repair(give, 5)
		b.tells(false, false, 5, "given for it")
		b.is("ann@gone.example=5")
		if slices.ContainsFunc(b.told, func(m Mended) bool { return m.Lost || m.Refused }) {
			t.Error("something is said to be lost")
		}
	}
}

// TestRepairOldRecordTakesNoAddress: the record of an account came back, as its deletion
// lay in what could not be read. Its address is another's now.
func TestRepairOldRecordTakesNoAddress(t *testing.T) {
	b := newBooks(t, map[mail.AccountID]mail.Address{3: ann, 7: ann}, map[mail.Address]mail.AccountID{ann: 7})
	b.repair(nil, 7)
	b.tells(true, false, 3, "the address of account 7")
	b.is("ann@example.org=7 recovered-3@recovered.invalid=3")
	b.repair(nil, 7)
	if len(b.told) > 0 {
		t.Error("a second repair finds something")
	}
}

// TestRepairNames: two claim an address that leads to none, and addresses that lead to one
// account.
func TestRepairNames(t *testing.T) {
	for range 20 { // maps are read in another order each time
		b := newBooks(t, map[mail.AccountID]mail.Address{3: ann, 4: ann, 5: ann}, nil)
		b.repair(map[mail.AccountID]mail.Address{5: bob}, 3, 4, 5)
		b.tells(false, false, 3, "leads to it again")
		b.tells(true, false, 4, "the address of account 3")
		b.tells(false, false, 5, "given for it")
		b.is("ann@example.org=3 bob@example.org=5 recovered-4@recovered.invalid=4")
	}
	b := newBooks(t, map[mail.AccountID]mail.Address{3: bob}, map[mail.Address]mail.AccountID{ann: 3, bob: 3})
	b.repair(nil, 3)
	b.tells(false, false, 3, "has its own, and is free")
	b.is("bob@example.org=3")
	b = newBooks(t, map[mail.AccountID]mail.Address{3: bob, 4: bob}, map[mail.Address]mail.AccountID{ann: 3, bob: 4})
	b.repair(nil, 3, 4)
	b.tells(false, false, 3, "its record said")
	b.is("ann@example.org=3 bob@example.org=4")
	b = newBooks(t, map[mail.AccountID]mail.Address{3: bob}, map[mail.Address]mail.AccountID{ann: 3})
	b.repair(nil, 3)
	b.is("bob@example.org=3")
}
