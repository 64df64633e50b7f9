package store

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/mail"
)

// far is an engine whose blobs take their time, and count who comes at the same time.
type far struct {
	engine.Shared
	blobs *farBlobs
}

func (f far) Blobs() engine.Blobs { return f.blobs }

// near is the same for an engine that no other machine has.
type near struct {
	engine.Engine
	blobs *farBlobs
}

func (n near) Blobs() engine.Blobs { return n.blobs }

type farBlobs struct {
	engine.Blobs
	under, most, puts atomic.Int64
	bad               int64 // the number of the Put that fails
}

var errFar = errors.New("the part does not arrive")

func (f *farBlobs) Put(ctx context.Context, name mail.BlobRef, size int64, r io.Reader, needs ...mail.BlobRef) error {
	n := f.under.Add(1)
	defer f.under.Add(-1)
	for most := f.most.Load(); n > most && !f.most.CompareAndSwap(most, n); most = f.most.Load() {
	}
	if f.puts.Add(1) == f.bad {
		return errFar
	}
	time.Sleep(2 * time.Millisecond)
	return f.Blobs.Put(ctx, name, size, r, needs...)
}

// TestPartsAbreast: parts of a body are stored several at a time where the engine is that of
// many machines, and one after the other where it is not; the message is the same, and one
// whose part fails does not come to be.
func TestPartsAbreast(t *testing.T) {
	for _, size := range []int{400_000, 4_000_000} { // in memory, and in a file
		text := withFile(1, 5000, random(uint64(size), size))
		c := &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
		node := enginetest.Nodes(memoryEngine(t, c), 1)[0]
		wide := &farBlobs{Blobs: node.Blobs()}
		w := worldOn(t, far{node, wide}, c)
		w.deliver(t, "INBOX", text)
		if most := wide.most.Load(); most < 2 || most > abreast {
			t.Errorf("%d parts at a time", most)
		}
		p := w.picture(t, w.box(t, "INBOX").ID)
		for _, m := range p.Messages(All()) {
			if w.whole(t, m.ID) != text {
				t.Error("it comes back as another")
			}
		}
		wide.bad = wide.puts.Load() + 3
		if _, err := w.Receive(ctx, strings.NewReader(withFile(2, 5000, random(uint64(size)+1, size)))); !errors.Is(err, errFar) {
			t.Errorf("a part failed: %v", err)
		}

		narrow := &farBlobs{}
		eng := memoryEngine(t, c)
		narrow.Blobs = eng.Blobs()
		w = worldOn(t, near{eng, narrow}, c)
		w.deliver(t, "INBOX", text)
		if most := narrow.most.Load(); most != 1 {
			t.Errorf("%d parts at a time on one machine", most)
		}
	}
}
