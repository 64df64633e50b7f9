package dkim

import (
	"context"
	"crypto/sha256"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Limits on one signature.
const (
	maxField  = 32 << 10 // bytes
	maxSigned = 400      // names in h=
)

// Signature is what a DKIM-Signature, ARC-Message-Signature or ARC-Seal field says. What
// only some of them have is checked by whoever knows which it is.
type Signature struct {
	Tags      Tags
	Algorithm string
	Domain    string // in A-labels and lower case
	Selector  string
	Signed    time.Time // t=, zero if there is none
	Expires   time.Time // x=, zero if there is none

	field Field
	sig   []byte
	body  []byte
	names []string
	form  bodyForm
	canon Canon
}

// ParseSignature reads what the three kinds of fields have in common: a, b, d, s, t, x. What
// can be read is there with an error, too, for reports. Faults: Invalid; Unsupported for
// algorithms.
func ParseSignature(f Field) (*Signature, error) {
	s := &Signature{field: f}
	if len(f.Raw) > maxField {
		return s, fault.New(fault.Invalid, "the signature is too long")
	}
	var err error
	if s.Tags, err = ParseTags(f.Value()); err != nil {
		return s, err
	}
	return s, firstError(s.parseNames, s.parseAlgorithm, s.parseTimes, func() error {
		s.sig, err = s.Tags.bytes("b")
		return err
	})
}

func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Signature) parseNames() error {
	domain, err := s.Tags.need("d")
	if err != nil {
		return err
	}
	if s.Domain, err = asciiDomain(domain); err != nil || !strings.Contains(s.Domain, ".") {
		return fault.New(fault.Invalid, "d= is not a domain")
	}
	selector, err := s.Tags.need("s")
	if err != nil {
		return err
	}
	if s.Selector, err = asciiDomain(selector); err != nil {
		return fault.New(fault.Invalid, "s= is not a selector")
	}
	return nil
}

// asciiDomain is dnsx.ASCII for names without a final dot.
func asciiDomain(s string) (string, error) {
	if strings.HasSuffix(s, ".") {
		return "", fault.New(fault.Invalid, "the domain ends with a dot")
	}
	return dnsx.ASCII(s)
}

func (s *Signature) parseAlgorithm() (err error) {
	if s.Algorithm, err = s.Tags.need("a"); err != nil {
		return err
	}
	switch s.Algorithm {
	case RSA, Ed25519:
		return nil
	case "rsa-sha1":
		return fault.New(fault.Unsupported, "rsa-sha1 proves nothing any more") // RFC 8301, 3.1
	}
	return fault.New(fault.Unsupported, "the algorithm is not known")
}

func (s *Signature) parseTimes() (err error) {
	if s.Signed, err = s.time("t"); err != nil {
		return err
	}
	if s.Expires, err = s.time("x"); err != nil {
		return err
	}
	if !s.Signed.IsZero() && !s.Expires.IsZero() && !s.Expires.After(s.Signed) {
		return fault.New(fault.Invalid, "x= is not after t=")
	}
	return nil
}

// time reads 1*12DIGIT.
func (s *Signature) time(tag string) (time.Time, error) {
	v, ok := s.Tags.Get(tag)
	if !ok {
		return time.Time{}, nil
	}
	n, ok := digits(v, 12)
	if !ok {
		return time.Time{}, fault.Newf(fault.Invalid, "%s= is not a time", tag)
	}
	return time.Unix(n, 0).UTC(), nil
}

// digits reads a number of at most limit digits; one that is too large for the type is the
// largest.
func digits(s string, limit int) (int64, bool) {
	if s == "" || len(s) > limit || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 1<<63 - 1, true
	}
	return n, true
}

// ParseContent reads the tags of a signature that covers header and body: bh, c, h, l, q.
// Where there is no c=, both canonicalisations are the one given: RFC 6376 has simple; for ARC,
// which has none of its own, programs and its test suite take relaxed.
func (s *Signature) ParseContent(unnamed Canon) (err error) {
	if s.body, err = s.Tags.bytes("bh"); err != nil {
		return err
	}
	if len(s.body) != sha256.Size {
		return fault.New(fault.Invalid, "bh= has the wrong length")
	}
	if s.form, err = formOf(s.Tags, unnamed); err != nil {
		return err
	}
	s.canon, _, _ = canons(s.Tags, unnamed)
	if err := s.parseQuery(); err != nil {
		return err
	}
	h, ok := s.Tags.Get("h")
	if !ok {
		return fault.New(fault.Invalid, "the tag h= is missing")
	}
	if s.names, err = list(h, maxSigned); err != nil {
		return fault.Newf(fault.Invalid, "h= has more than %d names", maxSigned)
	}
	return nil
}

// namesAreNames checks what h= lists. ARC is used to be less strict about it.
func (s *Signature) namesAreNames() error {
	for _, name := range s.names {
		if f, ok := newField([]byte(name + ":")); !ok || len(f.Name) != len(name) {
			return fault.New(fault.Invalid, "h= lists what is no name of a field")
		}
	}
	return nil
}

func (s *Signature) parseQuery() error {
	q, ok := s.Tags.Get("q")
	if !ok {
		return nil
	}
	methods, err := list(q, 20)
	if err != nil || !slices.Contains(methods, "dns/txt") {
		return fault.New(fault.Invalid, "q= does not name dns/txt")
	}
	return nil
}

// Covers tells whether h= lists a field.
func (s *Signature) Covers(name string) bool {
	return slices.ContainsFunc(s.names, func(n string) bool { return strings.EqualFold(n, name) })
}

// Weak tells whether l= leaves the end of the body open.
func (s *Signature) Weak() bool { return s.body != nil && s.form.limit != noLimit }

// checkBody compares the body with what was signed.
func (s *Signature) checkBody(ctx context.Context, m *Message) error {
	sum, size, err := m.sum(ctx, s.form)
	switch {
	case err != nil:
		return fault.Wrap(fault.Unavailable, "the body could not be read", err)
	case s.form.limit > size:
		return fault.New(fault.Denied, "the body is shorter than l= says")
	case string(sum) != string(s.body):
		return fault.New(fault.Denied, "the body is not what was signed")
	}
	return nil
}

// Verified checks a field that covers header and body against the message. The second result is
// the key's, also without a pass. Errors say why it is no pass: faults of kind Invalid (key record,
// key), NotFound (no key), Denied (the message is not what was signed), others are temporary.
func (s *Signature) Verified(ctx context.Context, m *Message, keys *Keys) (PublicKey, error) {
	if err := s.checkBody(ctx, m); err != nil {
		return PublicKey{}, err
	}
	return keys.Check(ctx, s, m.AppendFields(nil, s.canon, s.names, s.field), s.canon)
}

// AppendUnsigned appends the field itself as it is signed: canonical, the value of b= and the
// line ending left out (RFC 6376, 3.7).
func (s *Signature) AppendUnsigned(b []byte, c Canon) []byte {
	i := slices.IndexFunc(s.Tags, func(t Tag) bool { return t.Name == "b" })
	start := s.field.Colon + 1
	raw := slices.Concat(s.field.Raw[:start+s.Tags[i].Start], s.field.Raw[start+s.Tags[i].End:])
	if s.Tags[i].End == len(s.field.Value()) { // the last tag: its line ending went with it
		raw = append(raw, "\r\n"...)
	}
	b = c.AppendField(b, Field{Name: s.field.Name, Raw: raw, Colon: s.field.Colon})
	return b[:len(b)-2]
}

// formOf reads c= and l=.
func formOf(tags Tags, unnamed Canon) (bodyForm, error) {
	_, body, err := canons(tags, unnamed)
	if err != nil {
		return bodyForm{}, err
	}
	l, ok := tags.Get("l")
	if !ok {
		return bodyForm{body, noLimit}, nil
	}
	n, ok := digits(l, 76)
	if !ok {
		return bodyForm{}, fault.New(fault.Invalid, "l= is not a number")
	}
	return bodyForm{body, n}, nil
}

// canons reads c=; where only one is named the other is simple.
func canons(tags Tags, unnamed Canon) (header, body Canon, err error) {
	c, ok := tags.Get("c")
	if !ok {
		return unnamed, unnamed, nil
	}
	h, b, both := strings.Cut(c, "/")
	header, known := parseCanon(h)
	body = Simple
	if both && known {
		body, known = parseCanon(b)
	}
	if !known {
		return 0, 0, fault.New(fault.Invalid, "c= names an unknown canonicalisation")
	}
	return header, body, nil
}
