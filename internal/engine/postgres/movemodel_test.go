package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/fault"
)

// ledger is what clients of an account have been told. An account is a list of entries, and
// what follows from them in order.
type ledger struct {
	mu    sync.Mutex
	acks  map[string]int // id of an entry -> its number
	views int
	wrong error

	// Entries whose outcome remained unknown, which the contract allows where a server breaks and
	// other nodes go on meanwhile: what became of them is read at the end. nil: there may be none.
	doubts map[string]bool
}

func (l *ledger) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wrong == nil {
		l.wrong = err
	}
}

func entryKey(n int) []byte { return fmt.Appendf(nil, "e%08d", n) }

// apply is what an entry does to the rest of the account.
func apply(id string, put func(k, v string), cut func(from, to string)) {
	switch sum := int(id[len(id)-1]); sum % 5 {
	case 0: // a range goes, and some keys of it come
		cut("t", "u")
		put("t"+id, id)
	case 1:
		cut("t", "t-a-5")
	case 2:
		for i := range 20 {
			put(fmt.Sprintf("t-%s-%d", id, i), id)
		}
	default:
		put("t-last", id)
		put("t-"+id[:3], id)
	}
}

// write makes an entry.
func (l *ledger) write(ctx context.Context, e *Engine, shard engine.Shard, id string) {
	n := 0
	err := e.Update(ctx, shard, func(w engine.Writer) error {
		v, _, err := w.Get([]byte("n"))
		if err != nil {
			return err
		}
		n, _ = strconv.Atoi(string(v))
		var errs []error
		put := func(k, v string) { errs = append(errs, w.Put([]byte(k), []byte(v))) }
		put("n", strconv.Itoa(n+1))
		put(string(entryKey(n)), id)
		apply(id, put, func(from, to string) { errs = append(errs, w.DeleteRange([]byte(from), []byte(to))) })
		return errors.Join(errs...)
	})
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.acks[id] = n
	case fault.Is(err, fault.Unknown) && l.doubts != nil:
		l.doubts[id] = true
	case l.wrong == nil:
		l.wrong = fmt.Errorf("entry %s: %w", id, err)
	}
}

// decide reads what became of the entries in doubt.
func (l *ledger) decide(keys map[string]string, n int) {
	for at := range n {
		if id := keys[string(entryKey(at))]; l.doubts[id] {
			l.acks[id] = at
			delete(l.doubts, id) // a second one is too many
		}
	}
}

// read looks whether the account is whole, and not older than what was told before.
func (l *ledger) read(ctx context.Context, e *Engine, shard engine.Shard) {
	l.mu.Lock()
	told := len(l.acks)
	l.mu.Unlock()
	var keys map[string]string
	err := e.View(ctx, shard, func(r engine.Reader) error {
		keys = map[string]string{}
		return r.Scan(nil, nil, false, func(k, v []byte) bool {
			keys[string(k)] = string(v)
			return true
		})
	})
	if ctx.Err() != nil {
		return
	}
	n, wrong := whole(keys)
	if err == nil {
		err = wrong
	}
	if err == nil && n < told {
		err = fmt.Errorf("%d entries are shown, and %d were there before", n, told)
	}
	if err != nil {
		l.fail(fmt.Errorf("a view: %w", err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.views++
}

// whole holds an account against what follows from its entries.
func whole(keys map[string]string) (n int, err error) {
	n, _ = strconv.Atoi(keys["n"])
	want := map[string]string{}
	if n > 0 {
		want["n"] = keys["n"]
	}
	for i := range n {
		id := keys[string(entryKey(i))]
		if id == "" {
			return n, fmt.Errorf("entry %d of %d is not there", i, n)
		}
		want[string(entryKey(i))] = id
		apply(id, func(k, v string) { want[k] = v }, func(from, to string) {
			for k := range want {
				if k >= from && k < to {
					delete(want, k)
				}
			}
		})
	}
	if !maps.Equal(keys, want) {
		return n, fmt.Errorf("%d keys after %d entries, not %d, or others", len(keys), n, len(want))
	}
	return n, nil
}

// check holds an account against what was told, at the end.
func (l *ledger) check(t testing.TB, e *Engine, shard engine.Shard) error {
	keys := map[string]string{}
	for _, line := range content(t, e, shard) {
		k, v, _ := strings.Cut(line, "=")
		keys[k] = v
	}
	n, err := whole(keys)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wrong != nil {
		return l.wrong
	}
	l.decide(keys, n)
	if n != len(l.acks) {
		return fmt.Errorf("%d entries, and %d were told of", n, len(l.acks))
	}
	for id, at := range l.acks {
		if got := keys[string(entryKey(at))]; got != id {
			return fmt.Errorf("entry %d is %q, and was to be %q", at, got, id)
		}
	}
	return nil
}

// clients work on accounts from several nodes.
type clients struct {
	ledgers []*ledger
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// startClients has a client of each account work on each node. Where a server may break,
// outcomes may be unknown.
func startClients(nodes []*Engine, accounts int, breaks bool) *clients {
	ctx, stop := context.WithCancel(context.Background())
	c := &clients{stop: stop}
	for i := range accounts {
		l := &ledger{acks: map[string]int{}}
		if breaks {
			l.doubts = map[string]bool{}
		}
		c.ledgers = append(c.ledgers, l)
		shard := acct + engine.Shard(i)
		for j, e := range nodes {
			c.done.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					l.write(ctx, e, shard, fmt.Sprintf("%c-%d", 'a'+j, n))
					if n%3 == 0 {
						l.read(ctx, e, shard)
					}
					_ = pause(ctx, time.Duration(n%5)*time.Millisecond)
				}
			})
		}
	}
	return c
}

// end stops the clients and judges. What a client was not told is not counted: its last
// entry may be there.
func (c *clients) end(t testing.TB, e *Engine) error {
	c.stop()
	c.done.Wait()
	for i, l := range c.ledgers {
		shard := acct + engine.Shard(i)
		untold := map[string]string{}
		for _, line := range content(t, e, shard) {
			k, v, _ := strings.Cut(line, "=")
			l.mu.Lock()
			if _, told := l.acks[v]; strings.HasPrefix(k, "e") && !told && !l.doubts[v] {
				l.acks[v], _ = strconv.Atoi(k[1:])
				untold[v] = k
			}
			l.mu.Unlock()
		}
		if len(untold) > 2 { // one for each node
			return fmt.Errorf("account %d: entries that nobody was told of: %v", i, untold)
		}
		if err := l.check(t, e, shard); err != nil {
			return fmt.Errorf("account %d: %w", i, err)
		}
		t.Logf("account %d: %d entries, %d views, %d entries unknown that are not there", i, len(l.acks), l.views, len(l.doubts))
	}
	return nil
}

// killer ends a mover at its n-th step, or at the n-th of a name.
type killer struct {
	name atomic.Value
	left atomic.Int64 // until it strikes; below zero: never
}

func (k *killer) aim(name string, n int) {
	k.name.Store(name)
	k.left.Store(int64(n))
}

func (k *killer) each(step string) error {
	if name, _ := k.name.Load().(string); name != "" && name != step || k.left.Add(-1) != 0 {
		return nil
	}
	return errHalt
}

// TestMoveKilledAtEachStep kills a mover at each of its steps, while clients work on the
// account from two nodes: another goes on with the move, or undoes it, and nobody notices.
func TestMoveKilledAtEachStep(t *testing.T) {
	k := &killer{}
	still := func(o *Options) { o.tend = time.Hour } // nobody goes on by himself
	nodes, _ := twoGroups(t, func(o *Options) { still(o); o.eachStep = k.each }, still)
	a, b := nodes[0], nodes[1]
	names := []string{HomeGroup, "second"}
	c := startClients(nodes, 1, false)
	putAll(t, a, acct+5, "k", "v") // another, which is not touched
	for len(c.ledgers[0].told()) < 20 {
		time.Sleep(time.Millisecond)
	}
	steps := []string{"chunk"}
	for _, name := range []string{"incoming", "journal", "fill", "followed", "freeze", "flip", "moved", "live", "remove", "forget"} {
		steps = append(steps, "before "+name, "after "+name)
	}
	for i, step := range slices.Concat(steps, steps) { // gone on with, and undone
		var from int64
		var err error
		for range 20 { // a move may have no need of the step
			from = placeOf(t, b, acct)
			k.aim(step, 1+i/len(steps)*(i%2))
			if err = a.Move(t.Context(), acct, names[1-from], nil); err != nil || i >= len(steps) {
				break
			}
		}
		k.aim("", -1)
		if err != nil && !errors.Is(err, errHalt) || err == nil && i < len(steps) {
			t.Fatalf("%q: %v", step, err)
		}
		if list, err := b.Moves(t.Context()); err != nil || err != nil && len(list) != 1 && step != "after forget" {
			t.Fatalf("after %q: %v, %v", step, list, err)
		}
		want := 1 - from
		if i >= len(steps) && err != nil {
			err = b.AbortMove(t.Context(), acct)
			if at := placeOf(t, b, acct); at == from {
				want = from
			} else if fault.Is(err, fault.Exists) || fault.Is(err, fault.NotFound) { // it had been moved
				err = nil
			}
		} else {
			err = b.Move(t.Context(), acct, names[1-from], nil)
		}
		if err != nil {
			t.Fatalf("going on after %q: %v", step, err)
		}
		if at := placeOf(t, b, acct); at != want {
			t.Errorf("after %q it is in group %d", step, at)
		}
		if err := alone(t, b, acct, want); err != nil {
			t.Errorf("after %q: %v", step, err)
		}
	}
	if err := c.end(t, b); err != nil {
		t.Error(err)
	}
	if got := content(t, b, acct+5); len(got) != 1 {
		t.Errorf("another account: %q", got)
	}
}

// told returns what was told so far.
func (l *ledger) told() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.acks)
}

// alone returns nil if all of an account is in one group, and no journal of it anywhere.
func alone(t testing.TB, e *Engine, id engine.Shard, at int64) error {
	for _, m := range e.all() {
		g := e.ground(m.home)
		keys, _, err := g.weigh(t.Context(), id)
		if err != nil || (keys > 0) != (m.home == at) {
			return fmt.Errorf("%d keys in group %d, and it is in group %d: %w", keys, m.home, at, err)
		}
		if list, err := g.journal(t.Context(), id); err != nil || len(list) > 0 {
			return fmt.Errorf("a journal of %d entries in group %d: %w", len(list), m.home, err)
		}
	}
	return nil
}

// moveModel moves accounts to and fro for a while, kills movers, has others go on with their
// moves by themselves, and returns what went wrong.
func moveModel(t *testing.T, seed uint64, moves int, with func(*Options)) error {
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 5))
	kills := []*killer{{}, {}}
	nodes, _ := twoGroups(t,
		func(o *Options) { with(o); o.eachStep = kills[0].each },
		func(o *Options) { with(o); o.eachStep = kills[1].each })
	names := []string{HomeGroup, "second"}
	const accounts = 3
	c := startClients(nodes, accounts, false)
	killed := 0
	for range moves {
		i := random.IntN(2)
		id := acct + engine.Shard(random.IntN(accounts))
		kills[i].aim("", random.IntN(40))
		err := nodes[i].Move(t.Context(), id, names[random.IntN(2)], nil)
		kills[i].aim("", -1)
		switch {
		case errors.Is(err, errHalt):
			killed++
		case err != nil && !fault.Is(err, fault.Busy):
			c.stop()
			c.done.Wait()
			return fmt.Errorf("a move: %w", err)
		}
	}
	for until := time.Now().Add(20 * time.Second); ; { // others go on with what was killed
		list, err := nodes[0].Moves(t.Context())
		if err != nil {
			return err
		}
		if len(list) == 0 {
			break
		}
		if time.Now().After(until) {
			c.stop()
			c.done.Wait()
			return fmt.Errorf("nobody went on with %+v", list)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := c.end(t, nodes[0]); err != nil {
		return err
	}
	t.Logf("%d moves, %d killed", moves, killed)
	for i := range accounts {
		id := acct + engine.Shard(i)
		if err := alone(t, nodes[0], id, placeOf(t, nodes[0], id)); err != nil {
			return err
		}
	}
	return nil
}

func TestMoveModel(t *testing.T) {
	first, n := uint64(1), uint64(1)
	if s := os.Getenv("MARTLET_MOVE_SEEDS"); s != "" { // first-number
		if _, err := fmt.Sscanf(s, "%d-%d", &first, &n); err != nil {
			t.Fatal(err)
		}
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			if err := moveModel(t, seed, 16, plain); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestMoveModelCanFail: where the source is neither frozen nor marked as moved, so that the
// guard of commits has nothing to hold against, entries are lost.
func TestMoveModelCanFail(t *testing.T) {
	for seed := range uint64(30) { // the first, as a rule
		if err := moveModel(t, 10+seed, 6, func(o *Options) { o.without.freeze = true }); err != nil {
			if t.Logf("found: %v", err); strings.Contains(err.Error(), "entries") {
				return
			}
		}
	}
	t.Error("accounts were moved without a guard, and nothing was lost")
}

// TestStaleNode: a process that was asleep while an account was moved, in the middle of a
// change or with one on its wire, writes nothing where the account was.
func TestStaleNode(t *testing.T) {
	for name, limit := range map[string]time.Duration{"waits": 30 * time.Second, "asks": 200 * time.Millisecond} {
		t.Run(name, func(t *testing.T) { staleNode(t, limit) })
	}
}

// staleNode gives up on a statement after a limit, and then asks what became of it.
func staleNode(t *testing.T, limit time.Duration) {
	home := pgtest.Shared(t)
	server := pgtest.SharedServer(t)
	wire := pgtest.NewProxy(t, server.Address())
	o := quick(server.DatabaseTCP("postgres", wire.Address()) + home[strings.Index(home, " search_path="):])
	o.statement = limit
	awake := open(t, quick(home))
	if _, err := awake.AddGroup(t.Context(), "second", pgtest.Shared(t)); err != nil {
		t.Fatal(err)
	}
	stale := open(t, o)
	putAll(t, awake, acct, "a", "1") // at home: there are no others yet
	putAll(t, stale, acct, "b", "1") // it knows the place, and the state

	// In the middle of a change.
	asleep, wakes, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		done <- stale.Update(context.Background(), acct, func(w engine.Writer) error {
			v, _, err := w.Get([]byte("a"))
			once.Do(func() {
				close(asleep)
				<-wakes
			})
			return errors.Join(err, w.Put([]byte("c"), v))
		})
	}()
	<-asleep
	putAll(t, awake, acct, "a", "2")
	if err := awake.Move(t.Context(), acct, "second", nil); err != nil {
		t.Fatal(err)
	}
	putAll(t, awake, acct, "a", "3")
	close(wakes)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	check := func(want string) {
		t.Helper()
		if err := alone(t, awake, acct, 1); err != nil {
			t.Error(err)
		}
		if got := strings.Join(content(t, awake, acct), " "); got != want {
			t.Errorf("%s", got)
		}
	}
	check("a=3 b=1 c=3")

	// With a commit on the wire.
	if err := awake.Move(t.Context(), acct, HomeGroup, nil); err != nil {
		t.Fatal(err)
	}
	putAll(t, stale, acct, "b", "2")
	caught, release := wire.Late("m_guarded")
	go func() {
		done <- stale.Update(context.Background(), acct, func(w engine.Writer) error { return w.Put([]byte("d"), []byte("1")) })
	}()
	<-caught
	if err := awake.Move(t.Context(), acct, "second", nil); err != nil {
		t.Fatal(err)
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // for what is late
	check("a=3 b=2 c=3 d=1")
}

// TestMoveServerKilled kills the database that an account moves to, or comes from, in the
// middle, and starts it again: clients wait, and the move is brought to its end.
func TestMoveServerKilled(t *testing.T) {
	t.Parallel() // it has servers of its own, and waits most of the time
	server := pgtest.Start(t, pgtest.Options{})
	random := rand.New(rand.NewPCG(3, 3))
	home, second := pgtest.Shared(t), server.Database(t, "second")
	var nodes []*Engine
	for range 2 {
		o := quick(home)
		o.statement = time.Second
		nodes = append(nodes, open(t, o))
	}
	if _, err := nodes[0].AddGroup(t.Context(), "second", second); err != nil {
		t.Fatal(err)
	}
	c := startClients(nodes, 2, true)
	for n := range 2 {
		id := acct + engine.Shard(n%2)
		moved := make(chan error, 1)
		go func() { moved <- nodes[n%2].Move(context.Background(), id, []string{"second", HomeGroup}[n], nil) }()
		time.Sleep(time.Duration(random.IntN(120)) * time.Millisecond)
		server.Kill()
		time.Sleep(50 * time.Millisecond)
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		if err := <-moved; err != nil && !fault.Is(err, fault.Busy) {
			t.Errorf("move %d: %v", n, err)
		}
	}
	if err := c.end(t, nodes[0]); err != nil {
		t.Error(err)
	}
}

// TestUnknownEntry: an entry whose commit was cut off while another node made more than can be
// looked back on is unknown, be it there or not, and the model finds out which. One that may not
// be is found wrong.
func TestUnknownEntry(t *testing.T) {
	s := pgtest.SharedServer(t)
	for name, there := range map[string]bool{"there": true, "not": false} {
		t.Run(name, func(t *testing.T) {
			s.Schema(t, "unknown_"+name)
			a, wire := wired(t, s, "unknown_"+name, nil)
			b := open(t, options(s.URL()+" search_path=unknown_"+name))
			l := &ledger{acks: map[string]int{}, doubts: map[string]bool{}}
			l.write(t.Context(), a, acct, "a-0")
			wire.Refuse(true)
			sprung := wire.CutAt("m_guarded", there, 1)
			done := make(chan struct{})
			go func() {
				defer close(done)
				l.write(t.Context(), a, acct, "a-1") // puts alone
			}()
			<-sprung
			for there && len(content(t, b, acct)) < 6 {
				time.Sleep(time.Millisecond)
			}
			for i := range trailTokens + 2 {
				l.write(t.Context(), b, acct, fmt.Sprintf("b-%d1", i))
			}
			wire.Refuse(false)
			<-done
			if len(l.doubts) != 1 {
				t.Fatalf("%d outcomes are unknown: the test proves nothing", len(l.doubts))
			}
			if err := l.check(t, b, acct); err != nil {
				t.Error(err)
			}
			if _, found := l.acks["a-1"]; found != there {
				t.Errorf("found: %v", found)
			}
			delete(l.acks, "a-1")
			if err := l.check(t, b, acct); (err != nil) != there {
				t.Errorf("of an entry that nobody was told of: %v", err)
			}
		})
	}
}
