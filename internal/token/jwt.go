package token

import (
	"context"
	"errors"

	"github.com/go-jose/go-jose/v4"

	"github.com/martlet-mail/martlet/internal/fault"
)

// signatures are the algorithms that are taken: those with a public key. A token
// cannot choose "none", nor HMAC with a public key as its secret (RFC 8725, 3.1).
func signatures() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
		jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	}
}

// verify checks the signature of a JWT and returns what it says.
func (i *Issuer) verify(ctx context.Context, token string) (*claims, error) {
	signed, err := jose.ParseSignedCompact(token, signatures())
	if err != nil || len(signed.Signatures) != 1 {
		return nil, invalid("not a JWT that is signed as it should be: %v", err)
	}
	head := signed.Signatures[0].Header
	keys, err := i.keys.find(ctx, head.KeyID, head.Algorithm)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		text, err := signed.Verify(k)
		if err != nil {
			continue
		}
		c, err := readClaims(text)
		if err != nil {
			return nil, invalid("the token cannot be read: %v", err)
		}
		return c, nil
	}
	return nil, invalid("the signature is not the issuer's (key %.50q)", head.KeyID)
}

// errUnknownKey is what a key ring says of a key that the issuer does not have.
func errUnknownKey(id string) error {
	return invalid("the issuer has no key %.50q", id)
}

// unavailable is the answer while the issuer cannot be asked.
func unavailable(err error) error {
	if err == nil {
		err = errors.New("it was asked a moment ago and did not answer")
	}
	return fault.Wrap(fault.Unavailable, "access tokens cannot be checked now, try again later", err)
}
