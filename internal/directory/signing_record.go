package directory

import (
	"crypto"
	"crypto/x509"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

func signingPrefix(domain string) []byte { return engine.KeyString(famSigning, domain+"\x00") }

func signingKey(domain, selector string) []byte {
	return engine.KeyString(famSigning, domain+"\x00"+selector)
}

// signingRecord is a key as it is kept. The private key is PKCS #8 (RFC 5958), empty once the
// key is gone.
type signingRecord struct {
	key     SigningKey // without domain, selector and signer: the record's key has these
	private []byte
}

func decodeSigning(d *decoder) (signingRecord, error) {
	rec := signingRecord{key: SigningKey{Algorithm: d.Str(), State: KeyState(d.Byte())}, private: d.bytes()}
	for _, t := range rec.key.times() {
		if seconds := d.I(); seconds != 0 {
			*t = time.Unix(seconds, 0).UTC()
		}
	}
	if err := d.done(); err != nil {
		return rec, err
	}
	if rec.key.State.String() == keyStates[0] || (len(rec.private) == 0) != (rec.key.State == KeyGone) {
		return rec, fault.New(fault.Corrupt, "a stored signing key is in no state that there is")
	}
	return rec, nil
}

func (r signingRecord) encode() []byte {
	var e record.Enc
	e.Str(r.key.Algorithm)
	e.Raw(byte(r.key.State))
	e.Bytes(r.private)
	for _, t := range r.key.times() {
		if t.IsZero() {
			e.I(0)
		} else {
			e.I(t.Unix())
		}
	}
	return seal(recSigning, e)
}

// times are those of a key in the order of the record.
func (k *SigningKey) times() []*time.Time {
	return []*time.Time{&k.Created, &k.Published, &k.Activated, &k.Retired, &k.Gone}
}

// same tells whether a record of another key would be the same one.
func (k SigningKey) same(other SigningKey) bool {
	if (k.Signer == nil) != (other.Signer == nil) {
		return false
	}
	k.Signer, other.Signer = nil, nil // of one selector; not comparable
	return k == other
}

// signer reads the private key.
func (r signingRecord) signer() (crypto.Signer, error) {
	if len(r.private) == 0 {
		return nil, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(r.private)
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, "a stored signing key cannot be read", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fault.New(fault.Corrupt, "a stored key is none that signs")
	}
	return signer, nil
}

// readKeys returns the keys of a domain in order of selectors.
func readKeys(r engine.Reader, name string) (all []SigningKey, err error) {
	prefix := signingPrefix(name)
	err = scan(r, prefix, nil, func(key []byte, kind byte, dec *decoder) (bool, error) {
		k, err := readKey(key[len(prefix):], kind, dec)
		k.Domain = name
		all = append(all, k)
		return true, err
	})
	return all, err
}

func readKey(selector []byte, kind byte, dec *decoder) (SigningKey, error) {
	if kind != recSigning {
		return SigningKey{}, fault.Newf(fault.Corrupt, "a signing key has the unknown kind %d", kind)
	}
	rec, err := decodeSigning(dec)
	if err != nil {
		return SigningKey{}, err
	}
	k := rec.key
	k.Selector = string(selector)
	k.Signer, err = rec.signer()
	return k, err
}

// writeKeys writes what is not as it was.
func writeKeys(w engine.Writer, was, now []SigningKey) error {
	for _, k := range was {
		if !slices.ContainsFunc(now, func(n SigningKey) bool { return n.Selector == k.Selector }) {
			if err := w.Delete(signingKey(k.Domain, k.Selector)); err != nil {
				return err
			}
		}
	}
	for _, k := range now {
		if slices.ContainsFunc(was, k.same) {
			continue
		}
		rec := signingRecord{key: k}
		if k.Signer != nil {
			var err error
			if rec.private, err = x509.MarshalPKCS8PrivateKey(k.Signer); err != nil {
				return fault.Wrap(fault.Internal, "", err)
			}
		}
		if err := w.Put(signingKey(k.Domain, k.Selector), rec.encode()); err != nil {
			return err
		}
	}
	return nil
}
