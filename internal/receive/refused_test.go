package receive

import (
	"context"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/record"
	"github.com/martlet-mail/martlet/internal/store"
)

// Whatever state a server is in, nobody is refused for good because of that: another node, or
// this one later, can take the mail in.
func TestNoStateRefusesForGood(t *testing.T) {
	bob := func(w *world, change func(engine.Writer) error) {
		w.must(w.eng.Engine.Update(w.t.Context(), store.ShardOf(w.accounts["bob"].ID), change))
	}
	lasting := []error{fault.New(fault.Unsupported, "newer"), fault.New(fault.NotFound, "gone"), fault.New(fault.Invalid, "no")}
	check := func(t *testing.T, what string, code int) {
		t.Helper()
		if code/100 != 4 {
			t.Errorf("%s: %d", what, code)
		}
	}
	for what, breaks := range map[string]func(*world){
		"the others write records that this program does not know": func(w *world) {
			bob(w, func(wr engine.Writer) error {
				var keys [][]byte
				err := wr.Scan(nil, nil, false, func(k, _ []byte) bool { keys = append(keys, append([]byte(nil), k...)); return true })
				for _, k := range keys {
					if err == nil {
						err = wr.Put(k, record.Seal(200, []byte("of the next version")))
					}
				}
				return err
			})
		},
		"a database has lost the account": func(w *world) { bob(w, func(wr engine.Writer) error { return wr.DeleteRange(nil, nil) }) },
	} {
		w := newWorld(t)
		breaks(w)
		code, _, _ := w.Deliver(t.Context(), envelope("LMTP", "bob@here.test"), w.parcel(plainMessage))[0].Reply()
		check(t, what, code)
	}
	for _, err := range lasting {
		w := newWorld(t)
		w.queue.err = err
		for _, later := range []time.Duration{0, time.Hour} {
			env := envelope("ESMTPA", "x@far.test")
			env.ReleaseAt = time.Now().Add(later)
			code, _, _ := w.Deliver(t.Context(), env, w.parcel(plainMessage))[0].Reply()
			check(t, "the queue says "+err.Error(), code)
		}
		unread := func(context.Context) (*store.Parcel, error) { return nil, err }
		check(t, "what waits cannot be read: "+err.Error(), (&Local{w.Receiver}).Deliver(t.Context(), queue.Job{Envelope: envelope("", "bob@here.test"), Parcel: unread})[0].Code)
	}
	w := newWorld(t) // the control
	w.queue.err = fault.New(fault.TooLarge, "too large")
	if code, _, _ := w.Deliver(t.Context(), envelope("ESMTPA", "x@far.test"), w.parcel(plainMessage))[0].Reply(); code != 552 {
		t.Errorf("what is too large: %d", code)
	}
}
