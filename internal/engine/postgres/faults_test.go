package postgres

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/fault"
)

// wired returns an engine that reaches a database of its own by a wire that the test can
// break.
func wired(t *testing.T, s *pgtest.Server, name string, set func(*Options)) (*Engine, *pgtest.Proxy) {
	t.Helper()
	p := pgtest.NewProxy(t, s.Address())
	opt := options(s.DatabaseTCP("postgres", p.Address()) + " search_path=" + name)
	opt.statement = 400 * time.Millisecond
	if set != nil {
		set(&opt)
	}
	e := open(t, opt)
	warm(t, e, 3)
	return e, p
}

// add adds one to a number, which does not bear being done twice.
func add(w engine.Writer) error {
	v, _, err := w.Get([]byte("n"))
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(string(v))
	return w.Put([]byte("n"), []byte(strconv.Itoa(n+1)))
}

func number1(t *testing.T, e *Engine) int {
	t.Helper()
	n := 0
	err := e.View(t.Context(), 1, func(r engine.Reader) error {
		v, _, err := r.Get([]byte("n"))
		n, _ = strconv.Atoi(string(v))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCutWire: a commit whose connection breaks happens once: whether the server had it or
// not, with an answer that was lost, many times in a row.
func TestCutWire(t *testing.T) {
	s := pgtest.SharedServer(t)
	for name, test := range map[string]struct {
		pattern string
		after   bool
	}{"before": {"m_guarded", false}, "after": {"m_guarded", true}, "first": {"m_first", true}, "read": {"m_heads", true}} {
		t.Run(name, func(t *testing.T) {
			s.Schema(t, "cut_"+name)
			e, p := wired(t, s, "cut_"+name, nil)
			const times = 3
			want := 0
			if name != "first" {
				if err := e.Update(t.Context(), 1, add); err != nil {
					t.Fatal(err)
				}
				want++
			}
			sprung := p.CutAt(test.pattern, test.after, times)
			for range 6 {
				if err := e.Update(t.Context(), 1, add); err != nil {
					t.Fatal(err)
				}
				if want++; number1(t, e) != want {
					t.Fatalf("%d, not %d", number1(t, e), want)
				}
				if name == "first" {
					break
				}
			}
			if name != "first" {
				<-sprung
			}
			if doubts := e.Stats().Doubts.Load(); name != "read" && doubts == 0 {
				t.Error("no commit was in doubt")
			}
			if e.Stats().Unknown.Load() > 0 {
				t.Error("it remained unknown")
			}
		})
	}
}

// TestLateCommit: a commit that was taken for lost does not come after all.
func TestLateCommit(t *testing.T) {
	s := pgtest.SharedServer(t)
	run := func(t *testing.T, name string, set func(*Options)) (now int, err error) {
		s.Schema(t, name)
		e, p := wired(t, s, name, set)
		if err := e.Update(t.Context(), 1, add); err != nil {
			t.Fatal(err)
		}
		caught, release := p.Late("m_guarded")
		runs := 0
		sorry := errors.New("sorry")
		err = e.Update(t.Context(), 1, func(w engine.Writer) error {
			if runs++; runs > 1 {
				return sorry // the caller is told that nothing was written
			}
			return add(w)
		})
		<-caught
		release()
		if !errors.Is(err, sorry) {
			t.Errorf("%v after %d runs", err, runs)
		}
		time.Sleep(300 * time.Millisecond) // for what is late to be done
		return number1(t, open(t, options(s.URL()+" search_path="+name))), err
	}
	if now, _ := run(t, "late", nil); now != 1 {
		t.Errorf("it has come: %d", now)
	}
	t.Run("control", func(t *testing.T) {
		if now, _ := run(t, "late_control", func(o *Options) { o.without.fence = true }); now != 2 {
			t.Errorf("without the fence nothing comes late: %d; the test proves nothing", now)
		}
	})
}

// TestFrozenServer: while a server hangs calls wait, as long as they are patient, and then go
// on; nothing is done twice.
func TestFrozenServer(t *testing.T) {
	t.Parallel() // it has servers of its own, and waits most of the time
	s := pgtest.Start(t, pgtest.Options{})
	e, _ := wired(t, s, "public", func(o *Options) { o.poll = 100 * time.Millisecond })
	if err := e.Update(t.Context(), 1, add); err != nil {
		t.Fatal(err)
	}
	s.Freeze()
	hasty := engine.Patient(t.Context(), 300*time.Millisecond)
	if err := e.View(hasty, 1, func(engine.Reader) error { return nil }); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a hasty view: %v", err)
	}
	for e.Healthy() == nil { // the test's time limit ends it
		time.Sleep(10 * time.Millisecond)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := e.Update(t.Context(), 1, add); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := e.View(t.Context(), 1, func(engine.Reader) error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(1500 * time.Millisecond)
	s.Thaw()
	wg.Wait()
	if n := number1(t, e); n != 5 {
		t.Errorf("%d, not 5", n)
	}
	for e.Healthy() != nil {
		time.Sleep(10 * time.Millisecond)
	}
}

// TestWaitedOnce: what a call has waited for in vain, as long as it is patient, it does not wait for
// again.
func TestWaitedOnce(t *testing.T) {
	s := pgtest.SharedServer(t)
	s.Schema(t, "once")
	e, p := wired(t, s, "once", nil)
	p.Refuse(true)
	p.Cut()
	ctx, runs := engine.Patient(t.Context(), 300*time.Millisecond), 0
	read := func(r engine.Reader) error {
		runs++
		_, _, err := r.Get([]byte("k"))
		return err
	}
	for what, call := range map[string]func() error{
		"View":   func() error { return e.View(ctx, 78, read) },
		"Update": func() error { return e.Update(ctx, 79, func(w engine.Writer) error { return read(w) }) },
	} {
		runs = 0
		if err := call(); !fault.Is(err, fault.Unavailable) || runs != 1 {
			t.Errorf("%s: %d times: %v", what, runs, err)
		}
	}
}

// TestNoServer: Open gives up in time, and tells what is wrong with an address.
func TestNoServer(t *testing.T) {
	opt := options("host=127.0.0.1 port=1 user=postgres sslmode=disable")
	opt.Patience = 50 * time.Millisecond
	if _, err := Open(context.Background(), opt); !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
	opt.URL = "postgres://%%%"
	if _, err := Open(context.Background(), opt); !fault.Is(err, fault.Invalid) {
		t.Errorf("%v", err)
	}
}

// TestNewerFormat: tables of another version are left alone.
func TestNewerFormat(t *testing.T) {
	s := pgtest.SharedServer(t)
	s.Schema(t, "newer")
	opt := options(s.URL() + " search_path=newer")
	open(t, opt).Close()
	if err := s.SQL(`UPDATE newer.meta SET value = '\x09' WHERE key = 'format'`); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), opt); !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "9") {
		t.Errorf("%v", err)
	}
}

// TestSerialization: what the database gives up because of others is done again; what it
// refuses for good is not, and harms nobody else.
func TestSerialization(t *testing.T) {
	s := pgtest.SharedServer(t)
	s.Schema(t, "serial")
	opt := options(s.URL() + " search_path=serial")
	e := open(t, opt)
	if err := e.Update(t.Context(), 1, add); err != nil {
		t.Fatal(err)
	}
	err := s.SQL("CREATE SEQUENCE serial.times", `CREATE FUNCTION serial.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.shard = 2 THEN RAISE EXCEPTION 'not this one' USING ERRCODE = '23514'; END IF;
		IF NEW.key = 'n' AND nextval('serial.times') <= 4 THEN
			RAISE EXCEPTION 'again' USING ERRCODE = CASE WHEN currval('serial.times') % 2 = 0 THEN '40001' ELSE '40P01' END; END IF;
		RETURN NEW; END $$`, "CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON serial.kv FOR EACH ROW EXECUTE FUNCTION serial.fail()")
	if err != nil {
		t.Fatal(err)
	}
	generation := func() uint64 {
		p := e.member(0).pool
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.generation
	}
	before := generation()
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if err := e.Update(t.Context(), 1, add); err != nil {
				t.Error(err)
			}
			err := e.Update(t.Context(), 2, func(w engine.Writer) error { return w.Put([]byte("x"), nil) })
			if !fault.Is(err, fault.Internal) {
				t.Errorf("what is refused for good: %v", err)
			}
		})
	}
	wg.Wait()
	if n := number1(t, e); n != 6 {
		t.Errorf("%d, not 6", n)
	}
	if n := e.Stats().Serialization.Load(); n == 0 {
		t.Error("nothing was given up")
	}
	if e.Stats().RowLocks.Load() == 0 {
		t.Error("no row was locked")
	}
	if generation() != before {
		t.Error("connections were given up for what the database has refused")
	}
}
