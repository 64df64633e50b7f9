package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
)

// A node believes what it reads after the engine has lost changes, though it be older than what
// it knew; of two readings at a time it believes the later.
func TestLostChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := newWorld(t, 1).open(0, "a") // and it does not run: nobody but the test looks
		if err == nil {
			err = a.Join(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		old, err := a.read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		tenure := a.await(t.Context(), Lease{Name: "x"})
		a.saw(old)
		if tenure.Lost() {
			t.Error("what was read earlier is believed")
		}
		time.Sleep(time.Second)
		err = a.eng.Update(t.Context(), Shard, func(w engine.Writer) error {
			if err := w.Delete(leaseKey("x")); err != nil {
				return err
			}
			return w.Put([]byte{famView}, old.encode())
		})
		if err != nil {
			t.Fatal(err)
		}
		a.look(t.Context())
		if !tenure.Lost() {
			t.Error("a lease that the engine has lost is held on to")
		}
	})
}
