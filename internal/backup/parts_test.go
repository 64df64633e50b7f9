package backup

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/record"
	"github.com/martlet-mail/martlet/internal/store"
)

// The queue's parts of all nodes are in backups, with the bodies of what waits there, and so is
// what says whose they are.
func TestPartsOfTheQueueAreSaved(t *testing.T) {
	w := populated(t, "carol")
	p, err := w.Store.Receive(ctx, strings.NewReader(letter(rand.New(rand.NewPCG(1, 1)), "queued", 200_000)))
	w.must(t, err)
	_, err = w.queue.Enqueue(ctx, queue.Entry{Envelope: mail.Envelope{To: []mail.Recipient{{Address: mail.Address{Local: "x", Domain: "far.example"}}}}, Parcel: p})
	w.must(t, err)
	part := queue.PartShard(3)
	type pair struct{ key, value []byte }
	var all []pair
	w.must(t, w.Engine.View(ctx, store.QueueShard, func(r engine.Reader) error {
		return r.Scan(nil, nil, false, func(key, value []byte) bool {
			all = append(all, pair{bytes.Clone(key), bytes.Clone(value)})
			return true
		})
	}))
	if len(all) == 0 {
		t.Fatal("nothing is queued")
	}
	w.must(t, w.Engine.Update(ctx, part, func(wr engine.Writer) error {
		for _, p := range all {
			if err := wr.Put(p.key, p.value); err != nil {
				return err
			}
		}
		return nil
	}))
	w.must(t, w.Engine.Update(ctx, store.QueueShard, func(wr engine.Writer) error { return wr.DeleteRange(nil, nil) }))
	w.must(t, w.Engine.Update(ctx, nodesShard, func(wr engine.Writer) error { return wr.Put([]byte("m"), record.Seal(1, []byte("a node"))) }))
	dir := t.TempDir()
	for range 2 { // the second takes over what has not changed
		if s := w.save(t, dir, SaveOptions{}); s.Queued == 0 {
			t.Errorf("no queued message was counted: %+v", s)
		}
	}
	clean(t, dir)
	e := elsewhere(t, dir, time.Time{})
	var back, nodes int
	w.must(t, e.Engine.View(ctx, part, func(r engine.Reader) error {
		for _, p := range all {
			if v, ok, err := r.Get(p.key); err != nil || !ok || !bytes.Equal(v, p.value) {
				t.Errorf("%q: %q, %v, %v", p.key, v, ok, err)
			}
			if body, message, err := queue.BodyOf(p.key, p.value); err == nil && message {
				back++
				rc, err := e.Engine.Blobs().Open(ctx, body, 0, -1)
				if err != nil {
					t.Errorf("the body of a queued message: %v", err)
					continue
				}
				rc.Close()
			}
		}
		return nil
	}))
	w.must(t, e.Engine.View(ctx, nodesShard, func(r engine.Reader) error {
		return r.Scan(nil, nil, false, func(_, _ []byte) bool { nodes++; return true })
	}))
	if back == 0 || nodes != 1 {
		t.Errorf("%d queued messages and %d records of nodes came back", back, nodes)
	}
}
