package postgres

import (
	"testing"

	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
)

// TestGoneShardIsNotCounted: what a call that ends late leaves of a shard that has been let go of
// is not counted, for nobody would ever take it off.
func TestGoneShardIsNotCounted(t *testing.T) {
	e := open(t, options(pgtest.Shared(t)))
	for range 2 { // so that it is not cold
		putAll(t, e, 7, "k", string(make([]byte, 5000)))
	}
	g := e.member(0).group
	g.mu.Lock()
	late := g.shards[7]
	g.mu.Unlock()
	g.most.Store(0)
	g.measure(late)
	g.most.Store(1 << 20)
	g.measure(late)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shards[7] == late {
		t.Fatal("it is still there: the test proves nothing")
	}
	var sum int64
	for _, s := range g.shards {
		sum += s.counted
	}
	if g.bytes != sum {
		t.Errorf("%d bytes are counted, of shards with %d", g.bytes, sum)
	}
}
