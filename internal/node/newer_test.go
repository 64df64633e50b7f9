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

// A program that knows less than what is in force does not even look: newer records look
// damaged to it, and what is damaged may be repaired.
func TestOpenBesideNewerForms(t *testing.T) {
	w := newWorld(t, 2)
	a, err := w.open(0, "a", func(o *Options) { o.Format = 2 })
	if err == nil {
		err = a.Join(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.open(1, "b", func(o *Options) { o.Format = 1 }); !fault.Is(err, fault.Unsupported) {
		t.Errorf("a program of form 1: %v", err)
	}
	if _, err := w.open(1, "b", func(o *Options) { o.Format = 2 }); err != nil {
		t.Error(err)
	}
}
