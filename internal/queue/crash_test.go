package queue

import (
	"context"
	random "crypto/rand"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/mail"
)

// world is what had been told to others at the moment of a power cut.
type world struct {
	fs     *vfs.MemFS
	acked  map[string]ID // recipients of messages whose Enqueue had returned
	taken  map[string]int
	later  map[string]int // copies taken up to a moment after the cut
	failed map[string]bool
	flying map[flight]bool
	groups map[string]flight
	keys   []string
	envs   []mail.Envelope
	texts  []string
}

// ledger is what everybody outside the queue knows.
type ledger struct {
	mu     sync.Mutex
	acked  map[string]ID
	taken  map[string]int
	failed map[string]bool
	groups map[string]flight // where a recipient travelled
}

func (l *ledger) answer(job Job, r mail.Recipient, rng uint32) Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := r.Address.String()
	// Each message has one group for each domain, in order of the domain's number.
	l.groups[a] = flight{job.ID, int(r.Address.Domain[1] - '0')}
	switch {
	case rng%5 == 0:
		l.failed[a] = true
		return unknown
	case rng%5 < 3:
		return greylist
	}
	l.taken[a]++
	return ok
}

// cut takes the power: only what was synced is sure to be there.
func (b *bench) cut(l *ledger, rng *rand.Rand) world {
	l.mu.Lock()
	w := world{acked: maps.Clone(l.acked), taken: maps.Clone(l.taken), failed: maps.Clone(l.failed), groups: maps.Clone(l.groups)}
	l.mu.Unlock()
	b.q.mu.Lock()
	w.flying = maps.Clone(b.q.flying)
	b.q.mu.Unlock()
	w.fs = b.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 25 * rng.IntN(5), RNG: rng})
	l.mu.Lock()
	w.later = maps.Clone(l.taken)
	l.mu.Unlock()
	b.reports.mu.Lock()
	w.keys, w.envs, w.texts = slices.Clone(b.reports.keys), slices.Clone(b.reports.envs), slices.Clone(b.reports.text)
	b.reports.mu.Unlock()
	return w
}

// work queues and sends until all has been queued, with a cut now and then.
func work(t *testing.T, seed uint64) []world {
	rng := rand.New(rand.NewPCG(seed, 1))
	b := newBench(t, func(o *Options) { o.PerDomain = 3; o.Workers = 10 })
	l := &ledger{acked: map[string]ID{}, taken: map[string]int{}, failed: map[string]bool{}, groups: map[string]flight{}}
	var dice sync.Mutex
	b.courier.script = func(job Job, r mail.Recipient) Result {
		dice.Lock()
		n := rng.Uint32()
		dice.Unlock()
		return l.answer(job, r, n)
	}
	stop := make(chan struct{})
	var loop, writers sync.WaitGroup
	loop.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := b.q.ring(context.Background()); err != nil {
				t.Error(err)
			}
			if _, err := b.q.dispatch(context.Background()); err != nil {
				t.Error(err)
			}
			b.clock.add(20 * time.Second)
			time.Sleep(100 * time.Microsecond)
		}
	})
	p := b.parcel(sample)
	for n := range 3 {
		writers.Go(func() {
			for i := range 12 {
				var to []string
				for d := range 3 {
					to = append(to, fmt.Sprintf("r%d.%d@d%d.test", n, i, d))
				}
				ids, err := b.q.Enqueue(context.Background(), Entry{Envelope: envelope("alice@martlet.test", to...), Parcel: p})
				if err != nil {
					t.Error(err)
					return
				}
				l.mu.Lock()
				for _, a := range to {
					l.acked[a] = ids[0]
				}
				l.mu.Unlock()
			}
		})
	}
	var cuts []world
	pause := rand.New(rand.NewPCG(seed, 2))
	for range 4 {
		time.Sleep(time.Duration(pause.IntN(4000)) * time.Microsecond)
		cuts = append(cuts, b.cut(l, pause))
	}
	writers.Wait()
	cuts = append(cuts, b.cut(l, pause))
	close(stop)
	loop.Wait()
	b.q.jobs.Wait()
	return cuts
}

// recover opens what a cut left, lets all of it go and checks that nothing was lost,
// and that nothing whose answer had been recorded went twice.
func (w world) recover(t *testing.T) {
	b := &bench{t: t, fs: w.fs, clock: &clock{at: time.Date(2026, 3, 1, 18, 0, 0, 0, time.UTC)},
		reports: &reports{keys: w.keys, envs: w.envs, text: w.texts}}
	b.courier = &courier{clock: b.clock, script: alwaysOK, taken: map[string]int{}}
	b.local = b.courier
	b.opt = Options{Hostname: "mx.martlet.test", Remote: b.courier, Local: b.local, Report: b.reports.take, Now: b.clock.now, Rand: rand.Float64, Random: random.Reader}
	b.open()
	defer b.eng.Close()
	b.sound()
	b.pass(8*time.Hour, 30*time.Minute)
	b.sound()
	b.empty()
	told := map[string]int{}
	for _, r := range b.reports.all() {
		for line := range strings.Lines(r) {
			if a, ok := strings.CutPrefix(line, "Final-Recipient: rfc822; "); ok && strings.Contains(r, "Action: failed") {
				told[strings.TrimSpace(a)]++
			}
		}
	}
	again := map[string]int{}
	for k, n := range b.courier.taken {
		_, a, _ := strings.Cut(k, " ")
		again[a] += n
	}
	for a := range w.acked {
		landed := w.groups[a] != flight{} && !w.flying[w.groups[a]]
		copies := w.taken[a] + again[a]
		switch {
		case w.later[a]+again[a] == 0 && told[a] == 0:
			t.Errorf("%s is lost", a)
		case landed && (w.taken[a] > 0 || w.failed[a]) && again[a] > 0:
			t.Errorf("%s went again though its answer was recorded", a)
		case copies > 1 && landed:
			t.Errorf("%s: %d copies", a, copies)
		case told[a] > 1, landed && w.failed[a] && told[a] != 1:
			t.Errorf("%s: told %d times", a, told[a])
		}
	}
}

// TestPowerCut cuts the power at random moments. MARTLET_CRASH_SEEDS sets the number
// of runs.
func TestPowerCut(t *testing.T) {
	seeds := 10
	if n, err := strconv.Atoi(os.Getenv("MARTLET_CRASH_SEEDS")); err == nil {
		seeds = n
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			for _, w := range work(t, uint64(seed)) {
				w.recover(t)
			}
		})
	}
}
