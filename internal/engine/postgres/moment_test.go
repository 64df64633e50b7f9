package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
)

// TestViewOfOneMoment: what a View has read by its key within a scan, and another node has
// changed since, is the same when the scan comes to it.
func TestViewOfOneMoment(t *testing.T) {
	url := pgtest.Shared(t)
	opt := options(url)
	opt.poll = time.Hour
	a, b := open(t, opt), open(t, opt)
	set := func(e *Engine, pairs ...string) {
		err := e.Update(context.Background(), 3, func(w engine.Writer) error {
			for i := 0; i < len(pairs); i += 2 {
				if err := w.Put([]byte(pairs[i]), []byte(pairs[i+1])); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	set(a, "a", "1", "k", "old", "z", "1")
	// B knows a alone
	if err := b.View(t.Context(), 3, func(r engine.Reader) error { _, _, err := r.Get([]byte("a")); return err }); err != nil {
		t.Fatal(err)
	}
	var got, scanned string
	runs := 0
	err := b.View(t.Context(), 3, func(r engine.Reader) error {
		got, scanned = "", ""
		first := runs == 0
		runs++
		var inner error
		err := r.Scan([]byte("a"), nil, false, func(k, v []byte) bool {
			switch string(k) {
			case "a":
				var x []byte
				if x, _, inner = r.Get([]byte("k")); inner != nil {
					return false
				}
				got = string(x)
				if first {
					set(a, "k", "new")
				}
			case "k":
				scanned = string(v)
			}
			return true
		})
		if err == nil {
			err = inner
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got != scanned {
		t.Errorf("one View (run %d) got k=%s and scanned k=%s", runs, got, scanned)
	}
}

// TestUpdateOfOneMoment: an Update that ends with what it found has found it at one moment, also
// if this node's last commit has been answered only after another's was seen on top of it.
func TestUpdateOfOneMoment(t *testing.T) {
	url := pgtest.Shared(t)
	opt := options(url)
	opt.poll = time.Hour
	a, b := open(t, opt), open(t, opt)
	putAll(t, a, 9, "x", "0", "y", "0")
	if err := b.View(t.Context(), 9, func(r engine.Reader) error { _, _, err := r.Get([]byte("x")); return err }); err != nil {
		t.Fatal(err)
	}
	g := b.member(0).group
	stopCarriers(&g.outbox) // this test carries
	done := make(chan error, 1)
	go func() {
		done <- b.Update(t.Context(), 9, func(w engine.Writer) error { return errors.Join(w.Put([]byte("x"), []byte("1"))) })
	}()
	var load []*commit
	for len(load) == 0 {
		time.Sleep(time.Millisecond)
		g.outbox.mu.Lock()
		load, g.outbox.list = g.outbox.list, nil
		g.outbox.mu.Unlock()
	}
	c, err := g.pool.take(t.Context(), nil, g.pool.short)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.transact(c, pack(load)); err != nil { // it is committed; the answer is on its way
		t.Fatal(err)
	}
	g.pool.give(g.pool.short, c)
	putAll(t, a, 9, "x", "2", "y", "2")
	g.lookAt([]engine.Shard{9}) // hears of a's
	var x, y string
	sentinel := errors.New("what the function found")
	read := make(chan error, 1)
	go func() {
		read <- b.Update(t.Context(), 9, func(w engine.Writer) error {
			v, _, err := w.Get([]byte("x"))
			if err != nil {
				return err
			}
			x = string(v)
			if v, _, err = w.Get([]byte("y")); err != nil {
				return err
			}
			y = string(v)
			return sentinel
		})
	}()
	time.Sleep(300 * time.Millisecond)
	g.outbox.mu.Lock()
	g.outbox.running = 0
	g.outbox.mu.Unlock()
	g.complete(load[0], nil)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := <-read; !errors.Is(err, sentinel) {
		t.Fatal(err)
	}
	if x+y != "22" && x+y != "10" {
		t.Errorf("an Update ended with what it found in x=%s y=%s, which never was", x, y)
	}
}
