package queue

import (
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// fate is what the model knows of one recipient.
type fate struct {
	id       ID
	wants    bool // a report of failure
	taken    int
	refused  bool // a host said 5xx
	dropped  bool // silently
	bounced  bool // dropped with a report
	reported int  // failures told to the sender
	temps    int
}

func (f *fate) resolved() bool {
	return f.taken > 0 || f.refused || f.dropped || f.bounced || f.reported > 0
}

// model is the simple truth beside a queue. Every recipient's local part is used once.
type model struct {
	mu     sync.Mutex
	byAddr map[string]*fate
	byID   map[ID][]string
	held   map[ID]bool
	mode   map[string]int // of domains: 0 mixed, 1 down, 2 greylisting, 3 well
	n      int
}

// answer is the script of the couriers: what it says depends on the address, the
// number of the attempt and the domain's mode, not on the order of attempts.
func (m *model) answer(job Job, r mail.Recipient) Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.byAddr[r.Address.String()]
	res := ok
	h := fnv.New32()
	fmt.Fprint(h, r.Address.String(), " ", job.Attempt)
	switch mode := m.mode[r.Address.Domain]; {
	case mode == 1:
		res = refused
	case mode == 2:
		res = greylist
	case mode == 0 && h.Sum32()%4 == 0:
		res = unknown
	case mode == 0 && h.Sum32()%4 < 3:
		res = greylist
	}
	switch res.Code / 100 {
	case 2:
		f.taken++
	case 5:
		f.refused = true
	default:
		f.temps++
	}
	return res
}

func (m *model) draw(t *rapid.T) (env mail.Envelope, addrs []string) {
	if rapid.IntRange(0, 3).Draw(t, "sender") > 0 {
		env.From = address("alice@martlet.test")
	}
	for range rapid.IntRange(1, 5).Draw(t, "recipients") {
		m.n++
		a := fmt.Sprintf("r%d@d%d.test", m.n, rapid.IntRange(0, 3).Draw(t, "domain"))
		r := mail.Recipient{Address: address(a)}
		if rapid.IntRange(0, 3).Draw(t, "notify") == 0 {
			r.Notify = mail.NotifyNever
		}
		env.To = append(env.To, r)
		addrs = append(addrs, a)
		m.byAddr[a] = &fate{wants: !env.From.IsZero() && r.Notify != mail.NotifyNever}
	}
	return env, addrs
}

// read takes in what senders were told.
func (m *model) read(b *bench) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.byAddr {
		f.reported = 0
	}
	for _, text := range b.reports.all() {
		if !strings.Contains(text, "could not be delivered") {
			continue
		}
		for line := range strings.Lines(text) {
			if a, ok := strings.CutPrefix(line, "Final-Recipient: rfc822; "); ok {
				m.byAddr[strings.TrimSpace(a)].reported++
			}
		}
	}
}

// check compares the queue with the model.
func (m *model) check(t *rapid.T, b *bench) {
	b.sound()
	m.read(b)
	listed := map[string]bool{}
	for _, i := range b.list() {
		for _, a := range i.To {
			listed[a.String()] = true
		}
		if i.Held != m.held[i.ID] {
			t.Errorf("%v held: %v", i.ID, i.Held)
		}
	}
	for a, f := range m.byAddr {
		if f.taken > 1 || f.reported > 1 || f.taken > 0 && f.reported > 0 || f.reported > 0 && !f.wants {
			t.Fatalf("%s: %+v", a, *f)
		}
		if f.resolved() == listed[a] && (f.wants || !m.mayBeExpired(b, f)) {
			t.Fatalf("%s is listed: %v; %+v", a, listed[a], *f)
		}
	}
}

// mayBeExpired tells whether a message may have been given up in silence.
func (m *model) mayBeExpired(b *bench, f *fate) bool {
	created := time.UnixMilli(int64(f.id >> 20))
	return b.clock.now().Sub(created) >= b.q.opt.Lifetime
}

// TestAgainstModel does random things to a queue and restarts it in between. Each
// recipient must end in exactly one way, and the sender must know of each failure
// that he wants to know of, once.
//
// Each run opens engines and verifies after every step, so that 25 runs are the
// short form; -rapid.checks asks for more.
func TestAgainstModel(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		if err := flag.Set("rapid.checks", "25"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		b := newBench(t, func(o *Options) { o.Lifetime = 12 * time.Hour; o.PerDomain = 2; o.Workers = 5 })
		m := &model{byAddr: map[string]*fate{}, byID: map[ID][]string{}, held: map[ID]bool{}, mode: map[string]int{}}
		b.courier.script, b.local.script = m.answer, m.answer
		ctx := context.Background()
		some := func() ID {
			ids := make([]ID, 0, len(m.byID))
			for id := range m.byID {
				ids = append(ids, id)
			}
			slices.Sort(ids)
			if len(ids) == 0 {
				return 0
			}
			return rapid.SampledFrom(ids).Draw(t, "message")
		}
		must := func(err error) bool {
			if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			return err == nil
		}
		t.Repeat(map[string]func(*rapid.T){
			"enqueue": func(t *rapid.T) {
				env, addrs := m.draw(t)
				e := Entry{Envelope: env, Parcel: b.parcel(sample), Road: Road(rapid.IntRange(0, 1).Draw(t, "road"))}
				id := b.enqueue(e)
				m.byID[id] = addrs
				for _, a := range addrs {
					m.byAddr[a].id = id
				}
			},
			"mode": func(t *rapid.T) {
				m.mode[fmt.Sprintf("d%d.test", rapid.IntRange(0, 3).Draw(t, "domain"))] = rapid.IntRange(0, 3).Draw(t, "mode")
			},
			"pump": func(*rapid.T) { b.pump() },
			"pass": func(t *rapid.T) {
				b.pass(time.Duration(rapid.IntRange(1, 300).Draw(t, "minutes"))*time.Minute, 15*time.Minute)
			},
			"restart": func(*rapid.T) { b.restart() },
			"retry":   func(*rapid.T) { must(b.q.Retry(ctx, some())) },
			"retry all": func(*rapid.T) {
				if _, err := b.q.RetryAll(ctx); err != nil {
					t.Fatal(err)
				}
			},
			"hold": func(*rapid.T) {
				if id := some(); must(b.q.Hold(ctx, id)) {
					m.held[id] = true
				}
			},
			"release": func(*rapid.T) {
				if id := some(); must(b.q.Release(ctx, id)) {
					delete(m.held, id)
				}
			},
			"drop": func(*rapid.T) {
				id, bounce := some(), rapid.Bool().Draw(t, "bounce")
				if !must(b.q.Drop(ctx, id, bounce)) {
					return
				}
				delete(m.held, id)
				for _, a := range m.byID[id] {
					if f := m.byAddr[a]; !f.resolved() {
						f.dropped, f.bounced = !bounce, bounce
					}
				}
			},
			"": func(t *rapid.T) { m.check(t, b) },
		})
		m.end(t, b)
	})
}

// end lets everything come to its end and checks that it did.
func (m *model) end(t *rapid.T, b *bench) {
	for id := range m.held {
		if err := b.q.Release(context.Background(), id); err != nil {
			t.Fatal(err)
		}
	}
	clear(m.held)
	for i := range 4 {
		m.mode[fmt.Sprintf("d%d.test", i)] = 3
	}
	b.pass(8*time.Hour, 30*time.Minute)
	b.empty()
	m.check(t, b)
	for a, f := range m.byAddr {
		owed := 0
		if f.wants && f.taken == 0 && !f.dropped {
			owed = 1
		}
		if f.reported != owed {
			t.Fatalf("%s: told %d times, %d owed; %+v", a, f.reported, owed, *f)
		}
	}
}
