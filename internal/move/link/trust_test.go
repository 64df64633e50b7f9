package link

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Of an authority that is not known it is said what to do.
func TestUnknownAuthoritySaysWhatToDo(t *testing.T) {
	said := plain(fault.Wrap(fault.Denied, "the certificate is from an authority that is not known here", x509.UnknownAuthorityError{}), Secret{}).Error()
	if !strings.Contains(said, "[links] ca") || !strings.Contains(said, "--insecure") {
		t.Error(said)
	}
	if said := plain(fault.New(fault.Denied, "no"), Secret{}).Error(); strings.Contains(said, "insecure") {
		t.Error(said)
	}
}
