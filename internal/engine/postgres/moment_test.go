package postgres

import (
	"context"
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
