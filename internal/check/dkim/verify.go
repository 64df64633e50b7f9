package dkim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// maxChecked is how many signatures of one message are checked (RFC 6376, 6.1).
const maxChecked = 10

// How far clocks of others may be off before it counts.
const (
	maxAhead = 24 * time.Hour   // t= lies in the future
	maxPast  = 15 * time.Minute // x= is over
)

// Verify checks the signatures of the message, as the function of this name does.
func (m *Message) Verify(ctx context.Context, keys *Keys, opt VerifyOptions) []Result {
	fields := m.Fields("dkim-signature")
	if len(fields) == 0 {
		return nil
	}
	if err := m.Odd(ctx); err != nil {
		return []Result{{Status: statusOf(err), Reason: fault.Say(err)}}
	}
	most := opt.Max
	if most <= 0 {
		most = maxChecked
	}
	left := len(fields) - most
	if left > 0 {
		fields = m.authorsFirst(fields)[:most]
	}
	checks := make([]*verification, len(fields))
	for i, f := range fields {
		checks[i] = newVerification(f, opt.Now)
	}
	m.verifyAll(ctx, keys, checks)
	var results []Result
	for _, v := range checks {
		results = append(results, v.result())
	}
	if left > 0 {
		results = append(results, Result{Status: Policy, Reason: fmt.Sprintf("%d more signatures were not checked", left)})
	}
	return results
}

// verifyAll finishes what can still pass. Where the body is not what was signed no key is looked
// up: so nobody can make us ask for names with signatures that are none.
func (m *Message) verifyAll(ctx context.Context, keys *Keys, checks []*verification) {
	var good []*Signature
	for _, v := range checks {
		if v.err == nil {
			m.wanted = append(m.wanted, v.sig.form)
		}
	}
	for _, v := range checks {
		if v.err == nil {
			if v.err = v.sig.checkBody(ctx, m); v.err == nil {
				good = append(good, v.sig)
			}
		}
	}
	keys.Fetch(ctx, good...)
	for _, v := range checks {
		if v.err == nil {
			v.verify(ctx, m, keys)
		}
	}
}

// authorsFirst puts the signatures of the domain in From, or of one above it, first: they are
// those that matter most, and nobody can crowd them out.
func (m *Message) authorsFirst(fields []Field) []Field {
	var domains []string
	for _, f := range m.Fields("from") {
		for _, a := range mime.ParseAddressList(string(f.Value())) {
			if d, err := asciiDomain(a.Host); err == nil && len(domains) < maxChecked {
				domains = append(domains, d)
			}
		}
	}
	authors := func(f Field) bool {
		tags, err := ParseTags(f.Value())
		d, _ := tags.Get("d")
		d, bad := asciiDomain(d)
		return err == nil && bad == nil && slices.ContainsFunc(domains, func(from string) bool { return isUnder(from, d) })
	}
	first := make([]Field, 0, len(fields))
	var rest []Field
	for _, f := range fields {
		if authors(f) {
			first = append(first, f)
		} else {
			rest = append(rest, f)
		}
	}
	return append(first, rest...)
}

// verification is the check of one signature.
type verification struct {
	sig      *Signature
	identity string
	strict   bool // the domain of the identity is not that of d= itself
	key      PublicKey
	err      error
}

// newVerification does all that needs neither body nor key (RFC 6376, 6.1.1).
func newVerification(f Field, now time.Time) *verification {
	v := &verification{}
	v.sig, v.err = ParseSignature(f)
	if v.err != nil {
		return v
	}
	v.err = firstError(v.version, v.content, v.author, func() error { return v.sig.Timely(now) })
	return v
}

func (v *verification) content() error {
	if err := v.sig.ParseContent(Simple); err != nil {
		return err
	}
	return v.sig.namesAreNames()
}

func (v *verification) version() error {
	version, err := v.sig.Tags.need("v")
	if err == nil && version != "1" {
		err = fault.New(fault.Invalid, "the version (v=) is not known")
	}
	return err
}

func (v *verification) author() error {
	if !v.sig.Covers("From") {
		return fault.New(fault.Invalid, "From is not signed (h=)")
	}
	v.identity = "@" + v.sig.Domain
	i, ok := v.sig.Tags.Get("i")
	if !ok {
		return nil
	}
	at := strings.LastIndexByte(i, '@')
	if at < 0 {
		return fault.New(fault.Invalid, "i= is not an identity")
	}
	domain, err := asciiDomain(i[at+1:])
	if err != nil || !isUnder(domain, v.sig.Domain) {
		return fault.New(fault.Invalid, "i= is not of the domain d=")
	}
	v.identity, v.strict = withoutSpace(i), domain != v.sig.Domain
	return nil
}

// Timely tells whether a signature is for this moment: signed before, and not past. The fault
// is Limited.
func (s *Signature) Timely(now time.Time) error {
	switch {
	case !s.Expires.IsZero() && now.After(s.Expires.Add(maxPast)):
		return fault.New(fault.Limited, "the signature has expired")
	case s.Signed.After(now.Add(maxAhead)):
		return fault.New(fault.Limited, "the signature is dated ahead")
	}
	return nil
}

func (v *verification) verify(ctx context.Context, m *Message, keys *Keys) {
	v.key, v.err = v.sig.Verified(ctx, m, keys)
	switch {
	case v.err != nil:
	case v.strict && v.key.Strict:
		v.err = fault.New(fault.Invalid, "i= is of a subdomain, which the key record forbids (t=s)")
	case v.sig.Weak():
		v.err = fault.New(fault.Limited, "l= leaves the end of the body open")
	}
}

func (v *verification) result() Result {
	s := v.sig
	r := Result{
		Domain: s.Domain, Selector: s.Selector, Algorithm: s.Algorithm, Identity: v.identity,
		Signed: s.Signed, Expires: s.Expires, Weak: s.Weak(),
		Testing: v.key.Testing, Secure: v.key.Secure, KeyBits: v.key.Bits,
	}
	b, _ := s.Tags.Get("b")
	r.Signature = withoutSpace(b)
	r.Signature = r.Signature[:min(len(r.Signature), 8)]
	if r.Status = Pass; v.err != nil {
		r.Status, r.Reason = statusOf(v.err), fault.Say(v.err)
	}
	return r
}

// statusOf says which result an error is. Only what does not hold is a failure; whatever may
// be otherwise tomorrow is temporary.
func statusOf(err error) Status {
	switch fault.Of(err) {
	case fault.Denied:
		return Fail
	case fault.Limited:
		return Policy
	case fault.Invalid, fault.Unsupported, fault.NotFound:
		return PermError
	}
	return TempError
}

// Temporary tells whether an error of a signature may be gone later.
func Temporary(err error) bool { return statusOf(err) == TempError }
