package queue

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/node"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/test/promise"
)

// crew is several nodes on one engine, in the time of synctest, and the host that their mail
// goes to.
type crew struct {
	t      *testing.T
	random *mrand.Rand
	list   []*hand
	taken  map[string]int // copies that the host has, by "id recipient"
	by     map[string][]string
	mu     sync.Mutex
	blind  bool // nobody asks whether he may: the control
}

// hand is one node with its queue.
type hand struct {
	crew   *crew
	name   string
	handle *enginetest.Node
	ice    ice
	off    time.Duration // of its wall clock
	mu     sync.Mutex
	node   *node.Node
	store  *store.Store
	q      *Queue
	stop   func()
	script func(job Job) Result // what the host says; nil: yes
	slow   func() time.Duration
}

const crewLease = 15 * time.Second

// ice is what a frozen process stands on: nothing it does goes on.
type ice struct {
	mu     sync.Mutex
	frozen chan struct{} // closed when it thaws; nil: it goes
}

func (i *ice) freeze() { i.mu.Lock(); i.frozen = make(chan struct{}); i.mu.Unlock() }
func (i *ice) thaw()   { i.mu.Lock(); close(i.frozen); i.frozen = nil; i.mu.Unlock() }
func (i *ice) wait() {
	i.mu.Lock()
	c := i.frozen
	i.mu.Unlock()
	if c != nil {
		<-c
	}
}

// icy is the engine of a process that can be frozen.
type icy struct {
	*enginetest.Node
	ice *ice
}

func (e icy) View(ctx context.Context, sh engine.Shard, fn func(engine.Reader) error) error {
	e.ice.wait()
	err := e.Node.View(ctx, sh, fn)
	e.ice.wait()
	return err
}

func (e icy) Update(ctx context.Context, sh engine.Shard, fn func(engine.Writer) error) error {
	e.ice.wait()
	err := e.Node.Update(ctx, sh, fn)
	e.ice.wait()
	return err
}

func newCrew(t *testing.T, n int, seed uint64) *crew {
	e, err := pebble.Open("store", pebble.Options{FS: vfs.NewMem(), Now: time.Now, CacheBytes: 1 << 20, MemTableBytes: 1 << 20, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	c := &crew{t: t, random: mrand.New(mrand.NewPCG(seed, 31)), taken: map[string]int{}, by: map[string][]string{}}
	for i, h := range enginetest.Nodes(e, n) {
		c.list = append(c.list, &hand{crew: c, name: string(rune('a' + i)), handle: h})
		t.Cleanup(func() { h.Close() })
	}
	return c
}

func (h *hand) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Add(h.off)
}

func (h *hand) setClock(off time.Duration) { h.mu.Lock(); h.off = off; h.mu.Unlock() }

// start runs the node as cmd/martlet does.
func (h *hand) start() {
	t, begin := h.crew.t, time.Now()
	eng := icy{h.handle, &h.ice}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	n, err := node.Open(t.Context(), eng, node.Options{
		Name: h.name, Lease: crewLease, Version: "1", Format: formOfOwner, Now: h.now, Random: rand.Reader, Log: log,
		Elapsed: func() time.Duration { return time.Since(begin) },
	})
	if err == nil {
		err = n.Join(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(eng, store.Options{Now: h.now})
	if err != nil {
		t.Fatal(err)
	}
	h.node, h.store = n, st
	h.q = New(eng, st, Options{
		Hostname: "mx.martlet.test", Remote: h, Local: h, Report: func(context.Context, string, mail.Envelope, io.Reader) error { return nil },
		Now: h.now, Rand: func() float64 { return 0.5 }, Random: rand.Reader, Part: n.Number(), Parts: n.Numbers, Format: n.Format,
		Log: slog.New(slog.DiscardHandler),
	})
	ctx, stop := context.WithCancel(context.Background())
	var wg, last sync.WaitGroup
	beat, end := context.WithCancel(context.Background())
	last.Go(func() { _ = n.Run(beat) })
	for part := range uint64(len(h.crew.list)) {
		wg.Go(func() {
			n.While(ctx, node.Lease{Name: fmt.Sprint("queue/", part), Homed: true, Home: part}, func(c context.Context, tenure *node.Tenure) {
				if h.crew.blind {
					h.q.partOf(part).run(c)
					return
				}
				h.q.Work(c, ctx, part, tenure)
			})
		})
	}
	var once sync.Once
	h.stop = func() { once.Do(func() { stop(); wg.Wait(); end(); last.Wait(); _ = n.Leave(context.Background()) }) }
	t.Cleanup(h.stop)
}

// Deliver is the host that mail goes to, as this node sees it: slow, and sure of what it has.
func (h *hand) Deliver(ctx context.Context, job Job) []Result {
	say := func(r Result) []Result { return slices.Repeat([]Result{r}, len(job.Envelope.To)) }
	broken := func(err error) []Result { return say(Result{Code: 451, Enhanced: "4.3.0", Text: fault.Say(err)}) }
	pause := func() {
		if h.slow != nil {
			time.Sleep(h.slow())
		}
		h.ice.wait()
	}
	pause()
	if h.script != nil {
		if r := h.script(job); r.Code != 0 {
			return say(r)
		}
	}
	body, err := job.Message.Open(ctx)
	if err != nil {
		return broken(err)
	}
	defer body.Close()
	for b := make([]byte, 50); ; {
		pause()
		_, err := body.Read(b)
		if err == io.EOF {
			break
		}
		if err != nil {
			return broken(err)
		}
		if ctx.Err() != nil {
			return broken(ctx.Err())
		}
	}
	h.crew.mu.Lock()
	for _, to := range job.Envelope.To {
		key := job.ID.String() + " " + to.Address.String()
		h.crew.taken[key]++
		h.crew.by[key] = append(h.crew.by[key], fmt.Sprint(h.name, " at ", time.Now().Format("15:04:05.000")))
	}
	h.crew.mu.Unlock()
	return say(ok)
}

func (h *hand) put(from string, to ...string) ID {
	h.crew.t.Helper()
	p, err := h.store.Receive(context.Background(), strings.NewReader(sample))
	if err != nil {
		h.crew.t.Fatal(err)
	}
	ids, err := h.q.Enqueue(context.Background(), Entry{Envelope: envelope(from, to...), Parcel: p})
	if err != nil {
		h.crew.t.Fatal(err)
	}
	return ids[0]
}

func (c *crew) copies(id ID) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, k := range c.taken {
		if strings.HasPrefix(key, id.String()+" ") {
			n += k
		}
	}
	return n
}

func (c *crew) copiesBy(id ID) (by []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, list := range c.by {
		if strings.HasPrefix(key, id.String()+" ") {
			by = append(by, list...)
		}
	}
	return by
}

func (c *crew) start() {
	for _, h := range c.list {
		h.start()
		synctest.Wait()
	}
	time.Sleep(crewLease) // each has its own part
}

// A queue in parts is one queue to whoever looks at it, from whichever node.
func TestPartsAreOneQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, 3, 1)
		for _, h := range c.list {
			h.script = func(Job) Result { return greylist }
		}
		c.start()
		ctx := t.Context()
		var ids []ID
		for _, h := range c.list {
			for i := range 3 {
				ids = append(ids, h.put("alice@martlet.test", fmt.Sprintf("u%d@%s.example", i, h.name)))
			}
			time.Sleep(time.Second)
		}
		for _, h := range c.list {
			var seen []ID
			if err := h.q.List(ctx, Filter{}, func(i Info) bool { seen = append(seen, i.ID); return true }); err != nil || !slices.Equal(seen, ids) {
				t.Errorf("%s lists %v (%v), want %v", h.name, seen, err, ids)
			}
			if n, err := h.q.Count(ctx); err != nil || n.Messages != len(ids) {
				t.Errorf("%s counts %+v, %v", h.name, n, err)
			}
			for _, id := range ids {
				if d, err := h.q.Show(ctx, id); err != nil || d.ID != id || d.Attempts != 1 {
					t.Errorf("%s shows %+v, %v", h.name, d, err)
				}
			}
			bodies := map[mail.BlobRef]bool{}
			if err := h.q.Blobs(ctx, func(b mail.BlobRef) { bodies[b] = true }); err != nil {
				t.Error(err)
			}
			if n, err := h.q.Verify(ctx, func(id ID, what string) { t.Errorf("message %v: %s", id, what) }); err != nil || n != len(ids) {
				t.Errorf("%s verifies %d, %v", h.name, n, err)
			}
			if _, err := h.q.Show(ctx, 1); !fault.Is(err, fault.NotFound) {
				t.Errorf("a message that is not there: %v", err)
			}
		}
		a, b, _ := c.list[0], c.list[1], c.list[2]
		for _, h := range c.list {
			h.script = nil
		}
		if err := b.q.Hold(ctx, ids[0]); err != nil {
			t.Fatal(err)
		}
		if err := b.q.Drop(ctx, ids[1], false); err != nil {
			t.Fatal(err)
		}
		if err := b.q.Retry(ctx, ids[2]); err != nil { // a is told by the engine, and tries at once
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if c.copies(ids[0]) != 0 || c.copies(ids[1]) != 0 || c.copies(ids[2]) != 1 || c.by[ids[2].String()+" u2@a.example"][0][:1] != "a" {
			t.Errorf("after the orders of b the host has %v", c.by)
		}
		if err := b.q.Release(ctx, ids[0]); err != nil {
			t.Fatal(err)
		}
		if n, err := a.q.RetryAll(ctx); err != nil || n != 7 {
			t.Errorf("all are due now: %d, %v", n, err)
		}
		time.Sleep(time.Second)
		if n, err := a.q.Count(ctx); err != nil || n.Messages != 0 {
			t.Errorf("at the end there are %+v, %v", n, err)
		}
	})
}

// An order that no hint tells of is found by and by.
func TestOrderWithoutHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, 2, 2)
		for _, h := range c.list {
			h.script = func(Job) Result { return greylist }
		}
		c.start()
		id := c.list[0].put("alice@martlet.test", "bob@example.org")
		time.Sleep(time.Second)
		c.list[0].handle.Lose()
		c.list[0].script = nil
		if err := c.list[1].q.Retry(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		c.list[0].handle.Poll()
		time.Sleep(time.Second)
		if c.copies(id) != 1 {
			t.Error("the order was not heard")
		}
	})
}

// Identifiers name their part, whatever clocks say; those given out before there were parts
// are found, too.
func TestPartsIdentifiers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, 3, 3)
		for _, h := range c.list {
			h.script = func(Job) Result { return greylist }
		}
		c.list[0].start()
		old := New(c.list[0].handle, c.list[0].store, Options{Hostname: "mx", Now: time.Now, Rand: func() float64 { return 0.5 }, Random: rand.Reader})
		old.seq.Store(7<<partLow + 5) // one that seems to be of part 7
		p, err := c.list[0].store.Receive(t.Context(), strings.NewReader(sample))
		if err != nil {
			t.Fatal(err)
		}
		early, err := old.Enqueue(t.Context(), Entry{Envelope: envelope("a@martlet.test", "b@example.org"), Parcel: p})
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range c.list[1:] {
			h.start()
		}
		synctest.Wait()
		ids := map[ID]bool{early[0]: true}
		for range 300 { // more than there are numbers in a millisecond
			for i, h := range c.list {
				id := h.put("a@martlet.test", "b@example.org")
				if ids[id] || uint64(id)>>partLow&maxPart != uint64(i) {
					t.Fatalf("%s gives out %x", h.name, uint64(id))
				}
				ids[id] = true
			}
		}
		if d, err := c.list[2].q.Show(t.Context(), early[0]); err != nil || d.ID != early[0] {
			t.Errorf("%+v, %v", d, err)
		}
	})
}

// What came back is known on every node.
func TestPartsBounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, 3, 4)
		for _, h := range c.list {
			h.script = func(Job) Result { return unknown }
		}
		c.start()
		ctx := t.Context()
		for i, h := range c.list {
			env := envelope("alice@martlet.test", fmt.Sprintf("gone%d@example.org", i))
			env.Login = "alice@martlet.test"
			p, err := h.store.Receive(ctx, strings.NewReader(sample))
			if err == nil {
				_, err = h.q.Enqueue(ctx, Entry{Envelope: env, Parcel: p})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		for _, h := range c.list {
			n := 0
			if err := h.q.ListBounced(ctx, "alice@martlet.test", func(Bounced) bool { n++; return true }); err != nil || n != 3 {
				t.Errorf("%s knows of %d, %v", h.name, n, err)
			}
			if err := h.q.Refused(ctx, "alice@martlet.test", address("gone2@example.org")); !fault.Is(err, fault.NotFound) {
				t.Errorf("%s: %v", h.name, err)
			}
		}
		if err := c.list[1].q.Forgive(ctx, "alice@martlet.test", address("gone2@example.org")); err != nil {
			t.Error(err)
		}
		if err := c.list[0].q.Refused(ctx, "alice@martlet.test", address("gone2@example.org")); err != nil {
			t.Error(err)
		}
	})
}

// What is made by work on a part goes into that part: its key counts for whoever works it next.
func TestPartsKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, 2, 5)
		c.start()
		a, b := c.list[0], c.list[1]
		a.script = func(Job) Result { return greylist }
		b.script = a.script
		entry := func(h *hand, ctx context.Context) ID {
			p, err := h.store.Receive(ctx, strings.NewReader(sample))
			if err != nil {
				t.Fatal(err)
			}
			ids, err := h.q.Enqueue(ctx, Entry{Envelope: envelope("x@martlet.test", "y@example.org"), Parcel: p, Key: "k"})
			if err != nil {
				t.Fatal(err)
			}
			return ids[0]
		}
		at := func(h *hand) context.Context {
			return context.WithValue(t.Context(), dutyKey{}, &duty{q: h.q.partOf(1)})
		}
		if one, two := entry(a, at(a)), entry(b, at(b)); one != two {
			t.Errorf("%v and %v", one, two)
		}
		if one, two := entry(a, Common(t.Context())), entry(b, Common(t.Context())); one != two {
			t.Errorf("%v and %v", one, two)
		}
		if one, two := entry(a, t.Context()), entry(b, t.Context()); one == two {
			t.Error("the nodes have one part") // the control
		}
	})
}

// A term that the lease's record has forgotten stands in no one's way.
func TestTermAboveTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, 1, 6)
		err := c.list[0].handle.Update(t.Context(), PartShard(0), func(w engine.Writer) error { return w.Put([]byte{famOwner}, holding{term: 1000}.encode(1)) })
		if err != nil {
			t.Fatal(err)
		}
		c.start()
		id := c.list[0].put("a@martlet.test", "b@example.org")
		time.Sleep(time.Second)
		if c.copies(id) != 1 {
			t.Error("the part is not worked")
		}
	})
}

// TestAttackR31: three nodes; one is frozen, cut off from the engine, or killed and started
// again, at any moment; their clocks are wrong, and are set. No message is lost, none is
// delivered twice.
func TestAttackR31(t *testing.T) {
	for seed := range uint64(promise.Times(t, "R31", 20, 1000)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if lost, twice := storm(t, seed, false); lost+twice > 0 {
					t.Errorf("seed %d: %d lost, %d delivered twice", seed, lost, twice)
				}
			})
		})
	}
	worst := 0
	for seed := range uint64(3) { // the control: nobody asks whether he may
		t.Run(fmt.Sprint("blind", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, twice := storm(t, seed, true)
				worst += twice
			})
		})
	}
	if worst == 0 {
		t.Error("without terms and clocks nothing was delivered twice: the test proves nothing")
	}
}

func storm(t *testing.T, seed uint64, blind bool) (lost, twice int) {
	c := newCrew(t, 3, seed)
	c.blind = blind
	var mu sync.Mutex
	slow := func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(c.random.Int64N(int64(3 * time.Second)))
	}
	roll := func(n int) int { mu.Lock(); defer mu.Unlock(); return c.random.IntN(n) }
	clocks := []time.Duration{0, time.Hour, -time.Hour, 400 * 24 * time.Hour, -400 * 24 * time.Hour}
	for _, h := range c.list {
		h.slow, h.off = slow, clocks[roll(len(clocks))]
	}
	c.start()
	var ids []ID
	put := func() {
		for _, h := range c.list {
			for range 4 {
				ids = append(ids, h.put(fmt.Sprintf("s%d@martlet.test", roll(3)), fmt.Sprintf("r@d%d.example", roll(9))))
			}
		}
	}
	put()
	for range 3 {
		time.Sleep(slow())
		put()
		victim := c.list[roll(3)]
		time.Sleep(slow())
		synctest.Wait() // what the host has is on record: RFC 1047 gives no other promise
		what := roll(3)
		t.Logf("%s: event %d to %s", time.Now().Format("15:04:05.000"), what, victim.name)
		switch what {
		case 0:
			victim.ice.freeze()
			time.Sleep(30 * time.Second)
			victim.ice.thaw()
		case 1:
			victim.handle.Down(true)
			time.Sleep(30 * time.Second)
			victim.handle.Down(false)
		default:
			victim.stop()
			time.Sleep(slow())
			victim.setClock(clocks[roll(len(clocks))])
			victim.start()
		}
		c.list[roll(3)].setClock(clocks[roll(len(clocks))])
	}
	// Attempts that failed come again after minutes, by clocks that are right from now on.
	for _, h := range c.list {
		h.setClock(0)
	}
	for range 12 * 60 {
		if n, err := c.list[0].q.Count(t.Context()); err == nil && n.Messages == 0 {
			break
		}
		time.Sleep(time.Minute)
	}
	synctest.Wait()
	for _, id := range ids {
		switch n := c.copies(id); {
		case n == 0:
			lost++
			t.Logf("message %v is lost", id)
		case n > 1:
			twice++
			if !blind {
				t.Logf("message %v was delivered %d times: %v", id, n, c.copiesBy(id))
			}
		}
	}
	return lost, twice
}
