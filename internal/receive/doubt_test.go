package receive

import (
	"slices"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
)

// A message in doubt for a host elsewhere names the key of its first attempt, once.
func TestDoubtOfOnward(t *testing.T) {
	w := newWorld(t)
	env := envelope("ESMTPA", "carol@far.test")
	env.Sent = [32]byte{7}
	deliver := func(text string) error {
		return w.Deliver(t.Context(), env, w.parcel("Received: "+text+"\r\nSubject: x\r\n\r\nx\r\n"))[0].Err
	}
	w.queue.err = fault.New(fault.Unknown, "nobody knows")
	if err := deliver("first"); !fault.Is(err, fault.Unknown) {
		t.Fatal(err)
	}
	w.queue.err = nil
	for _, text := range []string{"second", "third"} {
		if err := deliver(text); err != nil {
			t.Fatal(err)
		}
	}
	first := keyFor(keyOf(w.parcel("Received: first\r\nSubject: x\r\n\r\nx\r\n")), env.To)
	if e := w.queue.entries; len(e) != 2 || !slices.Equal(e[0].Earlier, []string{first}) || e[1].Earlier != nil || e[0].Key == first || e[0].Key == e[1].Key {
		t.Errorf("%+v", e)
	}
}
