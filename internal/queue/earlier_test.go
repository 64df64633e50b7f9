package queue

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// An earlier try that has queued the message is the next one, and nobody else's; one that has not never
// will. All keys go when they have served.
func TestEarlierTry(t *testing.T) {
	b := newBench(t, nil)
	send := func(key string, earlier ...string) ID {
		t.Helper()
		e := Entry{Envelope: envelope("a@martlet.test", "b@example.org"), Parcel: b.parcel(sample), Key: key, Earlier: earlier}
		id := b.enqueue(e)
		if again := b.enqueue(e); again != id {
			t.Errorf("%s is %v and %v", key, id, again)
		}
		return id
	}
	one := send("one")
	if two := send("two", "none", "one"); two != one {
		t.Errorf("the second try is %v, not %v", two, one)
	}
	three := send("three", "one") // a list that is too old
	if three == one {
		t.Error("what was told is told again")
	}
	if four := send("four", "two", "three"); four != one {
		t.Errorf("the fourth try is %v, not %v", four, one)
	}
	if five := send("five", "three"); five == three {
		t.Error("what stood beside the one that was told is told, too")
	}
	if none := send("none"); none != one { // it comes after "two" took its place
		t.Errorf("the late one is %v, not %v", none, one)
	}
	if seven := send("seven", "never"); send("never") != seven {
		t.Error("what a new one stands for comes to be")
	}
	if six := send("six", "six"); six == one || six == three {
		t.Errorf("what is earlier than itself is %v", six)
	}
	if n, err := b.q.Count(t.Context()); err != nil || n.Messages != 5 {
		t.Errorf("%+v, %v", n, err)
	}
	b.sound()
	b.pass(keyAge+time.Hour, time.Hour)
	b.sound()
	if n := b.keys("ka"); n != 0 {
		t.Errorf("%d keys and alarms are left", n)
	}
}

// Keys of earlier tries have the bound of all keys.
func TestEarlierTryIsShort(t *testing.T) {
	b := newBench(t, nil)
	_, err := b.q.Enqueue(t.Context(), Entry{Envelope: envelope("a@martlet.test", "b@example.org"), Parcel: b.parcel(sample), Key: "k", Earlier: []string{strings.Repeat("k", 201)}})
	if !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}

// A try on one node is known on another, which looks for it in the part where it lies; a new one that
// is put there is worked there.
func TestEarlierTryOfAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, 2, 5)
		c.start()
		a, b := c.list[0], c.list[1]
		entry := func(h *hand, ctx context.Context, key string, earlier ...string) ID {
			p, err := h.store.Receive(ctx, strings.NewReader(sample))
			if err != nil {
				t.Fatal(err)
			}
			ids, err := h.q.Enqueue(ctx, Entry{Envelope: envelope("x@martlet.test", "y@example.org"), Parcel: p, Key: key, Earlier: earlier})
			if err != nil {
				t.Fatal(err)
			}
			return ids[0]
		}
		in := InPart(t.Context(), a.node.Number())
		one := entry(a, t.Context(), "one")
		if here := entry(b, t.Context(), "here", "one"); here == one {
			t.Error("the nodes have one part") // the control
		}
		if two := entry(b, in, "two", "one"); two != one {
			t.Errorf("%v, not %v", two, one)
		}
		three := entry(b, in, "three", "one")
		time.Sleep(time.Minute)
		if n := c.copies(three); three == one || n != 1 {
			t.Errorf("%v was sent %d times", three, n)
		}
	})
}
