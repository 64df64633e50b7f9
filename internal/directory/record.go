package directory

import (
	"encoding/binary"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
)

// Key families of the directory's shard. docs/schema.md describes each.
const (
	famDomain  = 'd' // domain in A-labels -> domain record
	famEntry   = 'e' // domain, NUL, local part in lower case -> what the address is
	famAccount = 'u' // account id -> account record
	famPending = 'p' // like famEntry -> id of an account that is being made
	famRemoved = 'r' // account id -> nothing; its data is still to be removed
	famMeta    = 'm' // one record

	famSigning   = 'k' // domain, NUL, selector -> a key that signs its mail
	famSettings  = 's' // domain -> what is set for it
	famPublished = 'w' // domain -> the DNS records that were made here

	famElsewhere = 'x' // account id -> nothing; its password is known in the form of another server only
)

// The first byte of every record: what it is and in which version. A record ends in
// a CRC-32C of all before it.
const (
	recDomain byte = iota + 1
	recAccountEntry
	recAliasEntry
	recAccount
	recPending
	recRemoved
	recMeta
	recSigning
	recSettings
	recPublished
	recAccountElsewhere
	recElsewhere
	recPendingBorn
	recRemovedBorn
	recEnd // not a record: one more than the last
)

func metaKey() []byte                       { return []byte{famMeta} }
func domainKey(domain string) []byte        { return engine.KeyString(famDomain, domain) }
func settingsKey(domain string) []byte      { return engine.KeyString(famSettings, domain) }
func publishedKey(domain string) []byte     { return engine.KeyString(famPublished, domain) }
func accountKey(id mail.AccountID) []byte   { return engine.Key(famAccount, uint64(id)) }
func removedKey(id mail.AccountID) []byte   { return engine.Key(famRemoved, uint64(id)) }
func elsewhereKey(id mail.AccountID) []byte { return engine.Key(famElsewhere, uint64(id)) }
func entryKey(folded mail.Address) []byte   { return addressKey(famEntry, folded) }
func pendingKey(folded mail.Address) []byte { return addressKey(famPending, folded) }

// addressKey sorts addresses by domain. Neither part of an address can hold a NUL.
func addressKey(family byte, folded mail.Address) []byte {
	return engine.KeyString(family, folded.Domain+"\x00"+folded.Local)
}

func seal(kind byte, payload []byte) []byte { return record.Seal(kind, payload) }

// unseal checks a record and returns its kind and a reader of what is between.
func unseal(b []byte) (byte, *decoder, error) {
	kind, payload, err := record.Open(b)
	if err != nil {
		return 0, nil, err
	}
	return kind, &decoder{record.Dec{Rest: payload}}, nil
}

// decoder reads a record whole.
type decoder struct{ record.Dec }

func (d *decoder) number() uint64 { return d.U() }
func (d *decoder) bytes() []byte  { return append([]byte(nil), d.Bytes()...) }
func (d *decoder) done() error    { return d.End("directory") }

func (d *decoder) address() mail.Address {
	local, domain := d.bytes(), d.bytes()
	return mail.Address{Local: string(local), Domain: string(domain)}
}

func appendBytes[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendAddress(b []byte, a mail.Address) []byte {
	return appendBytes(appendBytes(b, a.Local), a.Domain)
}

// get reads one record of one of the kinds given.
func get(r engine.Reader, key []byte, kinds ...byte) (kind byte, d *decoder, found bool, err error) {
	value, ok, err := r.Get(key)
	if err != nil || !ok {
		return 0, nil, false, err
	}
	kind, d, err = unseal(value)
	if err != nil {
		return 0, nil, false, err
	}
	for _, k := range kinds {
		if k == kind {
			return kind, d, true, nil
		}
	}
	return 0, nil, false, fault.Newf(fault.Corrupt, "a record of the directory has the unknown kind %d", kind)
}

// meta is what the directory knows of itself.
type meta struct {
	lastID mail.AccountID // highest id ever given
	secret []byte
}

func getMeta(r engine.Reader) (meta, error) {
	_, d, found, err := get(r, metaKey(), recMeta)
	if err != nil || !found {
		return meta{}, err
	}
	m := meta{lastID: mail.AccountID(d.number()), secret: d.bytes()}
	return m, d.done()
}

func (m meta) encode() []byte {
	return seal(recMeta, appendBytes(binary.AppendUvarint(nil, uint64(m.lastID)), m.secret))
}

// domainRecord is what is kept of a domain.
type domainRecord struct {
	name     string // as it was written; the key has it in A-labels
	created  time.Time
	catchAll mail.Address // zero: none
}

func getDomain(r engine.Reader, domain string) (rec domainRecord, found bool, err error) {
	_, d, found, err := get(r, domainKey(domain), recDomain)
	if err != nil || !found {
		return domainRecord{}, false, err
	}
	rec, err = decodeDomain(d)
	return rec, err == nil, err
}

func decodeDomain(d *decoder) (domainRecord, error) {
	rec := domainRecord{name: string(d.bytes()), created: time.Unix(int64(d.number()), 0).UTC(), catchAll: d.address()}
	return rec, d.done()
}

func (d domainRecord) encode() []byte {
	b := binary.AppendUvarint(appendBytes(nil, d.name), uint64(d.created.Unix()))
	return seal(recDomain, appendAddress(b, d.catchAll))
}

// entry is what an address is: an account or an alias.
type entry struct {
	account mail.AccountID // 0: an alias
	targets []mail.Address
}

func getEntry(r engine.Reader, folded mail.Address) (e entry, found bool, err error) {
	kind, d, found, err := get(r, entryKey(folded), recAccountEntry, recAliasEntry)
	if err != nil || !found {
		return entry{}, false, err
	}
	e, err = decodeEntry(kind, d)
	return e, err == nil, err
}

func decodeEntry(kind byte, d *decoder) (e entry, err error) {
	if kind == recAccountEntry {
		if e.account = mail.AccountID(d.number()); e.account == 0 && d.done() == nil {
			return e, fault.New(fault.Corrupt, "an address of the directory belongs to account 0, which there is not")
		}
		return e, d.done()
	}
	for range d.Count() {
		e.targets = append(e.targets, d.address())
	}
	return e, d.done()
}

func (e entry) encode() []byte {
	if e.account != 0 {
		return seal(recAccountEntry, binary.AppendUvarint(nil, uint64(e.account)))
	}
	b := binary.AppendUvarint(nil, uint64(len(e.targets)))
	for _, t := range e.targets {
		b = appendAddress(b, t)
	}
	return seal(recAliasEntry, b)
}

// accountRecord is what is kept of an account.
type accountRecord struct {
	address mail.Address
	created time.Time
	version uint64 // of the credentials: it grows with each change of password
	hash    string // argon2id, PHC string; "": no password, no login
	scram   map[string]sasl.Keys

	foreign string // a hash that another server made, as package foreign keeps it; "": none
	waiting bool   // its password is where the domain's mail was before, until its first login
}

// elsewhere tells whether there is something that only the password itself can bring in.
func (a *accountRecord) elsewhere() bool { return a.foreign != "" || a.waiting }

// scramMechanisms are the ones keys are kept for, in the order of the record.
var scramMechanisms = [...]string{sasl.ScramSHA1, sasl.ScramSHA256}

func getAccount(r engine.Reader, id mail.AccountID) (*accountRecord, error) {
	kind, d, found, err := get(r, accountKey(id), recAccount, recAccountElsewhere)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fault.Newf(fault.Corrupt, "the directory has lost the record of account %d", id)
	}
	return decodeAccount(kind, d)
}

// putAccount writes an account's record, and notes whether it is one of those of which the
// password is known elsewhere only.
func putAccount(w engine.Writer, id mail.AccountID, rec *accountRecord) error {
	if err := w.Put(accountKey(id), rec.encode()); err != nil {
		return err
	}
	if rec.elsewhere() {
		return w.Put(elsewhereKey(id), seal(recElsewhere, nil))
	}
	return w.Delete(elsewhereKey(id))
}

func decodeAccount(kind byte, d *decoder) (*accountRecord, error) {
	a := &accountRecord{address: d.address(), scram: map[string]sasl.Keys{}}
	a.created = time.Unix(int64(d.number()), 0).UTC()
	a.version = d.number()
	a.hash = string(d.bytes())
	for _, mech := range scramMechanisms {
		k := sasl.Keys{Iterations: int(d.number()), Salt: d.bytes(), StoredKey: d.bytes(), ServerKey: d.bytes()}
		if k.Iterations > 0 {
			a.scram[mech] = k
		}
	}
	if kind == recAccountElsewhere {
		a.foreign = string(d.bytes())
		a.waiting = d.number() != 0
		if !a.elsewhere() && d.done() == nil {
			return a, fault.New(fault.Corrupt, "an account is said to have its password elsewhere, and has not")
		}
	}
	return a, d.done()
}

func (a *accountRecord) encode() []byte {
	b := appendAddress(nil, a.address)
	b = binary.AppendUvarint(b, uint64(a.created.Unix()))
	b = binary.AppendUvarint(b, a.version)
	b = appendBytes(b, a.hash)
	for _, mech := range scramMechanisms {
		k := a.scram[mech]
		b = binary.AppendUvarint(b, uint64(k.Iterations))
		b = appendBytes(b, k.Salt)
		b = appendBytes(b, k.StoredKey)
		b = appendBytes(b, k.ServerKey)
	}
	if !a.elsewhere() {
		return seal(recAccount, b)
	}
	b = appendBytes(b, a.foreign)
	if a.waiting {
		return seal(recAccountElsewhere, append(b, 1))
	}
	return seal(recAccountElsewhere, append(b, 0))
}
