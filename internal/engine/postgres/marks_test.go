package postgres

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/fault"
)

// TestWrongDatabase: the database of a group is not taken for home, and not for another group.
func TestWrongDatabase(t *testing.T) {
	never := func(o *Options) { o.tend = time.Hour }
	nodes, urls := twoGroups(t, never)
	putAll(t, nodes[0], 1, "directory", "full")
	if e, err := Open(t.Context(), quick(urls[1])); !fault.Is(err, fault.Invalid) {
		t.Errorf("a group's database as home: %v", err)
		if err == nil {
			e.Close()
		}
	}
	other := pgtest.Shared(t)
	open(t, quick(other)) // a store of its own
	set := call{&statement{"t_url", "UPDATE groups SET url = $1::text WHERE id = 1"}, []any{other}}
	if err := nodes[0].ground(0).tx(t.Context(), nil, func(rows) ([]call, error) { return []call{set}, nil }); err != nil {
		t.Fatal(err)
	}
	o := quick(urls[0])
	never(&o)
	e := open(t, o)
	if _, err := e.member(1).pool.connect(t.Context(), 0); !errors.Is(err, errOther) {
		t.Errorf("another database as the second group: %v", err)
	}
	if d := e.Doors(); !d[1].Other || d[0].Other {
		t.Errorf("%+v", d)
	}
}

// TestGroupsAddedAtOnce: of two who add a group at a time each gets its own, though one is told
// to try again; and a database is not added twice.
func TestGroupsAddedAtOnce(t *testing.T) {
	nodes, _ := twoGroups(t, plain)
	e, second, third := nodes[0], pgtest.Shared(t), pgtest.Shared(t)
	cluster, err := e.cluster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Both take the number 2, and one of them is faster.
	for _, url := range []string{second, third} {
		if _, err := e.enlist(t.Context(), url, 2, cluster); err != nil {
			t.Fatal(err)
		}
	}
	if g, err := e.AddGroup(t.Context(), "fast", second); err != nil || g.Number != 2 {
		t.Fatal(g, err)
	}
	if g, err := e.AddGroup(t.Context(), "slow", third); err != nil || g.Number != 3 {
		t.Errorf("%+v, %v", g, err)
	}
	if _, err := e.AddGroup(t.Context(), "again", second+" application_name=other"); !fault.Is(err, fault.Exists) && !fault.Is(err, fault.Invalid) {
		t.Errorf("the same database under another address: %v", err)
	}
}

// TestOtherCluster: a node whose address leads to another cluster's home group all of a sudden
// neither reads there nor listens.
func TestOtherCluster(t *testing.T) {
	_, others := twoGroups(t, plain)
	alone := func(o *Options) { // nobody connects but this test
		o.tend, o.poll, o.without.hints = time.Hour, time.Hour, true
	}
	nodes, _ := twoGroups(t, alone)
	g := nodes[0].member(0).group
	putAll(t, nodes[0], 1, "k", "v")
	_, schema, _ := strings.Cut(others[0], " search_path=")
	p := g.pool
	for _, host := range p.hosts {
		host.RuntimeParams["search_path"] = schema
	}
	p.mu.Lock()
	p.outdate(p.generation)
	p.mu.Unlock()
	ask := func(c *conn) { c.call(stPulse, nil) }
	if err := p.once(t.Context(), nil, ask, nil); !errors.Is(err, errOther) {
		t.Errorf("a read: %v", err)
	}
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		g.hearOn() // which returns when there is nothing to hear
	}()
	select {
	case <-heard:
	case <-time.After(5 * time.Second):
		t.Error("it listens to another cluster")
	}
}
