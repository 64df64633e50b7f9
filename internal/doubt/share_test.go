package doubt

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

// cluster is nodes on one engine, with a list each, and their clock.
type cluster struct {
	t     *testing.T
	base  engine.Engine
	nodes []*enginetest.Node
	lists []*List
	now   time.Time
}

func newCluster(t *testing.T, n int) *cluster {
	t.Helper()
	base, err := pebble.Open("data", pebble.Options{Now: time.Now, FS: vfs.NewMem(), ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { base.Close() })
	c := &cluster{t: t, base: base, nodes: enginetest.Nodes(base, n), now: begin}
	for _, node := range c.nodes {
		c.lists = append(c.lists, New(Options{Engine: node, Now: func() time.Time { return c.now }}))
	}
	return c
}

// tell has a node tell, and all hear of it.
func (c *cluster) tell(n int) {
	c.t.Helper()
	c.must(c.lists[n].Tell(c.t.Context()))
	for _, l := range c.lists {
		c.must(l.Hear(c.t.Context()))
	}
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// records returns how many there are.
func (c *cluster) records() (n int) {
	c.t.Helper()
	c.must(c.base.View(c.t.Context(), Shard, func(r engine.Reader) error {
		n = 0
		return r.Scan(nil, nil, false, func(_, _ []byte) bool { n++; return true })
	}))
	return n
}

// What one node has in doubt all know, until any of them knows more.
func TestNodesKnow(t *testing.T) {
	c := newCluster(t, 3)
	a, b, d := c.lists[0], c.lists[1], c.lists[2]
	what := numbered(1)
	a.Note(what, first, unknown)
	wants(t, a, what, first)
	wants(t, b, what)
	c.tell(0)
	for _, l := range c.lists {
		wants(t, l, what, first)
	}
	b.Note(what, second, unknown)
	wants(t, b, what, second, first)
	c.tell(1)
	for _, l := range c.lists {
		wants(t, l, what, first, second)
	}
	d.Note(what, Try{Key: "third"}, fault.New(fault.Unavailable, "not now"))
	c.tell(2)
	wants(t, a, what, first, second)
	d.Note(what, Try{Key: "third"}, nil)
	wants(t, d, what)
	c.tell(2)
	for i, l := range c.lists {
		wants(t, l, what)
		if l.some.Load() {
			t.Errorf("list %d has something", i)
		}
	}
	if n := c.records(); n != 0 {
		t.Errorf("%d records", n)
	}
}

// What a node does not know of stays when it settles the rest.
func TestOnlyWhatIsKnownGoes(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.lists[0], c.lists[1]
	what := numbered(1)
	a.Note(what, first, unknown)
	c.tell(0)
	a.Note(what, second, unknown)
	b.Note(what, Try{Key: "third"}, nil)
	c.must(a.Tell(t.Context()))
	c.tell(1)
	wants(t, a, what, second)
	wants(t, b, what, second)
}

// While the engine cannot be reached what is to be told is kept, and known here; it is told as soon as it
// can. Nobody waits for that.
func TestToldLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		a, b := c.lists[0], c.lists[1]
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ticks := make(chan time.Time)
		for _, l := range c.lists {
			go l.Run(ctx, ticks)
		}
		synctest.Wait()
		for _, node := range c.nodes {
			node.Down(true)
		}
		a.Note(numbered(1), first, unknown)
		a.Note(numbered(2), first, unknown)
		synctest.Wait()
		ticks <- begin
		ticks <- begin
		synctest.Wait()
		a.Note(numbered(2), second, nil)
		wants(t, a, numbered(1), first)
		wants(t, a, numbered(2))
		synctest.Wait()
		for _, node := range c.nodes {
			node.Down(false)
		}
		for range 4 {
			ticks <- begin
			synctest.Wait()
		}
		wants(t, b, numbered(1), first)
		if n := c.records(); n != 1 {
			t.Errorf("%d records", n)
		}
		b.Note(numbered(1), second, nil)
		synctest.Wait()
		wants(t, a, numbered(1))
		if n := c.records(); n != 0 {
			t.Errorf("%d records", n)
		}
	})
}

// A tick is a word that was lost: what a node could not hear it asks for again.
func TestHeardLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		c.lists[0].Note(numbered(1), first, unknown)
		c.must(c.lists[0].Tell(t.Context()))
		c.nodes[1].Down(true)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ticks := make(chan time.Time)
		go c.lists[1].Run(ctx, ticks)
		synctest.Wait()
		c.nodes[1].Down(false)
		wants(t, c.lists[1], numbered(1))
		ticks <- begin
		synctest.Wait()
		wants(t, c.lists[1], numbered(1), first)
	})
}

// Records are bounded, in number and in time, and what is unreadable goes.
func TestRecordsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		for n, l := range c.lists {
			for i := range maxDoubts/2 + 50 {
				if i == 50 {
					c.now = begin.Add(time.Minute)
				}
				l.Note(numbered(n<<20+i), first, unknown)
			}
			c.must(l.Tell(t.Context()))
			c.now = begin
		}
		c.tell(0)
		if n := c.records(); n != maxDoubts {
			t.Errorf("%d records", n)
		}
		for _, l := range c.lists {
			if len(l.here)+len(l.news) != 0 || len(l.there) != maxDoubts {
				t.Errorf("%d, %d and %d are remembered", len(l.here), len(l.news), len(l.there))
			}
			wants(t, l, numbered(0))
			wants(t, l, numbered(50), first)
		}
		c.must(c.base.Update(t.Context(), Shard, func(w engine.Writer) error {
			if err := w.Put(append([]byte{famDoubt}, make([]byte, 32)...), []byte("spoilt")); err != nil {
				return err
			}
			return w.Put([]byte{famDoubt}, record.Seal(recDoubt, record.Enc{}))
		}))
		c.now = begin.Add(doubtFor)
		c.lists[1].Note(numbered(0), second, unknown)
		c.tell(1)
		if n := c.records(); n != maxDoubts {
			t.Errorf("%d records", n)
		}
		c.now = begin.Add(doubtFor + time.Minute)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ticks := make(chan time.Time)
		l := New(Options{Engine: c.nodes[0], Now: func() time.Time { return c.now }}) // that has nothing to tell
		go l.Run(ctx, ticks)
		ticks <- c.now
		synctest.Wait()
		if n := c.records(); n != 1 || len(l.there) != 1 {
			t.Errorf("%d records, of which %d are known", n, len(l.there))
		}
		wants(t, l, numbered(0), second)
	})
}

// What a newer program has written is its own: it is left alone.
func TestNewerRecords(t *testing.T) {
	c := newCluster(t, 1)
	l := c.lists[0]
	name := numbered(1).name()
	newer := record.Seal(recDoubt+1, []byte("who knows"))
	c.must(c.base.Update(t.Context(), Shard, func(w engine.Writer) error { return w.Put((&entry{name: name}).key(), newer) }))
	c.tell(0)
	l.Note(numbered(1), first, unknown)
	l.Note(numbered(2), first, unknown)
	c.tell(0)
	wants(t, l, numbered(2), first)
	c.must(c.base.View(t.Context(), Shard, func(r engine.Reader) error {
		v, _, err := r.Get((&entry{name: name}).key())
		if string(v) != string(newer) {
			t.Errorf("%q", v)
		}
		return err
	}))
}

// A process alone writes nothing.
func TestAloneWritesNothing(t *testing.T) {
	c := newCluster(t, 1)
	l := New(Options{Engine: c.base, Now: func() time.Time { return c.now }})
	l.Note(numbered(1), first, unknown)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	l.Run(ctx, nil)
	c.must(l.Tell(t.Context()))
	c.must(l.Hear(t.Context()))
	wants(t, l, numbered(1), first)
	if n := c.records(); n != 0 || len(l.news) != 0 {
		t.Errorf("%d records, %d to come", n, len(l.news))
	}
}
