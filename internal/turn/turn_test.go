package turn

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// crew works for a party with many workers, each in steps of a time.
type crew struct {
	gate    *Gate
	name    string
	step    time.Duration
	running atomic.Int32
	most    atomic.Int32
	done    atomic.Int32
}

func (c *crew) work(ctx context.Context) {
	t := c.gate.Turn()
	for ctx.Err() == nil {
		t.Take(c.name)
		n := c.running.Add(1)
		if n > c.most.Load() {
			c.most.Store(n)
		}
		time.Sleep(c.step)
		c.running.Add(-1)
		c.done.Add(1)
		t.Give()
	}
}

func (c *crew) start(ctx context.Context, n int) {
	for range n {
		go c.work(ctx)
	}
}

func within(t *testing.T, fn func(ctx context.Context)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		fn(ctx)
		stop()
		time.Sleep(24 * time.Hour)
	})
}

// Who is alone may have all.
func TestAlone(t *testing.T) {
	within(t, func(ctx context.Context) {
		c := crew{gate: NewGate(4), name: "alice", step: time.Millisecond}
		c.start(ctx, 100)
		time.Sleep(time.Second)
		if c.most.Load() != 100 {
			t.Errorf("%d of 100 worked at the same time", c.most.Load())
		}
	})
}

// Beside others a party has what they leave of the processors.
func TestBeside(t *testing.T) {
	for _, others := range []int{1, 2, 3, 10} {
		within(t, func(ctx context.Context) {
			g := NewGate(4)
			for i := range others {
				(&crew{gate: g, name: fmt.Sprint("quiet", i), step: time.Millisecond}).start(ctx, 1)
			}
			time.Sleep(100 * time.Millisecond)
			greedy := crew{gate: g, name: "greedy", step: time.Millisecond}
			greedy.start(ctx, 100)
			time.Sleep(time.Second)
			if want := int32(max(1, 4-others)); greedy.most.Load() != want {
				t.Errorf("beside %d others, %d worked at the same time, not %d", others, greedy.most.Load(), want)
			}
			least := int32(900)
			if others >= 4 { // its part, for all that is left over is none
				least = int32(4 * 900 / (others + 1))
			}
			if greedy.done.Load() < least {
				t.Errorf("beside %d others, %d steps", others, greedy.done.Load())
			}
		})
	}
}

// A party that has more turns than it may, as others have come, does without at its next
// Yield; when they have gone it has all again.
func TestYield(t *testing.T) {
	within(t, func(ctx context.Context) {
		g := NewGate(2)
		var running atomic.Int32
		for range 10 {
			go func() {
				w := g.Turn()
				w.Take("greedy")
				defer w.Give()
				for ctx.Err() == nil {
					running.Add(1)
					time.Sleep(time.Millisecond)
					running.Add(-1)
					w.Yield()
				}
			}()
		}
		time.Sleep(10*time.Millisecond + 500*time.Microsecond)
		if n := running.Load(); n != 10 {
			t.Errorf("alone, %d of 10 work", n)
		}
		other := g.Turn()
		other.Take("other")
		time.Sleep(20 * time.Millisecond)
		if n := running.Load(); n != 1 {
			t.Errorf("beside another, %d work, not 1", n)
		}
		other.Give()
		time.Sleep(2*window + 2*stuck)
		if n := running.Load(); n != 10 {
			t.Errorf("alone again, %d of 10 work", n)
		}
	})
}

// Within a party, who works long passes the turn on.
func TestPassedOn(t *testing.T) {
	within(t, func(ctx context.Context) {
		g := NewGate(1)
		(&crew{gate: g, name: "other", step: time.Millisecond}).start(ctx, 1)
		time.Sleep(time.Millisecond / 2)
		var worked [5]atomic.Int32
		for i := range worked {
			go func() {
				w := g.Turn()
				w.Take("greedy")
				defer w.Give()
				for ctx.Err() == nil {
					time.Sleep(time.Millisecond)
					worked[i].Add(1)
					w.Yield()
				}
			}()
		}
		time.Sleep(time.Second)
		for i := range worked {
			n := worked[i].Load()
			if n < 75 { // half of the one processor is the other's
				t.Errorf("worker %d had %d steps of about 500", i, n)
			}
		}
	})
}

// Beside more others than there are processors a party has its part of them, whatever number
// of workers it has, and no more; nobody waits for his first turn for long.
func TestPart(t *testing.T) {
	within(t, func(ctx context.Context) {
		const others = 9
		g := NewGate(2)
		greedy := crew{gate: g, name: "greedy", step: time.Millisecond}
		greedy.start(ctx, 50)
		for i := range others {
			(&crew{gate: g, name: fmt.Sprint("other", i), step: time.Millisecond}).start(ctx, 1)
		}
		time.Sleep(window)
		from := greedy.done.Load()
		time.Sleep(10 * window)
		had := time.Duration(greedy.done.Load()-from) * time.Millisecond
		part := 10 * window * 2 / (others + 1)
		if had < part*8/10 || had > part*14/10 {
			t.Errorf("the greedy one worked for %v, its part is %v", had, part)
		}
	})
}

// Who rests is in nobody's way.
func TestRest(t *testing.T) {
	within(t, func(ctx context.Context) {
		g := NewGate(2)
		(&crew{gate: g, name: "other", step: time.Millisecond}).start(ctx, 1)
		time.Sleep(time.Millisecond / 2)
		var resting, most atomic.Int32
		for range 20 {
			go func() {
				w := g.Turn()
				for ctx.Err() == nil {
					w.Take("greedy")
					w.Rest()
					most.Store(max(most.Load(), resting.Add(1)))
					time.Sleep(50 * time.Millisecond)
					resting.Add(-1)
					w.Resume()
					w.Give()
				}
			}()
		}
		time.Sleep(time.Second)
		if most.Load() != 20 {
			t.Errorf("%d of 20 rested at the same time", most.Load())
		}
	})
}

// holders has thirty of a party, beside another, go through one lock, the first of whom
// rests with it in his hands and ends that by back. It returns how many are through after a
// while.
func holders(t *testing.T, back func(*Turn)) (through int32) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		g := NewGate(2)
		(&crew{gate: g, name: "other", step: time.Millisecond}).start(ctx, 1)
		time.Sleep(time.Millisecond / 2)
		lock := make(chan struct{}, 1)
		var done atomic.Int32
		for i := range 30 {
			go func() {
				time.Sleep(time.Duration(i) * time.Microsecond)
				w := g.Turn()
				w.Take("alice")
				defer w.Give()
				lock <- struct{}{}
				if i == 0 {
					w.Rest()
					time.Sleep(time.Second)
					back(&w)
				}
				<-lock
				done.Add(1)
			}()
		}
		time.Sleep(time.Minute)
		through = done.Load()
		stop()
		time.Sleep(time.Hour)
	})
	return through
}

// Whoever rests with a lock in his hands has his turn back at once, whoever else of his
// party has come meanwhile and waits for the lock.
func TestReturnWithLock(t *testing.T) {
	if n := holders(t, (*Turn).Return); n != 30 {
		t.Errorf("%d of 30 are through after a minute", n)
	}
	if n := holders(t, (*Turn).Resume); n == 30 {
		t.Error("with Resume, too: the test sees nothing")
	}
}

// A turn that was returned counts, and what it is too many waits at the next Yield.
func TestReturnIsPaidFor(t *testing.T) {
	within(t, func(ctx context.Context) {
		g := NewGate(2)
		other, first, second := g.Turn(), g.Turn(), g.Turn()
		other.Take("other")
		second.Take("alice")
		second.Rest()
		first.Take("alice")
		second.Return()
		if !second.Over() || !first.Over() {
			t.Error("two of one processor are not too many")
		}
		var yielded atomic.Bool
		go func() { second.Yield(); yielded.Store(true); second.Give() }()
		time.Sleep(time.Millisecond)
		if yielded.Load() || first.Over() {
			t.Errorf("yielded %v, and the first is over: %v", yielded.Load(), first.Over())
		}
		first.Give()
		time.Sleep(time.Millisecond)
		if !yielded.Load() {
			t.Error("it waits though there is room")
		}
		other.Give()
	})
}

// A party whose turns make no sign, as on a disk that hangs, gets some more; one that
// only has much to do does not.
func TestStuck(t *testing.T) {
	within(t, func(ctx context.Context) {
		g := NewGate(1)
		(&crew{gate: g, name: "other", step: time.Millisecond}).start(ctx, 1)
		time.Sleep(time.Millisecond / 2)
		hanging := crew{gate: g, name: "hanging", step: time.Hour}
		hanging.start(ctx, 100)
		busy := crew{gate: g, name: "busy", step: time.Millisecond}
		busy.start(ctx, 100)
		time.Sleep(10 * time.Second)
		if n := hanging.running.Load(); n != extra {
			t.Errorf("%d turns of the party that is stuck, not %d", n, extra)
		}
		if n := busy.most.Load(); n > 1 {
			t.Errorf("%d turns of the one that is not", n)
		}
	})
}

// A second turn is there while there is room, and knows when it is one too many.
func TestSecond(t *testing.T) {
	within(t, func(context.Context) {
		g := NewGate(2)
		alice, bob := g.Turn(), g.Turn()
		alice.Take("alice")
		second, ok := alice.Beside()
		if !ok || second == nil || second.Over() {
			t.Fatal("no second turn for one who is alone")
		}
		bob.Take("bob")
		if !second.Over() {
			t.Error("two of two processors are not too many beside another")
		}
		second.Give()
		if _, ok := alice.Beside(); ok {
			t.Error("a second turn beside another")
		}
		alice.Give()
		bob.Give()
		free := Turn{}
		if second, ok := free.Beside(); !ok || second != nil || second.Over() {
			t.Error("a turn without a gate is limited")
		}
	})
}

// Used counts work and neither rest nor waiting.
func TestUsed(t *testing.T) {
	within(t, func(context.Context) {
		g := NewGate(1)
		w := g.Turn()
		w.Take("alice")
		time.Sleep(3 * time.Second)
		w.Rest()
		time.Sleep(time.Hour)
		w.Resume()
		time.Sleep(2 * time.Second)
		if got := w.Used(); got != 5*time.Second {
			t.Errorf("used %v, not 5 s", got)
		}
		w.Take("alice")
		if got := w.Used(); got != 0 {
			t.Errorf("used %v at the beginning", got)
		}
		w.Give()
	})
}

// Whatever happens in which order, nobody waits for ever and nothing stays behind.
func TestStress(t *testing.T) {
	seed := rand.Uint64()
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(3)
		var wg sync.WaitGroup
		for i := range 60 {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			wg.Go(func() {
				w := g.Turn()
				for range 300 {
					w.Take([]string{"", "a", "a", "a", "b", "c"}[rng.IntN(6)])
					for range rng.IntN(4) {
						switch rng.IntN(5) {
						case 0:
							w.Yield()
						case 1:
							w.Rest()
							time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond)
							[]func(*Turn){(*Turn).Resume, (*Turn).Return}[rng.IntN(2)](&w)
						case 2: // two that work for one
							var both sync.WaitGroup
							for range 2 {
								pause := time.Duration(rng.IntN(2000)) * time.Microsecond
								both.Go(func() {
									w.Rest()
									time.Sleep(pause)
									w.Resume()
								})
							}
							both.Wait()
						case 3:
							if s, ok := w.Beside(); ok {
								s.Yield()
								s.Give()
							}
						default:
							time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond)
						}
					}
					w.Give()
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Second)
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, p := range g.parties {
			if p.running != 0 || p.queue.len != 0 {
				t.Errorf("seed %d: party %s is left with %d turns and %d that wait", seed, p.name, p.running, p.queue.len)
			}
		}
		if g.watched {
			t.Errorf("seed %d: a timer runs for nobody", seed)
		}
	})
}

// A long queue is no more work to leave than a short one, and nothing is copied: all parties
// wait for the lock of the gate meanwhile.
func TestLongQueue(t *testing.T) {
	const long = 10_000
	g := NewGate(2)
	p := g.party("alice")
	waiting := make([]*Turn, long)
	for i := range waiting {
		waiting[i] = &Turn{gate: g, name: "alice", taken: true, party: p, ready: make(chan struct{})}
		p.queue.add(waiting[i])
	}
	if allocated := testing.AllocsPerRun(100, func() { g.leaveQueue(p.queue.first) }); allocated != 0 {
		t.Errorf("%v allocations for each that leaves", allocated)
	}
	left := 101 // AllocsPerRun runs once more
	for _, i := range rand.Perm(long - left)[:5000] {
		g.leaveQueue(waiting[left+i])
		waiting[left+i] = nil
	}
	for _, w := range waiting[left:] { // in the order in which they came
		if w == nil {
			continue
		}
		if p.queue.first != w {
			t.Fatal("the order is not that of the queue")
		}
		g.leaveQueue(w)
	}
	if p.queue != (queue{}) {
		t.Errorf("%+v is left", p.queue)
	}
}

// Parties that have gone are forgotten.
func TestForgotten(t *testing.T) {
	within(t, func(context.Context) {
		g := NewGate(2)
		w := g.Turn()
		for i := range 10_000 {
			w.Take(fmt.Sprint("party", i))
			w.Give()
			time.Sleep(time.Millisecond)
		}
		if n := len(g.parties); n > 30 {
			t.Errorf("%d parties are remembered", n)
		}
	})
}

func BenchmarkTurn(b *testing.B) {
	g := NewGate(0)
	for b.Loop() {
		w := g.Turn()
		w.Take("alice@example.org")
		w.Give()
	}
}
