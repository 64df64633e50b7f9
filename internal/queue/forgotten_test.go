package queue

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// A node that is forgotten while it is frozen, and then brings to its end what it had begun,
// has taken mail that is sent: its number is not forgotten.
func TestForgottenNodeWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, 2, 1)
		for _, h := range c.list {
			h.script = func(Job) Result { return greylist } // so that the message is there until it was counted
		}
		c.start()
		a, b := c.list[0], c.list[1]
		p, err := b.store.Receive(context.Background(), strings.NewReader(sample))
		if err != nil {
			t.Fatal(err)
		}
		b.ice.freeze()
		var ids []ID
		var took error
		done := make(chan struct{})
		go func() {
			defer close(done)
			ids, took = b.q.Enqueue(context.Background(), Entry{Envelope: envelope("a@martlet.test", "b@example.org"), Parcel: p})
		}()
		time.Sleep(3 * crewLease)
		if err := a.node.Forget(t.Context(), "b", a.q.Empty); err != nil {
			t.Fatal(err)
		}
		b.ice.thaw()
		<-done
		if took != nil {
			t.Fatal(took) // it is told so: nothing is lost, and this test shows nothing
		}
		refs := 0
		if err := a.q.Blobs(t.Context(), func(mail.BlobRef) { refs++ }); err != nil || refs != 1 {
			t.Errorf("a sweep knows of %d bodies (%v)", refs, err)
		}
		a.script, b.script = nil, nil
		time.Sleep(time.Hour)
		if n := c.copies(ids[0]); n != 1 {
			t.Errorf("%d copies were sent", n)
		}
	})
}
