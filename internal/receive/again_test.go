package receive

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
)

// client sends one message again and again, as hosts do that were told to come again: each time
// it has another Received field.
type client struct {
	*world
	env   mail.Envelope
	tries int
}

// newClient has a world in which bob's commits can be made to fail.
func newClient(t *testing.T, protocol string, to ...string) *client {
	w := newWorld(t)
	w.eng.bad = store.ShardOf(w.accounts["bob"].ID)
	env := envelope(protocol, to...)
	env.Sent = [32]byte{7}
	return &client{w, env, 0}
}

func (c *client) send() (results []Result) {
	c.tries++
	return c.Deliver(c.t.Context(), c.env, c.parcel(fmt.Sprintf("Received: %d\r\nSubject: x\r\n\r\nx\r\n", c.tries)))
}

// served sends and wants all to be served.
func (c *client) served() {
	c.t.Helper()
	for _, r := range c.send() {
		c.must(r.Err)
	}
}

// fails sends and wants the kind of failure for a recipient.
func (c *client) fails(n int, kind fault.Kind) {
	c.t.Helper()
	if r := c.send()[n]; !fault.Is(r.Err, kind) {
		c.t.Errorf("try %d: %v", c.tries, r.Err)
	}
}

// has compares how many copies there are with what is wanted.
func (c *client) has(alice, bob int) {
	c.t.Helper()
	if a, b := len(c.inbox("alice")), len(c.inbox("bob")); a != alice || b != bob {
		c.t.Errorf("%s to %v: alice has %d copies, not %d; bob %d, not %d", c.env.Protocol, c.env.To, a, alice, b, bob)
	}
}

// work has the queue deliver what it has for people here.
func (c *client) work() {
	c.t.Helper()
	for i, e := range c.queue.entries {
		if e.Road != queue.Local {
			continue
		}
		for _, r := range (&Local{c.Receiver}).Deliver(c.t.Context(), c.queue.job(i)) {
			if r.Code != 250 {
				c.t.Errorf("from the queue: %+v", r)
			}
		}
	}
}

var (
	errAway  = fault.New(fault.Unavailable, "away")
	errDoubt = fault.New(fault.Unknown, "nobody knows")
)

// onlyOnwards is a queue that takes nothing for people here: it went away after the rest.
type onlyOnwards struct {
	*fakeQueue
	err error // nil: it does
}

func (q *onlyOnwards) Enqueue(ctx context.Context, entries ...queue.Entry) ([]queue.ID, error) {
	if entries[0].Road == queue.Local && q.err != nil {
		return nil, q.err
	}
	return q.fakeQueue.Enqueue(ctx, entries...)
}

// A recipient who has the message is not given it again because the client comes again for
// another one, of the transaction or of an alias.
func TestServedOnceWhileOthersFail(t *testing.T) {
	for _, c := range []struct {
		protocol string
		to       []string
		far      int // copies for other hosts
	}{
		{"ESMTP", []string{"alice@here.test", "bob@here.test"}, 0},
		{"ESMTP", []string{"all@too.test"}, 1},
		{"LMTP", []string{"both@too.test"}, 0},
	} {
		w := newClient(t, c.protocol, c.to...)
		w.eng.before = errAway
		q := &onlyOnwards{w.queue, errAway}
		w.opt.Queue = q
		for range 3 {
			w.fails(len(c.to)-1, fault.Unavailable)
		}
		w.eng.before = nil
		w.served()
		w.has(1, 1)
		if far := len(w.queue.entries); far != c.far {
			t.Errorf("%v: %d copies for other hosts, not %d", c.to, far, c.far)
		}
		w.served() // all had it, so this is another message
		w.has(2, 2)
	}
}

// LMTP has an answer for each: who was told that he has it has whatever comes after that.
func TestServedAloneIsNoDoubt(t *testing.T) {
	w := newClient(t, "LMTP", "alice@here.test", "bob@here.test")
	w.eng.before = errAway
	for range 2 {
		w.fails(1, fault.Unavailable)
	}
	w.has(2, 0)
}

// Who may have a message of an earlier attempt does not wait in the queue, which would give it to
// him under another key.
func TestDoubtDoesNotWait(t *testing.T) {
	for _, protocol := range []string{"ESMTP", "LMTP"} {
		w := newClient(t, protocol, "bob@here.test")
		w.eng.after = errDoubt // it came to be
		w.fails(0, fault.Unknown)
		w.eng.before = errAway
		w.env.To = envelope("", "alice@here.test", "both@too.test", "bob@here.test").To
		w.fails(2, fault.Unavailable)
		if got := w.queue.queued(); got != "" {
			t.Errorf("%s: %s waits", protocol, got)
		}
		w.eng.before, w.eng.after = nil, nil
		w.env.To = w.env.To[1:]
		w.served()
		w.work()
		w.has(1, 1)
	}
}

// Whoever has the message by an earlier attempt is not given it again for a report of success.
func TestServedOnceWithReport(t *testing.T) {
	w := newClient(t, "ESMTP", "alice@here.test", "bob@here.test")
	w.env.To[0].Notify = mail.NotifySuccess
	w.eng.before = errAway
	for range 2 {
		w.opt.Queue = &fakeQueue{err: errAway}
		w.fails(1, fault.Unavailable)
	}
	w.opt.Queue, w.eng.before = w.queue, nil
	w.served()
	w.work()
	w.has(1, 1)
	w.served() // all had it, so this is another message
	w.work()
	w.has(2, 2)
	if got := w.queue.queued(); got != "local alice@here.test" {
		t.Errorf("reports: %s", got)
	}
}

// Whom a filter has added, so that the client hears nothing of him, has one copy, too, when it comes
// again for those of whom it heard that they have none.
func TestAddedOnce(t *testing.T) {
	for _, protocol := range []string{"ESMTP", "LMTP"} {
		w := newClient(t, protocol, "bob@here.test", "alice@here.test")
		w.eng.before = errAway
		w.opt.Queue = &fakeQueue{err: errAway}
		for try := range 3 {
			if try == 2 {
				w.eng.before = nil
			}
			w.take(t.Context(), w.env, w.parcel(fmt.Sprintf("Received: %d\r\n\r\n", try)), findings{unheard: []bool{false, true}})
		}
		w.has(1, 1)
	}
}

// What waits in the queue, or may wait there, and comes again nevertheless is the same message.
func TestQueueInDoubt(t *testing.T) {
	w := newClient(t, "ESMTP", "alice@here.test", "bob@here.test")
	w.eng.before = errAway
	w.opt.Queue = afterAll{w.queue}
	w.fails(1, fault.Unavailable)
	w.opt.Queue, w.eng.before = w.queue, nil
	w.work()
	w.has(1, 1)
	w.served()
	w.has(1, 1)
}

// afterAll is a queue whose commits come to be, which nobody knows.
type afterAll struct{ *fakeQueue }

func (q afterAll) Enqueue(ctx context.Context, entries ...queue.Entry) ([]queue.ID, error) {
	_, _ = q.fakeQueue.Enqueue(ctx, entries...)
	return nil, errDoubt
}

// meanwhile is a queue before whose first commit something else happens.
type meanwhile struct {
	*fakeQueue
	do func()
}

func (q *meanwhile) Enqueue(ctx context.Context, entries ...queue.Entry) ([]queue.ID, error) {
	if do := q.do; do != nil {
		q.do = nil
		do()
	}
	return q.fakeQueue.Enqueue(ctx, entries...)
}

// What waits in the queue, for which the client was told that it is taken in, is nobody's earlier try:
// the same that is sent on purpose while it is on its way there is another message.
func TestWaitingIsNoDoubt(t *testing.T) {
	for name, set := range map[string]func(e *doubtful, err error){
		"it came to be": func(e *doubtful, err error) { e.after = err },
		"it did not":    func(e *doubtful, err error) { e.before = err },
	} {
		t.Run(name, func(t *testing.T) {
			w := newClient(t, "ESMTP", "alice@here.test", "bob@here.test")
			set(w.eng, errDoubt)
			w.opt.Queue = &meanwhile{w.queue, func() {
				set(w.eng, nil)
				w.served()
			}}
			w.served()
			w.work()
			w.has(2, 2)
		})
	}
}

// A message that is to be released later waits once, though it may have come in before.
func TestHoldInDoubt(t *testing.T) {
	w := newClient(t, "ESMTPA", "bob@here.test")
	w.env.ReleaseAt = time.Now().Add(time.Hour)
	w.opt.Queue = afterAll{w.queue}
	w.fails(0, fault.Unknown)
	w.opt.Queue = w.queue
	w.served()
	if got := w.queue.queued(); got != "local bob@here.test" {
		t.Errorf("queued: %s", got)
	}
	w.served()
	if got := w.queue.queued(); got != "local bob@here.test, local bob@here.test" {
		t.Errorf("what was taken in for sure and is sent again: %s", got)
	}
}
