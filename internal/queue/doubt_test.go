package queue

import (
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Once nobody knows whether a message is queued nobody does, whatever comes after that: the
// sender must send it again as the same one.
func TestDoubtStays(t *testing.T) {
	for _, c := range []struct {
		then error
		want fault.Kind
	}{{errAway, fault.Unknown}, {errDoubt, fault.Unknown}, {fault.New(fault.Closed, "closed"), fault.Unknown}, {nil, fault.Internal}} {
		b := newBench(t, nil)
		plain := b.q.eng
		b.q.eng = &faulty{Engine: plain, ends: func(n int) (before, after error) {
			if n == 1 {
				return nil, errDoubt // it came to be
			}
			return c.then, nil
		}}
		_, err := b.q.Enqueue(t.Context(), Entry{Envelope: envelope("a@martlet.test", "b@example.org"), Parcel: b.parcel(sample)})
		if fault.Of(err) != c.want || (err == nil) != (c.then == nil) {
			t.Errorf("then %v: %v", c.then, err)
		}
		b.q.eng = plain
		if n, err := b.q.Count(t.Context()); err != nil || n.Messages != 1 {
			t.Errorf("then %v: %+v, %v", c.then, n, err)
		}
	}
}
