// Package dkim signs messages and verifies their signatures.
//
// There is one canonicaliser for both, which other packages that sign headers (arc) use
// too. A body is read once, whatever the number of signatures. What a signature is worth
// is not decided here: an l= tag makes a result weak, never a pass.
//
// The package looks up keys through the resolver that it is given, and does nothing else
// outside of memory.
//
// RFC 6376 (DKIM), RFC 8301 (no rsa-sha1, no RSA key of less than 1024 bits), RFC 8463
// (ed25519-sha256), RFC 8616 (internationalised domains), RFC 8601, 2.7.1 (results).
package dkim

import (
	"context"
	"crypto"
	"io"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
)

// Algorithms, as a= names them.
const (
	RSA     = "rsa-sha256"
	Ed25519 = "ed25519-sha256"
)

// Status is the outcome of one signature (RFC 8601, 2.7.1).
type Status string

const (
	Pass      Status = "pass"      // it verifies, and covers the whole body
	Fail      Status = "fail"      // header or body are not what was signed
	Policy    Status = "policy"    // not looked at further, or not good enough: l=, expired, too many
	Neutral   Status = "neutral"   // could not be processed
	TempError Status = "temperror" // no key could be had now
	PermError Status = "permerror" // the signature or its key record is wrong, or there is no key
)

// Result is what became of one signature.
type Result struct {
	Status    Status
	Domain    string // d=, in A-labels and lower case; "" if it cannot be read
	Selector  string // s=
	Algorithm string // a=
	Identity  string // i=, "@" and the domain if there is none
	Signature string // the first characters of b=, which tell signatures apart (RFC 6008)

	Weak    bool // l= leaves the end of the body open; the status is Policy at best
	Testing bool // the key record has t=y: not to be treated differently from unsigned (RFC 6376, 3.6.1)
	Secure  bool // DNSSEC authenticated the key record
	KeyBits int  // size of the public key, 0 if there is none

	Signed  time.Time // t=, zero if there is none
	Expires time.Time // x=, zero if there is none

	Reason string // why it is no pass, or "": a sentence without a full stop
}

// Resolver finds key records. A dnsx.Resolver is one.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, dnsx.Info, error)
}

// Key signs for a domain.
type Key struct {
	Domain   string // d=, in A-labels
	Selector string // s=
	Signer   crypto.Signer
}

// SignOptions of Sign.
type SignOptions struct {
	Now    time.Time     // t=
	Expire time.Duration // after which the signature is worth nothing any more (x=); 0: no x=
	// Header and Body are the canonicalisations; zero is relaxed.
	Header, Body Canon
	// Identity is i=, or "" for none. Its domain must be the key's or below it.
	Identity string
	// Random is for signers that need it. Neither RSA (PKCS #1, 1.5) nor Ed25519 do.
	Random io.Reader
}

// VerifyOptions of Verify.
type VerifyOptions struct {
	Now time.Time // when the message came in
	Max int       // signatures that are checked; 0: 10
}

// Verify checks the signatures of a message. header is its header with the empty line, open
// opens what follows that. No result means that there is no signature.
//
// Signatures of the author's domain come first; those beyond VerifyOptions.Max are not
// checked and are one result together, of status Policy. If header and body are not told
// apart in the same way by everybody, nothing is verified: one result says so.
func Verify(ctx context.Context, r Resolver, header []byte, open func(context.Context) (io.ReadCloser, error), opt VerifyOptions) []Result {
	return NewMessage(header, open).Verify(ctx, NewKeys(r), opt)
}
