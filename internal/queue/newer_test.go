package queue

import (
	"bytes"
	"context"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

// Records of a newer program are not damage: a repair takes nothing away, and says why.
func TestRepairOfNewerRecords(t *testing.T) {
	bg := context.Background()
	for _, family := range []byte{famMessage, famRecipient, famGroup, famFlow, famLane, famKey, famCount, famOwner} {
		b := newBench(t, nil)
		b.put("alice@martlet.test", "bob@example.org")
		var key []byte
		was := map[string]string{}
		all := func(r engine.Reader, fn func(k, v []byte)) error {
			return r.Scan(nil, nil, false, func(k, v []byte) bool { fn(bytes.Clone(k), bytes.Clone(v)); return true })
		}
		err := b.eng.Update(bg, shard, func(w engine.Writer) error {
			key = []byte{family, 'x'}
			err := all(w, func(k, v []byte) {
				was[string(k)] = string(v)
				if k[0] == family {
					key = k
				}
			})
			if err != nil {
				return err
			}
			v := record.Seal(90, []byte("what is said here nobody knows"))
			was[string(key)] = string(v)
			return w.Put(key, v)
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := Repair(bg, b.eng, b.store, b.clock.now(), func(Mended) error { return nil }); !fault.Is(err, fault.Unsupported) {
			t.Errorf("%c: the repair ends with %v", family, err)
		}
		n := 0
		if err := b.eng.View(bg, shard, func(r engine.Reader) error {
			return all(r, func(k, v []byte) {
				if n++; was[string(k)] != string(v) {
					t.Errorf("%c: record %x was %x and is %x", family, k, was[string(k)], v)
				}
			})
		}); err != nil || n != len(was) {
			t.Errorf("%c: %d records of %d, %v", family, n, len(was), err)
		}
	}
}
