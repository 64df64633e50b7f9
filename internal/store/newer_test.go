package store

import (
	"bytes"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// A record of a newer program is not damage: whoever needs it says so, and a repair takes
// nothing away.
func TestRepairOfNewerRecords(t *testing.T) {
	for _, c := range []struct {
		registry bool
		key      []byte
	}{{false, []byte{famAccount}}, {false, engine.Key(famLog, 0, 99)}, {true, []byte{famSweeping}}} {
		w := newWorld(t)
		sh := w.a.shard
		if c.registry {
			sh = registryShard
		}
		newer := seal(recEnd, []byte("what is said here nobody knows"))
		if err := w.eng.Update(t.Context(), sh, func(w engine.Writer) error { return w.Put(c.key, newer) }); err != nil {
			t.Fatal(err)
		}
		if err := w.Repair(t.Context(), nil, func(m Mended) { t.Errorf("%x: %+v", c.key, m) }); !fault.Is(err, fault.Unsupported) {
			t.Errorf("%x: the repair ends with %v", c.key, err)
		}
		if err := w.eng.View(t.Context(), sh, func(r engine.Reader) error {
			v, _, err := r.Get(c.key)
			if !bytes.Equal(v, newer) {
				t.Errorf("%x: the record is %x", c.key, v)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	for kind, want := range map[byte]fault.Kind{recEnd: fault.Unsupported, recMailbox: fault.Corrupt, 0: fault.Corrupt} {
		if _, err := decodeAccount(seal(kind, nil)); !fault.Is(err, want) {
			t.Errorf("kind %d: %v", kind, err)
		}
		if _, err := decodeFacts(seal(kind, nil)); !fault.Is(err, want) {
			t.Errorf("kind %d: %v", kind, err)
		}
		if _, err := unseal(recPlaces, seal(kind, nil)); !fault.Is(err, want) {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
}
