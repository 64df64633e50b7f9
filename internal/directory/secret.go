package directory

import (
	"crypto/hkdf"
	"crypto/sha256"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Secret returns 32 bytes that nobody but this directory can know, the same for the same
// purpose at every start and on every node. It is made of the directory's own secret
// (RFC 5869), which it does not give away.
func (d *Directory) Secret(purpose string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, d.secret, nil, "martlet "+purpose, 32)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	return key, nil
}
