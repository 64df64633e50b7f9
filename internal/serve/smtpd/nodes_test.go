package smtpd

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/doubt"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/receive"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/store"
)

// doubtful is an engine of several nodes that loses the outcome of so many commits of
// accounts; those are carried out, or not.
type doubtful struct {
	*enginetest.Node
	mu      sync.Mutex
	doubts  int
	carried bool
	patient time.Duration // what the last Update was told
}

func (d *doubtful) Update(ctx context.Context, shard engine.Shard, fn func(engine.Writer) error) error {
	doubt, carried := d.next(engine.Patience(ctx, time.Hour), shard)
	if !doubt {
		return d.Node.Update(ctx, shard, fn)
	}
	if carried {
		if err := d.Node.Update(ctx, shard, fn); err != nil {
			return err
		}
	}
	return fault.New(fault.Unknown, "nobody knows whether it was committed")
}

// next tells what becomes of a commit.
func (d *doubtful) next(patient time.Duration, shard engine.Shard) (doubt, carried bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.patient = patient
	if doubt = d.doubts > 0 && shard >= 1<<32; doubt {
		d.doubts--
	}
	return doubt, d.carried
}

// lose has so many outcomes be lost.
func (d *doubtful) lose(doubts int, carried bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doubts, d.carried = doubts, carried
}

func (d *doubtful) waited() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.patient
}

func newDoubtful(t *testing.T) (w *world, eng *doubtful) {
	w = newWorldOn(t, func(e engine.Engine) engine.Engine {
		eng = &doubtful{Node: enginetest.Nodes(e, 1)[0]}
		return eng
	})
	w.options.Patience = 7 * time.Second
	return w, eng
}

// A delivery whose outcome nobody can find out is answered with 451. When the client sends
// the same message again, it is there once, whatever became of the first; and a message that
// is sent twice without a doubt is there twice.
func TestDeliveryInDoubt(t *testing.T) {
	for _, c := range []struct {
		kind    Kind
		carried bool
		again   string // what is sent the second time
		want    int    // messages at last
	}{
		{LMTP, true, "one", 1}, {LMTP, false, "one", 1}, {Relay, true, "one", 1}, {Relay, false, "one", 1},
		{LMTP, true, "another", 2}, // the control: nothing is known of another
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			w, eng := newDoubtful(t)
			tk := w.talk(c.kind, netsrv.NoTLS)
			hello := "HELO c.test"
			if c.kind == LMTP {
				hello = "LHLO c.test"
			}
			tk.expect(hello, 250)
			send := func(text string, code int) {
				t.Helper()
				tk.expect("MAIL FROM:<x@far.test>", 250)
				tk.expect("RCPT TO:<alice@here.test>", 250)
				tk.expect("DATA", 354)
				tk.expect("Subject: "+text+"\r\n\r\n"+text+"\r\n.", code)
			}
			send("one", 250)
			eng.lose(2, c.carried) // it is tried again at once
			send("one", 451)
			if eng.waited() != 7*time.Second {
				t.Errorf("a delivery waits for %v", eng.waited())
			}
			send(c.again, 250)
			if got := w.inbox("alice"); len(got) != 1+c.want {
				t.Errorf("%d messages beside the first: %q", len(got)-1, got)
			}
			send(c.again, 250) // there is no doubt any more
			if got := w.inbox("alice"); len(got) != 2+c.want {
				t.Errorf("a message that is sent once more is there %d times", len(got)-c.want)
			}
		})
	}
}

// A client that is told to come again may come to another node: the message is there once, and one
// more time when it is sent once more. The control is a node that does not tell.
func TestDeliveryInDoubtElsewhere(t *testing.T) {
	for _, c := range []struct{ carried, told bool }{{true, true}, {false, true}, {true, false}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			var a, b *doubtful
			w := newWorldOn(t, func(e engine.Engine) engine.Engine {
				all := enginetest.Nodes(e, 2)
				a, b = &doubtful{Node: all[0]}, &doubtful{Node: all[1]}
				return a
			})
			here, there := w.doubtsOn(a), w.doubtsOn(b)
			onA, onB := w.receiverOn(a, here), w.receiverOn(b, there)
			send := func(on *receive.Receiver, code int) {
				t.Helper()
				w.options.Receiver = on
				tk := w.talk(Relay, netsrv.NoTLS)
				tk.begin("alice@here.test")
				tk.expect("DATA", 354)
				tk.expect("Subject: one\r\n\r\none\r\n.", code)
				tk.expect("QUIT", 221)
			}
			a.lose(2, c.carried)
			send(onA, 451)
			if c.told {
				w.must(here.Tell(t.Context()))
				w.must(there.Hear(t.Context()))
			}
			want := 1
			if c.carried && !c.told {
				want = 2
			}
			for more := range 2 {
				send(onB, 250)
				if got := w.inbox("alice"); len(got) != want+more {
					t.Errorf("%d messages, not %d", len(got), want+more)
				}
			}
		})
	}
}

func (w *world) doubtsOn(eng engine.Engine) *doubt.List {
	return doubt.New(doubt.Options{Engine: eng, Now: w.options.Now})
}

// receiverOn is the road in of a node.
func (w *world) receiverOn(eng engine.Engine, doubts *doubt.List) *receive.Receiver {
	st, err := store.Open(eng, store.Options{Now: w.options.Now, MaxMessage: 100_000})
	w.must(err)
	dir, err := directory.Open(w.ctx, eng, st, directory.Options{
		Now: time.Now, Rand: rand.Reader, DetailSeparator: "+", Argon: directory.Argon{MemoryKiB: 8, Passes: 1, Lanes: 1}, ScramIterations: 4096,
	})
	w.must(err)
	w.t.Cleanup(dir.Close)
	return receive.New(receive.Options{Store: st, Directory: dir, Queue: w.queue, Now: w.options.Now, Doubts: doubts})
}

// Two recipients in doubt: each is remembered by itself, and who has it is not served twice.
func TestDoubtOfEachRecipient(t *testing.T) {
	w, eng := newDoubtful(t)
	tk := w.talk(LMTP, netsrv.NoTLS)
	tk.expect("LHLO c.test", 250)
	begin := func(to ...string) {
		t.Helper()
		tk.expect("MAIL FROM:<x@far.test>", 250)
		for _, rcpt := range to {
			tk.expect("RCPT TO:<"+rcpt+"@here.test>", 250)
		}
		tk.expect("DATA", 354)
	}
	eng.lose(2, true)
	begin("alice")
	tk.expect("Subject: one\r\n\r\none\r\n.", 451)
	begin("bob", "alice")
	tk.expect("Subject: one\r\n\r\none\r\n.", 250)
	tk.expect("", 250)
	if a, b := len(w.inbox("alice")), len(w.inbox("bob")); a != 1 || b != 1 {
		t.Errorf("alice has %d, bob has %d", a, b)
	}
}

// A store that cannot be reached is no full disk.
func TestStoreOutOfReach(t *testing.T) {
	w, eng := newDoubtful(t)
	tk := w.talk(Relay, netsrv.NoTLS)
	tk.begin("alice@here.test")
	tk.expect("DATA", 354)
	eng.Down(true)
	if r := tk.expect("Subject: one\r\n\r\none\r\n.", 451); r.Enhanced != "4.3.2" {
		t.Errorf("%v", r)
	}
	eng.Down(false)
	tk.expect("MAIL FROM:<x@far.test>", 250)
	tk.expect("RCPT TO:<alice@here.test>", 250)
	tk.expect("DATA", 354)
	tk.expect("Subject: one\r\n\r\none\r\n.", 250)
	if got := w.inbox("alice"); len(got) != 1 || !strings.Contains(got[0], "one") {
		t.Errorf("%q", got)
	}
}
