package backup

import (
	"bytes"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/record"
)

// Links are in backups, and come back with what opens their seals; a server without any has
// snapshots that versions without links can read.
func TestLinksAreSaved(t *testing.T) {
	w := populated(t, "carol")
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	shards := func(e engine.Engine) map[engine.Shard]bool {
		all, err := e.Shards(ctx)
		w.must(t, err)
		found := map[engine.Shard]bool{}
		for _, sh := range all {
			found[sh] = true
		}
		return found
	}
	o, err := Open(disk, dir, time.Time{})
	w.must(t, err)
	for _, sh := range o.snap.shards {
		if sh.Shard == linksShard {
			t.Error("a server without links has a shard of them in its backup")
		}
	}
	w.must(t, o.Close())
	kept := record.Seal(1, []byte("a rule"))
	w.must(t, w.Engine.Update(ctx, linksShard, func(wr engine.Writer) error { return wr.Put(engine.Key('l', 1), kept) }))
	for range 2 { // the second takes over what has not changed
		w.save(t, dir, SaveOptions{})
	}
	clean(t, dir)
	e := elsewhere(t, dir, time.Time{})
	if !shards(e.Engine)[linksShard] {
		t.Fatal("no links came back")
	}
	w.must(t, e.Engine.View(ctx, linksShard, func(r engine.Reader) error {
		v, ok, err := r.Get(engine.Key('l', 1))
		if !ok || !bytes.Equal(v, kept) {
			t.Errorf("%x %v", v, ok)
		}
		return err
	}))
	here, err := w.Directory.Secret("links")
	w.must(t, err)
	there, err := e.Directory.Secret("links")
	w.must(t, err)
	if !bytes.Equal(here, there) {
		t.Error("the key that opens them is another")
	}
}
