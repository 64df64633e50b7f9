package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
)

const leaseTime = 10 * time.Second

// world is an engine with several nodes, in the time of synctest.
type world struct {
	t       *testing.T
	handles []*enginetest.Node
}

func newWorld(t *testing.T, n int) *world {
	e, err := pebble.Open("store", pebble.Options{FS: vfs.NewMem(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, handles: enginetest.Nodes(e, n)}
	t.Cleanup(func() {
		for _, h := range w.handles {
			h.Close()
		}
	})
	return w
}

// process is one run of a node.
type process struct {
	*Node
	t      *testing.T
	engine *enginetest.Node
	stop   func()
	ended  chan error
	wg     sync.WaitGroup
	ctx    context.Context
}

func (w *world) node(handle int, name string, change ...func(*Options)) *process {
	w.t.Helper()
	p, err := w.open(handle, name, change...)
	if err == nil {
		err = p.Join(w.t.Context())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	p.start()
	return p
}

func (w *world) open(handle int, name string, change ...func(*Options)) (*process, error) {
	begin := time.Now()
	p := &process{t: w.t, engine: w.handles[handle], ended: make(chan error, 1)}
	o := Options{
		Name: name, Lease: leaseTime, Version: "1.0", Format: 1, Random: rand.Reader, Now: time.Now,
		Elapsed: func() time.Duration { return time.Since(begin) },
		Log:     slog.New(slog.NewTextHandler(w.t.Output(), nil)),
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	p.Node, err = Open(w.t.Context(), p.engine, o)
	return p, err
}

func (p *process) start() {
	ctx, cancel := context.WithCancel(context.Background())
	p.ctx = ctx
	p.wg.Go(func() { p.ended <- p.Run(ctx) })
	p.stop = func() { cancel(); p.wg.Wait() }
	p.t.Cleanup(p.stop)
}

// leave ends a process as SIGTERM does.
func (p *process) leave() {
	p.stop()
	if err := p.Leave(context.Background()); err != nil {
		p.t.Error(err)
	}
}

// die ends a process as SIGKILL does: its engine is gone first.
func (p *process) die() {
	p.engine.Down(true)
	p.stop()
	p.engine.Down(false)
}

// roll is who is at work under a lease, in order.
type roll struct {
	mu   sync.Mutex
	at   []string // "a begins", "a ends"
	who  map[string]bool
	most int
	term uint64
}

func (r *roll) note(who string, here bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.who == nil {
		r.who = map[string]bool{}
	}
	if here {
		r.who[who] = true
		r.at = append(r.at, who+" begins")
	} else {
		delete(r.who, who)
		r.at = append(r.at, who+" ends")
	}
	r.most = max(r.most, len(r.who))
}

func (r *roll) now() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for who := range r.who {
		list = append(list, who)
	}
	slices.Sort(list)
	return fmt.Sprint(list)
}

// work works under a lease and notes it.
func (p *process) work(r *roll, l Lease) {
	p.wg.Go(func() {
		p.While(p.ctx, l, func(ctx context.Context, t *Tenure) {
			r.mu.Lock()
			if t.Term() <= r.term && r.at[len(r.at)-1] != p.Name()+" ends" {
				p.t.Errorf("term %d after %d", t.Term(), r.term)
			}
			r.term = max(r.term, t.Term())
			r.mu.Unlock()
			r.note(p.Name(), true)
			<-ctx.Done()
			r.note(p.Name(), false)
		})
	})
}

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		var r roll
		a, b, c := w.node(0, "a"), w.node(1, "b"), w.node(2, "c")
		for i, p := range []*process{a, b, c} {
			if p.Number() != uint64(i) {
				t.Errorf("%s is number %d", p.Name(), p.Number())
			}
			p.work(&r, Lease{Name: "x"})
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		if r.now() != "[a]" {
			t.Fatalf("at work: %s", r.now())
		}
		a.leave()
		time.Sleep(leaseTime / 10) // it was given up: nobody waits for it to run out
		if s := r.now(); s != "[b]" && s != "[c]" {
			t.Fatalf("after the end of a, at work: %s", s)
		}
		one, other := b, c
		if r.now() == "[c]" {
			one, other = c, b
		}
		one.die()
		time.Sleep(leaseTime / 2)
		if r.now() != "[]" {
			t.Fatalf("half a lease after its death, at work: %s", r.now())
		}
		time.Sleep(leaseTime)
		if r.now() != "["+other.Name()+"]" {
			t.Fatalf("after its death, at work: %s", r.now())
		}
		if r.most != 1 {
			t.Errorf("%d were at work at a time: %v", r.most, r.at)
		}
	})
}
