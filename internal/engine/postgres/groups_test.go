package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/fault"
)

// quick has movers and those who look after them work at the pace of tests.
func quick(url string) Options {
	o := options(url)
	o.beat, o.tend, o.poll = 20*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond
	return o
}

// twoGroups opens nodes on a cluster of a home group and one that is called "second".
func twoGroups(t testing.TB, nodes ...func(*Options)) (list []*Engine, urls [2]string) {
	t.Helper()
	urls = [2]string{pgtest.Shared(t), pgtest.Shared(t)}
	for _, with := range nodes {
		o := quick(urls[0])
		with(&o)
		list = append(list, open(t, o))
	}
	if _, err := list[0].AddGroup(t.Context(), "second", urls[1]); err != nil {
		t.Fatal(err)
	}
	return list, urls
}

func plain(*Options) {}

const acct = accountShards

func putAll(t testing.TB, e *Engine, id engine.Shard, pairs ...string) {
	t.Helper()
	err := e.Update(context.Background(), id, func(w engine.Writer) error {
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

func content(t testing.TB, e *Engine, id engine.Shard) (lines []string) {
	t.Helper()
	err := e.View(context.Background(), id, func(r engine.Reader) error {
		lines = nil
		return r.Scan(nil, nil, false, func(k, v []byte) bool {
			lines = append(lines, string(k)+"="+string(v))
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// placeOf returns the group of an account, as the home group has it.
func placeOf(t testing.TB, e *Engine, id engine.Shard) int64 {
	t.Helper()
	place, placed, err := e.lookUp(t.Context(), id)
	if err != nil || !placed {
		t.Fatalf("shard %d has no place: %v", id, err)
	}
	return place
}

func TestMove(t *testing.T) {
	never := func(o *Options) { o.tend = time.Hour }
	nodes, _ := twoGroups(t, never, never)
	a, b := nodes[0], nodes[1]
	putAll(t, a, acct+1, "k", "v", "l", "w")
	from := placeOf(t, a, acct+1)
	names := []string{HomeGroup, "second"}
	ticks, stop := b.Watch(acct + 1)
	defer stop()
	var foreign atomic.Int64
	defer b.Foreign(acct+1, func() { foreign.Add(1) })()
	for round := range 4 {
		to := names[1-from]
		plan, err := a.PlanMove(t.Context(), acct+1, to)
		if err != nil || plan.Source != names[from] || plan.Target != to || plan.KeysTotal != int64(2+round) {
			t.Fatalf("%+v, %v", plan, err)
		}
		var steps []string
		over := map[string]MoveProgress{} // the last word of each step
		err = nodes[round%2].Move(t.Context(), acct+1, to, func(p MoveProgress) {
			over[p.Step] = p
			if len(steps) == 0 || steps[len(steps)-1] != p.Step {
				steps = append(steps, p.Step)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(steps, " "); got != "copy verify freeze flip clean done" {
			t.Error(got)
		}
		for step, p := range over {
			if p.Keys != plan.KeysTotal || p.KeysTotal != plan.KeysTotal || p.Bytes != plan.BytesTotal || p.BytesTotal != plan.BytesTotal || p.Bytes == 0 {
				t.Errorf("at the end of %s: %+v", step, p)
			}
		}
		from = 1 - from
		if at := placeOf(t, b, acct+1); at != from {
			t.Errorf("it is in group %d", at)
		}
		for i, e := range nodes {
			if got := content(t, e, acct+1); len(got) != 2+round {
				t.Errorf("round %d, node %d: %q", round, i, got)
			}
		}
		putAll(t, a, acct+1, fmt.Sprint("round", round), "x")
		<-ticks // of the move, or of this
		if got := content(t, b, acct+1); len(got) != 3+round {
			t.Errorf("round %d: %q", round, got)
		}
	}
	for id, from := range map[engine.Shard]string{acct + 1: HomeGroup, acct + 2: ""} { // it is there, and there is nothing of it
		var last MoveProgress
		if err := a.Move(t.Context(), id, HomeGroup, func(p MoveProgress) { last = p }); err != nil || last.Step != "done" || last.Source != from || last.Target != HomeGroup {
			t.Errorf("%+v, %v", last, err)
		}
	}
	if foreign.Load() == 0 {
		t.Error("nobody heard of anything")
	}
	if list, err := a.Moves(t.Context()); len(list) > 0 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
	for i := range int64(2) { // and it lies in one group only
		keys, _, err := a.ground(i).weigh(t.Context(), acct+1)
		if err != nil || keys != 6*b2i(i == from) {
			t.Errorf("%d keys in group %d, %v", keys, i, err)
		}
	}
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// TestContractOnGroups is the contract where shards lie in two groups.
func TestContractOnGroups(t *testing.T) {
	enginetest.Run(t, enginetest.Harness{
		Open: func(t *testing.T, now func() time.Time) engine.Engine {
			nodes, _ := twoGroups(t, func(o *Options) { o.Now = now })
			return accounts{nodes[0]}
		},
		Reopen: func(t *testing.T, e engine.Engine) engine.Engine {
			old := e.(accounts).Engine
			if err := old.Close(); err != nil {
				t.Fatal(err)
			}
			return accounts{open(t, old.opt)}
		},
		Runs: 3,
	})
}

// accounts takes all shards for accounts, so that each has a place.
type accounts struct{ *Engine }

func (accounts) turned(id engine.Shard) engine.Shard { return id ^ 1<<40 }

func (a accounts) View(ctx context.Context, id engine.Shard, fn func(engine.Reader) error) error {
	return a.Engine.View(ctx, a.turned(id), fn)
}

func (a accounts) Update(ctx context.Context, id engine.Shard, fn func(engine.Writer) error) error {
	return a.Engine.Update(ctx, a.turned(id), fn)
}

func (a accounts) Watch(id engine.Shard) (<-chan struct{}, func()) {
	return a.Engine.Watch(a.turned(id))
}

func (a accounts) Shards(ctx context.Context) ([]engine.Shard, error) {
	list, err := a.Engine.Shards(ctx)
	for i, id := range list {
		list[i] = a.turned(id)
	}
	slices.Sort(list)
	return list, err
}

// TestPlaces: accounts go to the group with the fewest, system shards stay at home, and a
// node that does not know a group yet finds what is there.
func TestPlaces(t *testing.T) {
	never := func(o *Options) { o.tend = time.Hour }
	nodes, _ := twoGroups(t, never, never)
	a, b := nodes[0], nodes[1]
	if len(a.all()) != 2 || len(b.all()) != 1 {
		t.Fatalf("%d and %d groups are known", len(a.all()), len(b.all()))
	}
	for id := range engine.Shard(10) {
		putAll(t, a, id, "k", "system")
		if got := content(t, b, acct+id); len(got) > 0 {
			t.Errorf("an account that nobody has written to: %q", got)
		}
		ticks, stop := b.Watch(acct + id)
		putAll(t, a, acct+id, "k", "account")
		if got := content(t, b, acct+id); len(got) != 1 {
			t.Errorf("account %d: %q", id, got)
		}
		putAll(t, a, acct+id, "l", "account")
		<-ticks
		stop()
	}
	in := map[int64]int{}
	for id := range engine.Shard(10) {
		in[placeOf(t, a, acct+id)]++
	}
	if in[0] != 5 || in[1] != 5 {
		t.Errorf("%v", in)
	}
	for i := range int64(2) {
		keys, _, err := a.ground(i).weigh(t.Context(), 3)
		if err != nil || keys != b2i(i == 0) {
			t.Errorf("%d keys of a system shard in group %d: %v", keys, i, err)
		}
	}
	for _, e := range nodes {
		list, err := e.Shards(t.Context())
		if err != nil || len(list) != 20 || !slices.IsSorted(list) {
			t.Errorf("%v, %v", list, err)
		}
	}
	if err := a.SetFull(t.Context(), "second", true); err != nil {
		t.Fatal(err)
	}
	for id := range engine.Shard(4) {
		putAll(t, a, acct+20+id, "k", "v")
	}
	groups, err := b.Groups(t.Context())
	if err != nil || len(groups) != 2 || groups[0].Accounts != 9 || groups[1].Accounts != 5 || !groups[1].Full || groups[0].Full || groups[1].Size == 0 {
		t.Errorf("%+v, %v", groups, err)
	}
	// Two nodes that write to an account first agree on its place.
	var both sync.WaitGroup
	for i := range engine.Shard(10) {
		for _, e := range nodes {
			both.Go(func() { putAll(t, e, acct+40+i, fmt.Sprint(e == a), "v") })
		}
	}
	both.Wait()
	for i := range engine.Shard(10) {
		if got := content(t, a, acct+40+i); len(got) != 2 {
			t.Errorf("account %d: %q", 40+i, got)
		}
	}
}

func TestFewest(t *testing.T) {
	m := func(number int64, full bool) *member { return &member{group: &group{home: number}, full: full} }
	for _, c := range []struct {
		groups []*member
		loads  map[int64]int64
		want   int64
	}{
		{[]*member{m(0, false)}, nil, 0},
		{[]*member{m(0, false), m(1, false)}, nil, 0},
		{[]*member{m(0, false), m(1, false)}, map[int64]int64{0: 1}, 1},
		{[]*member{m(0, false), m(1, true)}, map[int64]int64{0: 1}, 0},
		{[]*member{m(0, true), m(1, false), m(2, false)}, map[int64]int64{1: 9, 2: 8}, 2},
		{[]*member{m(0, true), m(1, true)}, map[int64]int64{0: 9, 1: 8}, 1},
	} {
		if got := fewest(c.groups, c.loads); got != c.want {
			t.Errorf("%v: %d, not %d", c.loads, got, c.want)
		}
	}
}

// TestAddGroup: a database that is a group, or holds a store, is refused; whoever adds one is
// not stopped by having been killed in the middle.
func TestAddGroup(t *testing.T) {
	nodes, urls := twoGroups(t, plain)
	e := nodes[0]
	for name, c := range map[string]struct {
		name, url string
		kind      fault.Kind
	}{
		"the home group": {"third", urls[0], fault.Exists},
		"a group":        {"third", urls[1], fault.Exists},
		"a name":         {"second", pgtest.Shared(t), fault.Exists},
		"no name":        {"Third one", urls[1], fault.Invalid},
		"no address":     {"third", "host=::: port=x", fault.Invalid},
	} {
		if _, err := e.AddGroup(t.Context(), c.name, c.url); !fault.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	used := pgtest.Shared(t)
	alone := open(t, quick(used))
	putAll(t, alone, 1, "k", "v")
	if _, err := e.AddGroup(t.Context(), "third", used); !fault.Is(err, fault.Exists) {
		t.Errorf("a store of its own: %v", err)
	}
	half := pgtest.Shared(t)
	cluster, err := e.cluster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.enlist(t.Context(), half, 2, cluster); err != nil {
		t.Fatal(err)
	}
	g, err := e.AddGroup(t.Context(), "third", half)
	if err != nil || g.Number != 2 {
		t.Errorf("%+v, %v", g, err)
	}
	groups, err := e.Groups(t.Context())
	if err != nil || len(groups) != 3 || groups[0].Name != HomeGroup || groups[2].Name != "third" {
		t.Errorf("%+v, %v", groups, err)
	}
}

func TestPasswordsAreNotShown(t *testing.T) {
	for url, want := range map[string]string{
		"postgres://martlet@db/martlet":                                "postgres://martlet@db/martlet",
		"postgres://martlet:s3cret@db1,db2:5433/martlet":               "postgres://martlet@db1,db2:5433/martlet",
		"postgres://db/martlet?user=u&password=s3cret&sslmode=disable": "postgres://db/martlet?user=u&sslmode=disable",
		"host=db password=s3cret dbname=martlet":                       "host=db dbname=martlet",
		"host=db password = 'two s3cret \\' words' dbname=martlet":     "host=db dbname=martlet",
		"host=db PASSWORD=s3cret":                                      "host=db",
	} {
		if got := withoutPassword(url); got != want || strings.Contains(got, "s3cret") {
			t.Errorf("%s: %s", url, got)
		}
	}
}

// TestGroupDown: a group that is down holds up its accounts and nobody else's, and a node may
// begin meanwhile.
func TestGroupDown(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{})
	o := quick(pgtest.Shared(t))
	hasty := engine.Patient(t.Context(), 300*time.Millisecond)
	e := open(t, o)
	if _, err := e.AddGroup(t.Context(), "second", server.Database(t, "second")); err != nil {
		t.Fatal(err)
	}
	putAll(t, e, acct, "k", "v")
	putAll(t, e, acct+1, "k", "v")
	there, here := acct, acct+1
	if placeOf(t, e, acct) == 0 {
		there, here = here, there
	}
	putAll(t, e, 0, "k", "v")
	if d := e.Doors(); len(d) != 2 || d[0].Name != HomeGroup || d[0].URL != o.URL || d[1].Name != "second" || d[0].Down != nil || d[1].Down != nil {
		t.Errorf("%+v", d)
	}
	server.Kill()
	view := func(ctx context.Context, e *Engine, id engine.Shard) error {
		return e.View(ctx, id, func(r engine.Reader) error {
			_, _, err := r.Get([]byte("k"))
			return err
		})
	}
	for _, e := range []*Engine{e, open(t, o)} {
		if err := view(hasty, e, there); !fault.Is(err, fault.Unavailable) {
			t.Errorf("where the database is down: %v", err)
		}
		for _, id := range []engine.Shard{here, 0} {
			if err := view(t.Context(), e, id); err != nil {
				t.Errorf("shard %d: %v", id, err)
			}
			putAll(t, e, id, "k", "w")
		}
		if err := e.Healthy(); err != nil {
			t.Errorf("healthy: %v", err)
		}
		if err := e.Move(hasty, here, "second", nil); !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Busy) {
			t.Errorf("a move there: %v", err)
		}
		putAll(t, e, here, "l", "x") // it is not frozen for that
		if groups, err := e.Groups(t.Context()); err != nil || groups[1].Down == "" || groups[0].Down != "" {
			t.Errorf("%+v, %v", groups, err)
		}
		if d := e.Doors(); d[0].Down != nil || d[1].Down == nil || d[1].Other {
			t.Errorf("%+v", d)
		}
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	for len(content(t, e, there)) != 1 {
	}
	if err := e.await(t.Context(), here, "second"); err != nil { // somebody goes on with it
		t.Error(err)
	}
	if got := content(t, e, here); len(got) != 2 {
		t.Errorf("%q", got)
	}
	for e.Doors()[1].Down != nil { // until the next pulse
		time.Sleep(10 * time.Millisecond)
	}
}
