package receive

import (
	"container/list"
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// A commit whose outcome nobody can find out in time is answered with 451, and the client
// sends the message again. It may have come to be. So the key under which it was tried is
// remembered, and the next message of the same bytes, from the same sender to the same place,
// is taken in under it: whoever has it then has it once. So it is with what was done for some
// recipients of a message while the client is told that it failed, for others: it sends the
// message again, for all. Nothing of this is done for a message that was taken in, or refused, for
// all, however often it comes.

// doubted is what a message was to do when its outcome could not be found out.
type doubted struct {
	sent [32]byte // names its bytes
	from mail.Address
	to   string
}

const (
	maxDoubts = 10_000
	doubtFor  = 5 * 24 * time.Hour // as long as clients try (RFC 5321, 4.5.4.1)
)

// doubts is a short memory of such messages. It costs nothing while there are none.
type doubts struct {
	some atomic.Bool

	mu   sync.Mutex
	keys map[doubted]*list.Element
	old  list.List // of doubt: what was not tried again for the longest time is forgotten first
}

type doubt struct {
	what doubted
	key  string
	at   time.Time
}

// key returns under which key something is to be done: under that of an earlier attempt of
// which nobody knows what became, or under its own.
func (d *doubts) key(what doubted, own string, now time.Time) string {
	if !d.some.Load() || what.sent == ([32]byte{}) {
		return own
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.keys[what]; e != nil {
		if was := e.Value.(doubt); now.Sub(was.at).Abs() < doubtFor {
			return was.key
		}
	}
	return own
}

// note remembers that something was tried under a key with an unknown outcome, or, with
// another outcome, that this is not so any more.
func (d *doubts) note(what doubted, key string, err error, now time.Time) {
	unknown := fault.Is(err, fault.Unknown)
	if what.sent == ([32]byte{}) || !unknown && (err != nil || !d.some.Load()) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(what)
	if unknown {
		if d.keys == nil {
			d.keys = map[doubted]*list.Element{}
		}
		d.keys[what] = d.old.PushBack(doubt{what, key, now})
		if len(d.keys) > maxDoubts {
			d.forget(d.old.Front().Value.(doubt).what)
		}
	}
	d.some.Store(len(d.keys) > 0)
}

// forget is called with the lock.
func (d *doubts) forget(what doubted) {
	if e := d.keys[what]; e != nil {
		d.old.Remove(e)
		delete(d.keys, what)
	}
}

// doubtless does something that is safe to do twice under one key, once more if its outcome
// is unknown. If it then fails, it is unknown still.
func doubtless(ctx context.Context, do func(context.Context) error) error {
	err := do(ctx)
	if !fault.Is(err, fault.Unknown) {
		return err
	}
	again := do(ctx)
	if again != nil && !fault.Is(again, fault.Unknown) {
		return fault.Wrap(fault.Unknown, fault.Say(err), again)
	}
	return again
}

// onwards names addresses elsewhere as a place.
func onwards(list []*onward) string {
	var b strings.Builder
	for _, o := range list {
		b.WriteString(o.rcpt.Address.String() + "\n")
	}
	return b.String()
}
