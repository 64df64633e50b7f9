package receive

import (
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// What is remembered of doubtful deliveries is bounded, in number and in time, and goes with
// the first certain outcome.
func TestDoubtsAreFew(t *testing.T) {
	var d doubts
	now := time.Unix(1_800_000_000, 0)
	unknown := fault.New(fault.Unknown, "nobody knows")
	what := func(i int) doubted { return doubted{sent: [32]byte{1, byte(i), byte(i >> 8), byte(i >> 16)}, to: "1"} }
	for i := range maxDoubts + 100 {
		d.note(what(i), "first", unknown, now)
	}
	if len(d.keys) != maxDoubts || d.old.Len() != maxDoubts {
		t.Errorf("%d and %d are remembered", len(d.keys), d.old.Len())
	}
	if k := d.key(what(0), "own", now); k != "own" {
		t.Errorf("the first is remembered for ever: %s", k)
	}
	last := what(maxDoubts + 99)
	if k := d.key(last, "own", now); k != "first" {
		t.Errorf("the last is not remembered: %s", k)
	}
	if k := d.key(last, "own", now.Add(doubtFor)); k != "own" {
		t.Errorf("it is remembered for longer than clients try: %s", k)
	}
	d.note(last, "first", fault.New(fault.Unavailable, "not now"), now)
	if k := d.key(last, "own", now); k != "first" {
		t.Errorf("it is forgotten without an outcome: %s", k)
	}
	d.note(last, "first", nil, now)
	if k := d.key(last, "own", now); k != "own" {
		t.Errorf("it is remembered after it was certain: %s", k)
	}
	d.note(doubted{}, "first", unknown, now)
	if k := d.key(doubted{}, "own", now); k != "own" {
		t.Error("what has no name is remembered")
	}
	for i := range maxDoubts + 100 {
		d.note(what(i), "", nil, now)
	}
	if d.some.Load() || len(d.keys)+d.old.Len() != 0 {
		t.Error("nothing is in doubt, and something is remembered")
	}
}

// What is in doubt again and again takes no more room than what is so once: it makes nothing be
// forgotten, least of all itself.
func TestDoubtAgain(t *testing.T) {
	var d doubts
	now := time.Unix(1_800_000_000, 0)
	unknown := fault.New(fault.Unknown, "nobody knows")
	once, often := doubted{[32]byte{1}, mail.Address{}, "1"}, doubted{[32]byte{1}, mail.Address{}, "2"}
	d.note(once, "first", unknown, now)
	for range 2 * maxDoubts {
		d.note(often, "first", unknown, now)
		d.note(often, "first", nil, now) // he has it, and the client is told to come again
	}
	d.note(often, "first", unknown, now)
	for _, what := range []doubted{once, often} {
		if k := d.key(what, "own", now); k != "first" {
			t.Errorf("%s is forgotten", what.to)
		}
	}
}

// A message in doubt for a host elsewhere gets the key of its first attempt.
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
	if len(w.queue.entries) != 2 || w.queue.entries[0].Key == w.queue.entries[1].Key {
		t.Fatalf("%d entries", len(w.queue.entries))
	}
	w.queue.keys = nil
	first := keyFor(keyOf(w.parcel("Received: first\r\nSubject: x\r\n\r\nx\r\n")), env.To)
	if w.queue.entries[0].Key != first {
		t.Errorf("the second attempt has another key than the first")
	}
}
