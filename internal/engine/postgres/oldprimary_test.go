package postgres

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// atHomeOf returns a name of a blob that lies in the first of two groups.
func atHomeOf(b byte) (name mail.BlobRef) {
	for i := range name {
		name[i] = b + byte(i)
	}
	for placesOf(name, 2)[0] != 0 {
		name[0]++
	}
	return name
}

// TestOldPrimaryBesideRecords: a primary that was replaced and does not know it is not believed
// when it says where accounts are, which groups and moves there are, and which bodies. Without
// surety it is: that is the control.
func TestOldPrimaryBesideRecords(t *testing.T) {
	old := pgtest.Start(t, pgtest.Options{})
	standby, name := old.Standby(t)
	old.Synchronous(t, name)
	_, was, _ := net.SplitHostPort(old.Address())
	_, is, _ := net.SplitHostPort(standby.Address())
	opt := options(fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%s,%s user=postgres dbname=postgres sslmode=disable", was, is))
	opt.statement = 400 * time.Millisecond
	opt.without.hints, opt.without.poll = true, true
	opt.tend, opt.poll = time.Hour, time.Hour
	opt.Patience = 10 * time.Second
	a := open(t, opt)
	if _, err := a.AddGroup(t.Context(), "second", pgtest.Shared(t)); err != nil {
		t.Fatal(err)
	}
	large := make([]byte, 70<<10)
	put := func(e *Engine, name mail.BlobRef) {
		if err := e.Blobs().Put(t.Context(), name, int64(len(large)), bytes.NewReader(large)); err != nil {
			t.Fatal(err)
		}
	}
	put(a, atHomeOf(1))
	// What they return tells whether the old primary was believed.
	ctx := t.Context()
	ref := atHomeOf(7)
	var now *Engine // on the new primary
	questions := map[string]func(e *Engine) (wrong bool, err error){
		"an account": func(e *Engine) (bool, error) {
			n := 0
			err := e.View(ctx, acct+5, func(r engine.Reader) error {
				n = 0
				return r.Scan(nil, nil, false, func(_, _ []byte) bool { n++; return true })
			})
			return n == 0, err
		},
		"a body": func(e *Engine) (bool, error) {
			r, err := e.Blobs().Open(ctx, ref, 0, -1)
			if err == nil {
				return false, r.Close()
			}
			if fault.Is(err, fault.NotFound) {
				return true, nil
			}
			return false, err
		},
		"a body that was deleted": func(e *Engine) (bool, error) { // whoever refers to it would refer to nothing
			err := e.Blobs().Put(ctx, atHomeOf(1), int64(len(large)), bytes.NewReader(large))
			if err != nil {
				return false, err
			}
			there, err := now.blobs.has(ctx, now.blobs.shelves()[0], atHomeOf(1))
			return !there, err
		},
		"the list of bodies": func(e *Engine) (bool, error) {
			found := false
			err := e.Blobs().List(ctx, func(name mail.BlobRef, _ time.Time, _ int64) bool { found = found || name == ref; return true })
			return !found, err
		},
		"the list of groups": func(e *Engine) (bool, error) {
			list, err := e.Groups(ctx)
			return len(list) != 3, err
		},
		"whether there is a move": func(e *Engine) (bool, error) {
			err := e.Move(ctx, acct+5, "third", nil) // a group that only b's server knows
			return fault.Is(err, fault.NotFound), nil
		},
		"a transaction that finds nothing to do": func(e *Engine) (bool, error) {
			n := 0
			err := e.ground(0).tx(ctx, []call{{stPlaceRow, []any{int64(acct + 5)}}}, func(read rows) ([]call, error) { n = len(read.of(0)); return nil, nil })
			return n == 0, err
		},
		"a transaction that gives up": func(e *Engine) (bool, error) {
			err := e.ground(0).tx(ctx, []call{{stPlaceRow, []any{int64(acct + 5)}}}, func(read rows) ([]call, error) {
				if len(read.of(0)) == 0 {
					return nil, errNoMove
				}
				return nil, nil
			})
			return fault.Is(err, fault.NotFound), nil
		},
	}
	// Each has a node that asks nothing else: one that has found the old primary out is with
	// the new one ever after.
	nodes := map[string]*Engine{}
	for what := range questions {
		nodes[what] = open(t, opt)
		content(t, nodes[what], acct+1)
	}
	opt.without.surety = true
	control := open(t, opt)
	content(t, control, acct+1)
	standby.Promote(t)
	now = open(t, options(standby.TCP()))
	putAll(t, now, acct+5, "mail", "there")
	put(now, ref)
	if gone, err := now.Blobs().Delete(t.Context(), atHomeOf(1), time.Now().Add(time.Hour)); !gone || err != nil {
		t.Fatal(gone, err)
	}
	if _, err := now.AddGroup(t.Context(), "third", pgtest.Shared(t)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(suretyLasts + 500*time.Millisecond)
	for what, ask := range questions {
		if wrong, _ := ask(control); !wrong {
			t.Errorf("%s: the control has not been told the past", what)
		}
		if wrong, err := ask(nodes[what]); wrong || err != nil {
			t.Errorf("%s: the old primary is believed, or %v", what, err)
		}
	}
}

// TestOldPrimaryIsNotListenedTo: a node that has left an old primary hears what others do on the
// new one.
func TestOldPrimaryIsNotListenedTo(t *testing.T) {
	t.Parallel() // it has servers of its own, and waits most of the time
	old := pgtest.Start(t, pgtest.Options{})
	standby, name := old.Standby(t)
	old.Synchronous(t, name)
	_, was, _ := net.SplitHostPort(old.Address())
	_, is, _ := net.SplitHostPort(standby.Address())
	opt := options(fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%s,%s user=postgres dbname=postgres sslmode=disable", was, is))
	opt.statement, opt.poll = 400*time.Millisecond, 200*time.Millisecond
	opt.without.poll = true // only hints tell
	a := open(t, opt)
	putAll(t, a, acct, "mail", "there")
	ticks, stop := a.Watch(acct)
	defer stop()
	standby.Promote(t)
	b := open(t, options(standby.TCP()))
	time.Sleep(suretyLasts + 500*time.Millisecond)
	content(t, a, acct+1) // which finds the old primary out
	select {
	case <-ticks: // of before
	default:
	}
	for range 100 {
		putAll(t, b, acct, "mail", "more")
		select {
		case <-ticks:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Error("nothing is heard of what is done on the new primary")
}
