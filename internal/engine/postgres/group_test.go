package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
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
		sum += s.counted.sum()
	}
	if g.bytes != sum {
		t.Errorf("%d bytes are counted, of shards with %d", g.bytes, sum)
	}
}

// TestManyEars: shards that somebody listens to do not take the room of records, however many
// they are, and nobody comes past all of them again and again.
func TestManyEars(t *testing.T) {
	opt := options(pgtest.Shared(t))
	opt.CacheBytes, opt.poll = 64<<10, time.Hour
	e := open(t, opt)
	const ears = 3000
	var stops []func()
	for id := range engine.Shard(ears) {
		_, stop := e.Watch(100 + id)
		stops = append(stops, stop)
	}
	putAll(t, e, 7, "k", "v")
	g := e.member(0).group
	reads := e.Stats().Reads.Load()
	for range 3 {
		g.lookAt([]engine.Shard{100, 101, 102})
		contents(t, e, 7)
	}
	if n := e.Stats().Reads.Load() - reads; n > 1 {
		t.Errorf("what one record knows was read %d times", n)
	}
	for id := range engine.Shard(20) {
		putAll(t, e, 10_000+id, "k", string(make([]byte, 6000)))
	}
	state := func() (shards, list int, bytes int64) {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.shards), g.used.Len(), g.bytes
	}
	if shards, list, bytes := state(); shards < ears || list > 100 || bytes > opt.CacheBytes {
		t.Errorf("%d shards, of which %d can give something, with %d bytes of %d", shards, list, bytes, opt.CacheBytes)
	}
	for _, stop := range stops {
		stop()
	}
	if shards, list, bytes := state(); shards != list || bytes > opt.CacheBytes {
		t.Errorf("when nobody listens: %d shards, of which %d can give something, with %d bytes of %d", shards, list, bytes, opt.CacheBytes)
	}
}

// TestGoneIsCounted: what a node keeps of what others have written is counted.
func TestGoneIsCounted(t *testing.T) {
	url := pgtest.Shared(t)
	opt := options(url)
	opt.poll = time.Hour
	a, b := open(t, opt), open(t, opt)
	putAll(t, a, 7, "k", "v")
	contents(t, a, 7)
	g := a.member(0).group
	s := g.hold(7)
	defer g.leave(s)
	before := s.size()
	long := strings.Repeat("k", 300)
	putAll(t, b, 7, long, "")
	g.lookAt([]engine.Shard{7})
	now := s.size()
	if s.mu.Lock(); len(s.gone) != 1 {
		t.Fatalf("%q", s.gone)
	}
	s.mu.Unlock()
	if grown := now.records - before.records; grown < 2*300 { // in the tree as well, as not known
		t.Errorf("%d bytes more", grown)
	}
	if grown := now.frame - before.frame; grown < 300 { // in the trail
		t.Errorf("%d bytes more of the trail", grown)
	}
	s.forget(shedAll)
	if w := s.size(); w.records != 0 {
		t.Errorf("%d bytes are left when all is forgotten", w.records)
	}
}

// TestLookAtMany: a look speaks of those shards alone that others have changed.
func TestLookAtMany(t *testing.T) {
	opt := options(pgtest.Shared(t))
	opt.poll = time.Hour
	opt.without.hints = true
	a, b := open(t, opt), open(t, opt)
	var ids []engine.Shard
	var ticks []<-chan struct{}
	for id := range engine.Shard(50) {
		if id%2 == 0 {
			putAll(t, b, id, "k", "v")
		}
		tick, stop := a.Watch(id)
		defer stop()
		ids, ticks = append(ids, id), append(ticks, tick)
	}
	g := a.member(0).group
	heard := func() (n int) {
		g.lookAt(ids)
		for _, tick := range ticks {
			select {
			case <-tick:
				n++
			default:
			}
		}
		return n
	}
	heard() // what is there already
	forwarded := a.Stats().Forwarded.Load()
	putAll(t, b, 4, "k", "w") // known
	putAll(t, b, 5, "k", "w") // without a row so far
	if n := heard(); n != 2 {
		t.Errorf("%d changes were heard of, not 2", n)
	}
	if n := heard(); n != 0 {
		t.Errorf("%d changes were heard of twice", n)
	}
	if n := a.Stats().Forwarded.Load() - forwarded; n > 2 {
		t.Errorf("%d shards were brought up to date", n)
	}
	if got := contents(t, a, 5)["k"]; got != "w" {
		t.Errorf("%q", got)
	}
}
