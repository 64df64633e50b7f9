package queue

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// clock is a clock that tests set.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }
func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	c.at = c.at.Add(d)
	c.mu.Unlock()
}

// call is one attempt that a courier saw.
type call struct {
	at      time.Time
	id      ID
	attempt int
	to      []string
}

// courier does what its script says and remembers it.
type courier struct {
	clock  *clock
	script func(job Job, r mail.Recipient) Result

	mu    sync.Mutex
	calls []call
	taken map[string]int // copies by "id recipient"
}

var (
	ok        = Result{Code: 250, Enhanced: "2.0.0", Text: "queued", Host: "mx.example.org", DSN: true}
	greylist  = Result{Code: 451, Enhanced: "4.7.1", Text: "Greylisted", Host: "mx1.example.org", Address: "192.0.2.1:25"}
	unknown   = Result{Code: 550, Enhanced: "5.1.1", Text: "User unknown", Host: "mx1.example.org"}
	refused   = Result{Code: 421, Enhanced: "4.4.1", Text: "mx1.example.org [192.0.2.1]: connection refused"}
	alwaysOK  = func(Job, mail.Recipient) Result { return ok }
	alwaysOff = func(Job, mail.Recipient) Result { return refused }
)

func always(r Result) func(Job, mail.Recipient) Result {
	return func(Job, mail.Recipient) Result { return r }
}

func (c *courier) Deliver(ctx context.Context, job Job) []Result {
	c.mu.Lock()
	k := call{at: c.clock.now(), id: job.ID, attempt: job.Attempt}
	for _, r := range job.Envelope.To {
		k.to = append(k.to, r.Address.String())
	}
	c.calls = append(c.calls, k)
	script := c.script
	c.mu.Unlock()
	var out []Result
	for _, r := range job.Envelope.To {
		res := script(job, r)
		out = append(out, res)
		if res.Code/100 == 2 {
			c.mu.Lock()
			c.taken[job.ID.String()+" "+r.Address.String()]++
			c.mu.Unlock()
		}
	}
	return out
}

func (c *courier) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.calls)
}

// reports remembers what senders were told.
type reports struct {
	mu   sync.Mutex
	err  error
	keys []string
	envs []mail.Envelope
	text []string
}

func (r *reports) take(_ context.Context, key string, env mail.Envelope, body io.Reader) error {
	b, err := io.ReadAll(body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		return err
	}
	if r.err != nil {
		return r.err
	}
	if slices.Contains(r.keys, key) {
		return nil // once is enough, as Report promises
	}
	r.keys = append(r.keys, key)
	r.envs = append(r.envs, env)
	r.text = append(r.text, string(b))
	return nil
}

func (r *reports) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.text)
}

// tb is what *testing.T and *rapid.T have in common.
type tb interface {
	Helper()
	Error(...any)
	Errorf(string, ...any)
	Fatal(...any)
	Fatalf(string, ...any)
	Cleanup(func())
}

// bench is a queue with all that belongs to it.
type bench struct {
	t       tb
	fs      *vfs.MemFS
	clock   *clock
	eng     engine.Engine
	store   *store.Store
	courier *courier
	local   *courier
	reports *reports
	q       *Queue
	opt     Options
}

func newBench(t tb, change func(*Options)) *bench {
	t.Helper()
	c := &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	b := &bench{t: t, fs: vfs.NewCrashableMem(), clock: c, reports: &reports{},
		courier: &courier{clock: c, script: alwaysOK, taken: map[string]int{}},
		local:   &courier{clock: c, script: alwaysOK, taken: map[string]int{}}}
	b.opt = Options{
		Hostname: "mx.martlet.test", Remote: b.courier, Local: b.local, Report: b.reports.take,
		Now: c.now, Rand: func() float64 { return 0.5 }, Random: rand.Reader, Grace: 50 * time.Millisecond,
		Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&b.opt)
	}
	b.open()
	t.Cleanup(func() { b.eng.Close() })
	return b
}

func (b *bench) open() {
	b.t.Helper()
	eng, err := pebble.Open("data", pebble.Options{FS: b.fs, CacheBytes: 1 << 20, MemTableBytes: 1 << 20, ReserveBytes: -1, Now: b.clock.now})
	if err != nil {
		b.t.Fatal(err)
	}
	st, err := store.Open(eng, store.Options{Now: b.clock.now})
	if err != nil {
		b.t.Fatal(err)
	}
	b.eng, b.store = eng, st
	b.q = New(eng, st, b.opt)
}

// restart closes everything and opens it again.
func (b *bench) restart() {
	b.t.Helper()
	if err := b.eng.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

const sample = "From: Alice <alice@martlet.test>\r\nTo: bob@example.org\r\nSubject: Dinner\r\nMessage-ID: <1@martlet.test>\r\n\r\nAt eight?\r\n"

func (b *bench) parcel(text string) *store.Parcel {
	b.t.Helper()
	p, err := b.store.Receive(context.Background(), strings.NewReader(text))
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

func address(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func envelope(from string, to ...string) mail.Envelope {
	var env mail.Envelope
	if from != "" {
		env.From = address(from)
	}
	for _, a := range to {
		env.To = append(env.To, mail.Recipient{Address: address(a)})
	}
	return env
}

// put enqueues the sample.
func (b *bench) put(from string, to ...string) ID {
	b.t.Helper()
	return b.enqueue(Entry{Envelope: envelope(from, to...), Parcel: b.parcel(sample)})
}

func (b *bench) enqueue(e Entry) ID {
	b.t.Helper()
	ids, err := b.q.Enqueue(context.Background(), e)
	if err != nil {
		b.t.Fatal(err)
	}
	return ids[0]
}

// pump does all that is due at the present time.
func (b *bench) pump() {
	b.t.Helper()
	ctx := context.Background()
	for {
		before := b.courier.count() + b.local.count()
		if _, err := b.q.ring(ctx); err != nil {
			b.t.Fatal(err)
		}
		if _, err := b.q.dispatch(ctx); err != nil {
			b.t.Fatal(err)
		}
		b.q.jobs.Wait()
		if _, err := b.q.ring(ctx); err != nil {
			b.t.Fatal(err)
		}
		if b.courier.count()+b.local.count() == before {
			return
		}
	}
}

// pass lets time pass, in steps in which everything due happens.
func (b *bench) pass(d, step time.Duration) {
	b.t.Helper()
	for ; d > 0; d -= step {
		b.clock.add(min(step, d))
		b.pump()
	}
}

// sound fails the test if verify finds anything.
func (b *bench) sound() {
	b.t.Helper()
	_, err := b.q.Verify(context.Background(), func(id ID, what string) { b.t.Errorf("message %v: %s", id, what) })
	if err != nil {
		b.t.Error(err)
	}
}

// keys returns how many records of the families there are.
func (b *bench) keys(families string) (n int) {
	b.t.Helper()
	err := b.eng.View(context.Background(), shard, func(r engine.Reader) error {
		n = 0
		return r.Scan([]byte{1}, nil, false, func(k, _ []byte) bool {
			if bytes.IndexByte([]byte(families), k[0]) >= 0 {
				n++
			}
			return true
		})
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// empty fails the test if anything is left but idempotency keys.
func (b *bench) empty() {
	b.t.Helper()
	if n := b.keys("mprgqlt"); n != 0 {
		b.t.Errorf("%d records are left", n)
	}
	if a, k := b.keys("a"), b.keys("k"); a != k {
		b.t.Errorf("%d alarms are left", a-k)
	}
}

func (b *bench) list() (out []Info) {
	b.t.Helper()
	if err := b.q.List(context.Background(), Filter{}, func(i Info) bool { out = append(out, i); return true }); err != nil {
		b.t.Fatal(err)
	}
	return out
}

// times returns when the attempts were, counted from a time.
func (c *courier) times(from time.Time) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var s []string
	for _, k := range c.calls {
		s = append(s, k.at.Sub(from).String())
	}
	return fmt.Sprint(s)
}
