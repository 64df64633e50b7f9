package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/fault"
)

// register is what writers were told of their changes.
type register struct {
	mu      sync.Mutex
	sure    map[string]bool // that were acknowledged
	unknown map[string]bool
	wrong   atomic.Int64
}

// write has writers make changes on two nodes until stop, each a record of its own.
func (l *register) write(ctx context.Context, nodes []*Engine, writers int, stop <-chan struct{}) *sync.WaitGroup {
	l.sure, l.unknown = map[string]bool{}, map[string]bool{}
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				key := fmt.Sprintf("%d/%d", i, n)
				err := nodes[i%len(nodes)].Update(ctx, engine.Shard(i%3), func(w engine.Writer) error {
					if _, there, err := w.Get([]byte(key)); err != nil || there {
						return errors.Join(err, errTwice)
					}
					return errors.Join(add(w), w.Put([]byte(key), nil))
				})
				l.mu.Lock()
				switch {
				case err == nil:
					l.sure[key] = true
				case fault.Is(err, fault.Unknown):
					l.unknown[key] = true
				case errors.Is(err, errTwice):
					l.wrong.Add(1) // it was done, and was to be done again
				}
				l.mu.Unlock()
			}
		})
	}
	return &wg
}

// more waits until so many more changes have been acknowledged; the test's time limit ends it.
func (l *register) more(n int) {
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.sure)
	}
	for goal := count() + n; count() < goal; {
		time.Sleep(5 * time.Millisecond)
	}
}

var errTwice = errors.New("it is there already")

// check returns how many changes are missing that were acknowledged. What is there must be
// each once: their number is kept beside them.
func (l *register) check(t *testing.T, e *Engine) (missing int) {
	t.Helper()
	there := map[string]bool{}
	for id := range engine.Shard(3) {
		sum, n := 0, 0
		err := e.View(t.Context(), id, func(r engine.Reader) error {
			sum, n = 0, 0
			return r.Scan(nil, nil, false, func(k, v []byte) bool {
				if string(k) == "n" {
					_, _ = fmt.Sscan(string(v), &sum)
					return true
				}
				there[string(k)] = true
				n++
				return true
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		if sum != n {
			t.Errorf("shard %d: %d changes, counted as %d", id, n, sum)
		}
	}
	for key := range l.sure {
		if !there[key] {
			missing++
		}
	}
	for key := range there {
		if !l.sure[key] && !l.unknown[key] {
			t.Errorf("%s is there, and nobody was told so", key)
		}
	}
	t.Logf("%d acknowledged, %d unknown, %d there, %d missing", len(l.sure), len(l.unknown), len(there), missing)
	return missing
}

// TestKilledServer: a server that is killed while many write comes back with all that was
// acknowledged, each change once.
func TestKilledServer(t *testing.T) {
	t.Parallel() // it has servers of its own, and waits most of the time
	s := pgtest.Start(t, pgtest.Options{})
	var nodes []*Engine
	for range 2 {
		e, _ := wired(t, s, "public", nil)
		nodes = append(nodes, e)
	}
	var l register
	stop := make(chan struct{})
	wg := l.write(t.Context(), nodes, 6, stop)
	for range 2 {
		l.more(30)
		s.Kill()
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
	}
	l.more(30)
	close(stop)
	wg.Wait()
	for _, e := range nodes {
		if missing := l.check(t, e); missing > 0 || l.wrong.Load() > 0 {
			t.Errorf("%d missing, %d done twice", missing, l.wrong.Load())
		}
	}
}

// failOver runs writers, has the standby lag if it is one that nobody waits for, kills the
// primary and promotes the standby.
func failOver(t *testing.T, synchronous bool, set func(*Options)) (nodes []*Engine, l *register, now *pgtest.Server) {
	primary := pgtest.Start(t, pgtest.Options{})
	standby, name := primary.Standby(t)
	if synchronous {
		primary.Synchronous(t, name)
	}
	p := pgtest.NewProxy(t, primary.Address())
	for range 2 {
		opt := options(primary.DatabaseTCP("postgres", p.Address()))
		opt.statement = 400 * time.Millisecond
		if set != nil {
			set(&opt)
		}
		nodes = append(nodes, open(t, opt))
	}
	l = &register{}
	stop := make(chan struct{})
	wg := l.write(t.Context(), nodes, 6, stop)
	l.more(30)
	if synchronous {
		// Commits are on their way that the standby has, and that nobody was told of.
		p.Pause()
		time.Sleep(50 * time.Millisecond)
	} else {
		standby.Kill()
		l.more(30)
	}
	primary.Kill()
	if !synchronous {
		if err := standby.Start(); err != nil {
			t.Fatal(err)
		}
	}
	standby.Promote(t)
	p.Target(standby.Address())
	p.Resume()
	p.Cut()
	l.more(30)
	close(stop)
	wg.Wait()
	return nodes, l, standby
}

// TestPromotion: a synchronous standby takes over, and nothing that was acknowledged is
// missing, nor is anything done twice. The control, a standby that nobody waits for, loses
// something.
func TestPromotion(t *testing.T) {
	t.Parallel() // it has servers of its own, and waits most of the time
	nodes, l, _ := failOver(t, true, nil)
	for _, e := range nodes {
		if missing := l.check(t, e); missing > 0 || l.wrong.Load() > 0 {
			t.Errorf("%d missing, %d done twice", missing, l.wrong.Load())
		}
	}
	if doubts := nodes[0].Stats().Doubts.Load() + nodes[1].Stats().Doubts.Load(); doubts == 0 {
		t.Error("no commit was in doubt")
	}
}

// TestLostCommits: after a failover that lost what was acknowledged, nobody is shown what was
// in memory: identities do not come back, though the numbers do.
func TestLostCommits(t *testing.T) {
	t.Parallel() // it has servers of its own, and waits most of the time
	lies := func(t *testing.T, set func(*Options)) (lies int) {
		nodes, l, now := failOver(t, false, set)
		fresh := open(t, options(now.URL()))
		if l.check(t, fresh) == 0 {
			t.Error("nothing was lost: the test proves nothing")
		}
		for id := range engine.Shard(3) {
			truth := contents(t, fresh, id)
			for _, e := range nodes {
				if !maps.Equal(contents(t, e, id), truth) {
					lies++
				}
			}
		}
		return lies
	}
	if n := lies(t, nil); n > 0 {
		t.Errorf("%d shards are shown as they were", n)
	}
}

// TestReturningNumbers: states with the same number are not the same.
func TestReturningNumbers(t *testing.T) {
	lies := func(t *testing.T, name string, set func(*Options)) bool {
		s := pgtest.SharedServer(t)
		s.Schema(t, name)
		opt := options(s.URL() + " search_path=" + name)
		set(&opt)
		a, b := open(t, opt), open(t, opt)
		put := func(e *Engine, value string) {
			t.Helper()
			if err := e.Update(t.Context(), 1, func(w engine.Writer) error { return w.Put([]byte("k"), []byte(value)) }); err != nil {
				t.Fatal(err)
			}
		}
		put(a, "first")
		save := fmt.Sprintf("CREATE TABLE %[1]s.s AS TABLE %[1]s.shards; CREATE TABLE %[1]s.k AS TABLE %[1]s.kv", name)
		back := fmt.Sprintf("BEGIN; TRUNCATE %[1]s.shards, %[1]s.kv; INSERT INTO %[1]s.shards TABLE %[1]s.s; INSERT INTO %[1]s.kv TABLE %[1]s.k; COMMIT", name)
		if err := s.SQL(save); err != nil {
			t.Fatal(err)
		}
		put(a, "lost")
		if err := s.SQL(back); err != nil { // as a failover does that loses a commit
			t.Fatal(err)
		}
		put(b, "in its place")
		return contents(t, a, 1)["k"] != "in its place"
	}
	if lies(t, "numbers", func(*Options) {}) {
		t.Error("a node shows what was lost")
	}
	if !lies(t, "numbers_control", func(o *Options) { o.without.token = true }) {
		t.Error("without tokens nobody shows what was lost: the test proves nothing")
	}
}

func contents(t *testing.T, e *Engine, id engine.Shard) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := e.View(t.Context(), id, func(r engine.Reader) error {
		clear(all)
		return r.Scan(nil, nil, false, func(k, v []byte) bool { all[string(k)] = string(v); return true })
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestCancelledWait: a commit whose wait for the replica is cancelled from outside is not
// acknowledged before the replica has it.
func TestCancelledWait(t *testing.T) {
	t.Parallel() // it has servers of its own, and waits most of the time
	primary := pgtest.Start(t, pgtest.Options{})
	standby, name := primary.Standby(t)
	primary.Synchronous(t, name)
	e := open(t, options(primary.URL()))
	warm(t, e, 3)
	if err := e.Update(t.Context(), 1, add); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"pg_cancel_backend", "pg_terminate_backend"} {
		standby.Freeze()
		var acknowledged atomic.Bool
		done := make(chan error)
		go func() {
			err := e.Update(t.Context(), 1, add)
			acknowledged.Store(true)
			done <- err
		}()
		for range 3 { // the commit, and then those that are to make it durable
			for range 200 {
				out, err := primary.Query("SELECT count(" + how + "(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
				if err != nil {
					t.Fatal(err)
				}
				if out != "0" {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
		if acknowledged.Load() {
			t.Errorf("%s: acknowledged before the replica has it", how)
		}
		standby.Thaw()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", how, err)
		}
	}
	if n := number1(t, e); n != 3 {
		t.Errorf("%d, not 3", n)
	}
	if e.Stats().Vouched.Load() == 0 {
		t.Error("no wait was cancelled")
	}
}

// TestUnshownAfterRestart: what only a dead primary's disk has is shown to nobody before the
// replica has it too.
func TestUnshownAfterRestart(t *testing.T) {
	t.Parallel() // it has servers of its own, and waits most of the time
	primary := pgtest.Start(t, pgtest.Options{})
	standby, name := primary.Standby(t)
	primary.Synchronous(t, name)
	e := open(t, options(primary.URL()))
	warm(t, e, 3)
	if err := e.Update(t.Context(), 1, add); err != nil {
		t.Fatal(err)
	}
	standby.Freeze()
	done := make(chan error, 1)
	go func() { done <- e.Update(t.Context(), 1, add) }()
	for range 500 {
		if out, _ := primary.Query("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"); out != "0" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	primary.Kill() // with the commit on its disk
	if err := primary.Start(); err != nil {
		t.Fatal(err)
	}
	out, err := primary.Query("SELECT value FROM kv WHERE shard = 1")
	if err != nil || out != `\x32` {
		t.Fatalf("the commit is not on the disk: %q, %v", out, err)
	}
	hasty := engine.Patient(t.Context(), 500*time.Millisecond)
	err = e.View(hasty, 1, func(r engine.Reader) error {
		v, _, err := r.Get([]byte("n"))
		if string(v) == "2" {
			t.Error("what the replica does not have was shown")
		}
		return err
	})
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
	standby.Thaw()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := number1(t, e); n != 2 {
		t.Errorf("%d, not 2", n)
	}
}
