package store

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// cutEngine is an engine of which the n-th change that frees room in account 1 fails: as when a
// database goes away, or a session is ended.
type cutEngine struct {
	engine.Engine
	left int // until then; 0: none fails
	made bool
	err  error
}

func (e *cutEngine) Update(ctx context.Context, id engine.Shard, fn func(engine.Writer) error) error {
	if id != ShardOf(1) || !engine.IsFreeing(ctx) || e.left == 0 {
		return e.Engine.Update(ctx, id, fn)
	}
	if e.left--; e.left > 0 {
		return e.Engine.Update(ctx, id, fn)
	}
	if e.made {
		if err := e.Engine.Update(ctx, id, fn); err != nil {
			return err
		}
	}
	return e.err
}

// scattered puts messages into a mailbox, one on each page of it, as where most was deleted.
func (w *world) scattered(t *testing.T, box mail.MailboxID, n int) {
	t.Helper()
	p := w.receive(t, hello)
	for from := 0; from < n; from += 500 {
		w.update(t, func(tx *Tx) error {
			for i := from; i < min(from+500, n); i++ {
				_, err := tx.AppendTied(box, NewMessage{Parcel: p}, mail.UID(1+i*pageSize), TiedBox{Source: "s", Mailbox: "m"}, Tie{Key: strconv.Itoa(i)})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// A move to another account whose expunge fails in the midst loses nothing, and leaves no copy but
// of what may have gone. It tells of those that have come.
func TestMoveToCutShort(t *testing.T) {
	const n = 2*bulkPages + 100 // three portions
	gone := fault.New(fault.Unavailable, "it is away")
	unknown := fault.New(fault.Unknown, "nobody knows")
	for name, c := range map[string]struct {
		cutEngine
		here, there int
	}{
		"at first":        {cutEngine{left: 1, err: gone}, n, 0},
		"in the midst":    {cutEngine{left: 2, err: gone}, n - bulkPages, bulkPages},
		"set back":        {cutEngine{left: 2, err: ErrSetBack}, n - bulkPages, n},
		"in doubt, made":  {cutEngine{left: 2, err: unknown, made: true}, n - 2*bulkPages, 2 * bulkPages},
		"in doubt, not":   {cutEngine{left: 2, err: unknown}, n - bulkPages, 2 * bulkPages},
		"in doubt, first": {cutEngine{left: 1, err: unknown, made: true}, n - bulkPages, bulkPages},
	} {
		t.Run(name, func(t *testing.T) {
			now := &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
			eng := &cutEngine{Engine: memoryEngine(t, now)}
			w := worldOn(t, eng, now)
			if err := w.CreateAccount(ctx, 2, Quota{}); err != nil {
				t.Fatal(err)
			}
			inbox, other := w.box(t, "INBOX").ID, w.Account(2)
			w.scattered(t, inbox, n)
			eng.left, eng.made, eng.err = c.left, c.made, c.err
			moved, err := w.a.MoveTo(ctx, inbox, All(), other, inbox) // the first mailbox of each
			if fault.Of(err) != fault.Of(c.err) || eng.left != 0 {
				t.Fatalf("it was not cut short: %v", err)
			}
			w.a.forgetPictures()
			here, there := w.picture(t, inbox), uidsIn(t, other, inbox)
			if here.Len() != c.here || len(there) != c.there {
				t.Errorf("%d are left and %d there, not %d and %d", here.Len(), len(there), c.here, c.there)
			}
			if here.Len()+len(there) < n {
				t.Errorf("%d of %d messages are nowhere", n-here.Len()-len(there), n)
			}
			var told []mail.UID
			for _, m := range moved {
				told = append(told, m.To)
			}
			if !slices.Equal(told, there) {
				t.Errorf("%d are told of, %d have come", len(told), len(there))
			}
			w.verify(t)
		})
	}
}

// uidsIn returns the UIDs of a mailbox of another account.
func uidsIn(t *testing.T, a *Account, box mail.MailboxID) (uids []mail.UID) {
	t.Helper()
	p, err := a.Picture(ctx, box)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range p.Messages(All()) {
		uids = append(uids, m.UID)
	}
	return uids
}
