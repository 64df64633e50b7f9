package link

import (
	"bytes"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

// A record of a newer program is not damage: a repair takes nothing away, and says why.
func TestRepairOfNewerRecords(t *testing.T) {
	for _, family := range []byte{famRule, famSecret, famState, famLast} {
		w := newWorld(t, nil)
		k := key(family, w.add(t, rule()).ID)
		if family == famLast {
			k = []byte{famLast}
		}
		newer := record.Seal(recLast+1, []byte("what is said here nobody knows"))
		if err := w.h.engine.Update(t.Context(), Shard, func(wr engine.Writer) error { return wr.Put(k, newer) }); err != nil {
			t.Fatal(err)
		}
		if err := Repair(t.Context(), w.h.engine, func(_ ID, what string) { t.Errorf("%c: %s", family, what) }); !fault.Is(err, fault.Unsupported) {
			t.Errorf("%c: the repair ends with %v", family, err)
		}
		if err := w.h.engine.View(t.Context(), Shard, func(r engine.Reader) error {
			v, _, err := r.Get(k)
			if !bytes.Equal(v, newer) {
				t.Errorf("%c: the record is %x", family, v)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}
