package receive

import (
	"context"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/doubt"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
)

// A commit whose outcome nobody can find out in time is answered with 451, and the client
// sends the message again. It may have come to be. So the key under which it was tried is
// remembered (package doubt), and the next message of the same bytes, from the same sender to the
// same place, looks whether that key was used: whoever has it then has it once. So it is with
// what was done for some recipients of a message while the client is told that it failed, for
// others: it sends the message again, for all. Nothing of this is done for a message that was taken
// in, or refused, for all, however often it comes.
//
// Each try has a key of its own. That an earlier try has come to be counts for one later try: it is
// written down together with the key of that one. So a list of doubts may be old, or that of
// another node, and still no message is taken for a repeat that is none.

// into is what a letter is to do with an account.
func (l *letter) into(d *drop) doubt.What {
	return doubt.What{Sent: l.sent, From: l.from, To: strconv.FormatUint(uint64(d.account), 10)}
}

// earlier returns the keys of earlier tries.
func (r *Receiver) earlier(what doubt.What) (keys []string) {
	for _, t := range r.opt.Doubts.Earlier(what) {
		keys = append(keys, t.Key)
	}
	return keys
}

// arrived tells whether an account has a message already, under its key or by an earlier try. Earlier
// tries that have not come to be never will.
func arrived(tx *store.Tx, key string, earlier []string) (bool, error) {
	first, err := tx.Once(key)
	if err != nil || !first {
		return err == nil, err
	}
	there := false
	for _, k := range earlier {
		if k == key { // two tries of the same bytes: it was not used, as was just seen
			continue
		}
		unused, err := tx.Once(k)
		if err != nil {
			return false, err
		}
		open, err := tx.Once("took " + k)
		if err != nil {
			return false, err
		}
		there = there || open && !unused
	}
	return there, nil
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
