package directory

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Failures counted while the clock was ahead are forgiven as fast as others once it is
// right, and what was granted then does not last for years.
func TestClockSetBack(t *testing.T) {
	const ahead = 10 * 365 * 24 * time.Hour
	f := setUp(t)
	f.add(t, "alice@example.org", "secret")
	f.pass(ahead)
	f.mustDo(t, f.try("alice@example.org", "secret", home)) // a friend, and remembered
	for i := range f.slow.perAddress {
		wantKind(t, "within", f.try(fmt.Sprint("ghost", i, "@example.org"), "wrong", away), fault.Unauthenticated)
	}
	for i := range f.slow.perLogin {
		wantKind(t, "from everywhere", f.try("alice@example.org", "wrong", netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})), fault.Unauthenticated)
	}
	f.pass(-ahead)
	wantKind(t, "too many", f.try("alice@example.org", "secret", away), fault.Limited)
	if f.known.knows("alice@example.org", 1, "secret", 1) {
		t.Error("a password is remembered for years")
	}
	f.pass(2 * f.slow.forgive)
	f.mustDo(t, f.try("alice@example.org", "secret", home))
	f.pass(time.Duration(f.slow.perAddress) * f.slow.forgive)
	f.mustDo(t, f.try("alice@example.org", "secret", away))
}
