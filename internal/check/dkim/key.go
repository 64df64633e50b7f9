package dkim

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Limits on key records.
const (
	maxRecord  = 16 << 10 // bytes
	maxRecords = 4        // at one name, of which each is tried
	minBits    = 1024     // of an RSA key (RFC 8301, 3.2)
	maxBits    = 8192
)

// rsaBits is the size of the RSA keys that are made (RFC 8301, 3.2).
const rsaBits = 2048

// GenerateKey makes a key for an algorithm, RSA (2048 bits) or Ed25519. Faults: Unsupported,
// and those of random.
func GenerateKey(algorithm string, random io.Reader) (crypto.Signer, error) {
	switch algorithm {
	case RSA:
		return signer(rsa.GenerateKey(random, rsaBits))
	case Ed25519:
		_, private, err := ed25519.GenerateKey(random)
		return signer(private, err)
	}
	return nil, fault.Newf(fault.Unsupported, "there is no algorithm %q for signatures", algorithm)
}

func signer[T crypto.Signer](s T, err error) (crypto.Signer, error) {
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	return s, nil
}

// Algorithm returns the algorithm that a key is for, "" if it is for none.
func Algorithm(key crypto.Signer) string {
	switch key.Public().(type) {
	case *rsa.PublicKey:
		return RSA
	case ed25519.PublicKey:
		return Ed25519
	}
	return ""
}

// MarshalKey returns a key as PKCS #8, in DER.
func MarshalKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	return der, nil
}

// ParseKey reads a private key: PKCS #8 or, for RSA, PKCS #1, in DER or PEM. It refuses what
// must not sign: RSA keys of less than 1024 bits. Faults: Invalid.
func ParseKey(key []byte) (crypto.Signer, error) {
	if block, _ := pem.Decode(key); block != nil {
		key = block.Bytes
	}
	var found any
	found, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		if found, err = x509.ParsePKCS1PrivateKey(key); err != nil {
			return nil, fault.Wrap(fault.Invalid, "the key is neither PKCS #8 nor PKCS #1", err)
		}
	}
	switch k := found.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < minBits {
			return nil, fault.Newf(fault.Invalid, "the RSA key has less than %d bits", minBits)
		}
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	}
	return nil, fault.New(fault.Invalid, "the key is neither RSA nor Ed25519")
}

// Record returns the text of a key record (RFC 6376, 3.6.1; RFC 8463, 4.2): one string, which
// a zone file splits into pieces of 255 bytes.
func Record(key crypto.Signer) (string, error) {
	switch public := key.Public().(type) {
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return "", fault.Wrap(fault.Internal, "", err)
		}
		return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der), nil
	case ed25519.PublicKey:
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public), nil
	}
	return "", fault.New(fault.Unsupported, "the key is neither RSA nor Ed25519")
}

// RecordName returns the name of a key record (RFC 6376, 3.6.2.1).
func RecordName(selector, domain string) string { return selector + "._domainkey." + domain }

// PublicKey is what a key record holds.
type PublicKey struct {
	Testing bool // t=y
	Strict  bool // t=s: i= must have the domain of d= itself
	Bits    int
	Secure  bool // DNSSEC authenticated the record

	kind   string // rsa, ed25519 or unknown
	hashes []string
	rsa    *rsa.PublicKey
	ed     ed25519.PublicKey
}

// ParseRecord reads a key record. A revoked key is as one that is not there (RFC 6376, 6.1.2):
// NotFound. Other faults are Invalid, and Unsupported for kinds of keys that are not known.
func ParseRecord(record string) (PublicKey, error) {
	var k PublicKey
	if len(record) > maxRecord {
		return k, fault.Newf(fault.Invalid, "the key record has more than %d bytes", maxRecord)
	}
	tags, err := ParseTags([]byte(record))
	if err != nil {
		return k, fault.New(fault.Invalid, "the key record is malformed: "+fault.Say(err))
	}
	if v, ok := tags.Get("v"); ok && (v != "DKIM1" || tags[0].Name != "v") {
		return k, fault.New(fault.Invalid, "the key record is malformed: v= is not DKIM1, or not in front")
	}
	if err := k.parseUse(tags); err != nil {
		return k, err
	}
	p, ok := tags.Get("p")
	switch {
	case !ok:
		return k, fault.New(fault.Invalid, "the key record is malformed: there is no p=")
	case withoutSpace(p) == "":
		return k, fault.New(fault.NotFound, "the key is revoked")
	}
	data, err := decode64(p)
	if err != nil {
		return k, fault.New(fault.Invalid, "the key record is malformed: p= is not base64")
	}
	return k, k.parseKey(data)
}

// parseUse reads what the key is for.
func (k *PublicKey) parseUse(tags Tags) error {
	k.kind = "rsa"
	if v, ok := tags.Get("k"); ok {
		k.kind = v
	}
	if s, ok := tags.Get("s"); ok {
		services, err := list(s, maxTags)
		if err != nil || !slices.Contains(services, "*") && !slices.Contains(services, "email") {
			return fault.New(fault.Invalid, "the key is not for mail (s=)")
		}
	}
	if h, ok := tags.Get("h"); ok {
		var err error
		if k.hashes, err = list(h, maxTags); err != nil {
			return err
		}
	}
	if t, ok := tags.Get("t"); ok {
		flags, err := list(t, maxTags)
		if err != nil {
			return err
		}
		k.Testing, k.Strict = slices.Contains(flags, "y"), slices.Contains(flags, "s")
	}
	return nil
}

func (k *PublicKey) parseKey(data []byte) error {
	switch k.kind {
	case "rsa":
		return k.parseRSA(data)
	case "ed25519":
		if len(data) != ed25519.PublicKeySize {
			return fault.New(fault.Invalid, "the key has the wrong length")
		}
		k.ed, k.Bits = data, 8*len(data)
		return nil
	}
	return fault.New(fault.Unsupported, "the kind of the key is not known (k=)")
}

// parseRSA takes both forms that are in use: SubjectPublicKeyInfo, of which RFC 6376 has its
// examples, and RSAPublicKey, which its text names.
func (k *PublicKey) parseRSA(data []byte) error {
	found, err := x509.ParsePKIXPublicKey(data)
	if err != nil {
		found, err = x509.ParsePKCS1PublicKey(data)
	}
	public, ok := found.(*rsa.PublicKey)
	if err != nil || !ok {
		return fault.New(fault.Invalid, "the key is not an RSA key")
	}
	k.rsa, k.Bits = public, public.N.BitLen()
	switch {
	case k.Bits < minBits:
		return fault.Newf(fault.Invalid, "the RSA key has %d bits, less than %d", k.Bits, minBits)
	case k.Bits > maxBits:
		return fault.Newf(fault.Invalid, "the RSA key has %d bits, more than %d", k.Bits, maxBits)
	}
	return nil
}

// check tells whether sig is a signature of digest by this key.
func (k *PublicKey) check(algorithm string, digest, sig []byte) error {
	if k.hashes != nil && !slices.Contains(k.hashes, "sha256") {
		return fault.New(fault.Invalid, "the key is not for sha256 (h=)")
	}
	if k.kind+"-sha256" != algorithm {
		return fault.Newf(fault.Invalid, "the key is not for %s", algorithm)
	}
	if k.rsa != nil && rsa.VerifyPKCS1v15(k.rsa, crypto.SHA256, digest, sig) == nil ||
		k.ed != nil && ed25519.Verify(k.ed, digest, sig) {
		return nil
	}
	return fault.New(fault.Denied, "the signature is not right: the header is not what was signed, or by another key")
}

// Keys looks up public keys, each once. It is for the signatures of one message and for one
// goroutine.
type Keys struct {
	from  Resolver
	known map[string]answer
}

type answer struct {
	records []string
	secure  bool
	err     error
}

// NewKeys returns an empty Keys.
func NewKeys(r Resolver) *Keys { return &Keys{from: r, known: map[string]answer{}} }

// Fetch looks up the keys of several signatures at the same time, so that slow name servers
// cost their time once.
func (k *Keys) Fetch(ctx context.Context, signatures ...*Signature) {
	found := map[string]*answer{}
	var wg sync.WaitGroup
	for _, s := range signatures {
		name := RecordName(s.Selector, s.Domain)
		if _, known := k.known[name]; known || found[name] != nil {
			continue
		}
		a := new(answer)
		found[name] = a
		wg.Go(func() { *a = k.ask(ctx, name) })
	}
	wg.Wait()
	for name, a := range found {
		k.known[name] = *a
	}
}

func (k *Keys) lookup(ctx context.Context, s *Signature) answer {
	k.Fetch(ctx, s)
	return k.known[RecordName(s.Selector, s.Domain)]
}

func (k *Keys) ask(ctx context.Context, name string) answer {
	records, info, err := k.from.LookupTXT(ctx, name)
	a := answer{records, info.AD, err}
	switch {
	case fault.Is(err, fault.NotFound):
		a.err = fault.New(fault.NotFound, "there is no key at "+name)
	case fault.Is(err, fault.Invalid):
		a.err = fault.New(fault.Invalid, "the name of the key cannot be looked up")
	case err != nil:
		a.err = fault.Wrap(fault.Unavailable, "the key at "+name+" could not be looked up", err)
	case len(records) == 0:
		a.err = fault.New(fault.NotFound, "there is no key at "+name)
	}
	return a
}

// Check verifies a signature of signed, canonical fields, to which it appends that of the
// signature itself. Of several records at one name the first that verifies counts
// (RFC 6376, 6.1.2). Errors are those of Signature.Verified.
func (k *Keys) Check(ctx context.Context, s *Signature, signed []byte, c Canon) (PublicKey, error) {
	found := k.lookup(ctx, s)
	if found.err != nil {
		return PublicKey{}, found.err
	}
	digest := sha256.Sum256(s.AppendUnsigned(signed, c))
	var key PublicKey
	var err error
	for i, record := range found.records[:min(len(found.records), maxRecords)] {
		one, bad := ParseRecord(record)
		one.Secure = found.secure
		if bad == nil {
			bad = one.check(s.Algorithm, digest[:], s.sig)
		}
		if bad == nil {
			return one, nil
		}
		if i == 0 || fault.Of(bad) == fault.Denied { // the reason that says most
			key, err = one, bad
		}
	}
	return key, err
}

// isUnder tells whether a domain is parent or a subdomain of it.
func isUnder(domain, parent string) bool {
	return domain == parent || strings.HasSuffix(domain, "."+parent)
}
