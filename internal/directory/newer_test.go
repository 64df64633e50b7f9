package directory

import (
	"bytes"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// A record of a newer program is not damage: a repair takes nothing away, and says why.
func TestRepairOfNewerRecords(t *testing.T) {
	b := newBooks(t, map[mail.AccountID]mail.Address{1: ann}, map[mail.Address]mail.AccountID{ann: 1})
	newer := seal(recEnd, []byte("what is said here nobody knows"))
	b.put(accountKey(1), newer)
	err := Repair(bg, b.eng, nil, nil, time.Unix(2, 0), func(Mended) {})
	if !fault.Is(err, fault.Unsupported) {
		t.Errorf("the repair ends with %v", err)
	}
	if err := b.eng.View(bg, shard, func(r engine.Reader) error {
		v, _, err := r.Get(accountKey(1))
		if !bytes.Equal(v, newer) {
			t.Errorf("the record is %x", v)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
