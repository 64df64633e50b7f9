package store

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// endsAfter is a context that ends when it has been asked a number of times.
type endsAfter struct {
	context.Context
	n int
}

func (c *endsAfter) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}

// What a repair that was cut short took out is told of by it or by the next one, wherever it
// was cut.
func TestRepairCutShortTells(t *testing.T) {
	for n := 0; ; n++ {
		w := newWorld(t)
		w.deliver(t, "INBOX", "Subject: 1\r\n\r\n"+randText(100))
		w.deliver(t, "INBOX", "Subject: 2\r\n\r\n"+randText(100))
		var id mail.MessageID
		err := w.a.View(ctx, func(s *Snapshot) error {
			b, err := s.Mailbox("INBOX")
			if err != nil {
				return err
			}
			p, err := s.load(b)
			if err != nil {
				return err
			}
			for _, m := range p.Messages(All()) {
				id = m.ID
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.eng.Update(ctx, w.a.shard, func(wr engine.Writer) error {
			return wr.DeleteRange(engine.Key(famHeader, uint64(id)), engine.Key(famHeader, uint64(id)+1))
		}); err != nil {
			t.Fatal(err)
		}
		lost, all := 0, ""
		report := func(m Mended) {
			all += fmt.Sprintf("%+v\n", m)
			if m.Lost {
				lost++
			}
		}
		cut := w.Repair(&endsAfter{ctx, n}, nil, report)
		if cut != nil {
			if err := w.Repair(ctx, nil, report); err != nil {
				t.Fatal(err)
			}
		}
		if lost == 0 {
			t.Errorf("cut after %d: a message went and nothing tells: %s", n, all)
		}
		if cut == nil {
			if n < 5 || lost != 1 {
				t.Errorf("not cut after %d, %d lost", n, lost)
			}
			return
		}
	}
}

// TestRepairOfTheListOfAccounts: damaged records of the list, and of the clocks beside it, are
// mended, and the sweep goes on.
func TestRepairOfTheListOfAccounts(t *testing.T) {
	for _, key := range [][]byte{{famSweeping}, {famKeepTime}, engine.Key(famOpen, 1), engine.Key(famRegistry, 1)} {
		w := newWorld(t)
		w.deliver(t, "INBOX", letter(1))
		if err := w.eng.Update(ctx, registryShard, func(wr engine.Writer) error { return wr.Put(key, []byte("garbage")) }); err != nil {
			t.Fatal(err)
		}
		told := 0
		for range 2 {
			if err := w.Repair(ctx, nil, func(Mended) { told++ }); err != nil {
				t.Fatal(err)
			}
		}
		if list := w.problems(t); len(list) > 0 || told != 1 {
			t.Errorf("%q: told of %d, and %v", key, told, list)
		}
		if _, err := w.Sweep(ctx); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
}

// A repair has the bytes of one message at a time in memory, however many are to be parsed anew.
func TestRepairHoldsOneMessage(t *testing.T) {
	const messages, size = 16, 2 << 20
	w := newWorld(t)
	for range messages {
		w.deliver(t, "INBOX", "Subject: 1\r\n\r\n"+randText(size))
	}
	if err := w.eng.Update(ctx, w.a.shard, func(wr engine.Writer) error {
		return wr.DeleteRange([]byte{famKeys}, []byte{famKeys + 1})
	}); err != nil {
		t.Fatal(err)
	}
	live := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, most, mended := live(), int64(0), 0
	err := w.Repair(ctx, nil, func(m Mended) {
		if m.UID != 0 {
			mended++
			most = max(most, live()-before)
		}
		if m.Lost {
			t.Errorf("%+v", m)
		}
	})
	if err != nil || mended != messages {
		t.Fatalf("%d mended, %v", mended, err)
	}
	if most > messages*size/2 {
		t.Errorf("%d bytes of messages of %d each are in memory", most, size)
	}
}
