package node

import (
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

// A record of a newer program is not damage, and one that no program has written is.
func TestRecordsOfNewerPrograms(t *testing.T) {
	for kind, want := range map[byte]fault.Kind{version + 1: fault.Unsupported, 0: fault.Corrupt} {
		var e record.Enc
		e.U(1)
		b := record.Seal(kind, e)
		_, member := decodeMember("a", b)
		_, lease := decodeLease(b)
		_, _, file := decodeFile(b)
		for _, err := range []error{member, lease, file, new(snapshot).decode(b)} {
			if !fault.Is(err, want) {
				t.Errorf("version %d: %v", kind, err)
			}
		}
	}
}
