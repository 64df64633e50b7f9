package pebble

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
)

// A record of a log of which a part in the middle is lost is lost: its end does not continue
// its beginning.
func TestRepairOfALongRecord(t *testing.T) {
	w := newReplaced(t)
	w.opt.MemTableBytes = 8 << 20
	e := w.open()
	w.put(e, "first")
	big := chance(3, 90<<10)
	err := e.Update(ctx, 7, func(w engine.Writer) error {
		for i := range 3 {
			if err := w.Put(fmt.Appendf(nil, "big%d", i), big); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.put(e, "last")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	hurt := 0
	for file, b := range w.files("*.log") {
		at := bytes.Index(b, []byte("big0"))
		if at < 0 {
			continue
		}
		number, _ := logNumber(filepath.Base(file))
		before := salvageLog(b, uint32(number))
		at = (at/logBlock+1)*logBlock + 5000 // a chunk in the middle of the record
		clear(b[at : at+512])
		w.write(file, b)
		if after := salvageLog(b, uint32(number)); len(after) != len(before)-1 {
			t.Errorf("%d records of %d are left", len(after), len(before))
		}
		hurt++
	}
	if hurt != 1 {
		t.Fatalf("%d logs damaged", hurt)
	}
	s, err := Repair(ctx, w.dir, w.away, w.opt, nil)
	if err != nil || !slices.ContainsFunc(s.Holes, func(h Hole) bool { return h.Commits }) {
		t.Fatalf("%+v, %v", s, err)
	}
	w.has("first", "last")
}
