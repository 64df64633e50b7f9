package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/martlet-mail/martlet/internal/bench"
)

// course is one run of all that is wanted.
type course struct {
	plan
	put   func(sample)
	round int
	turn  int // of legs: part of the Message-IDs
}

// run measures everything, and writes each result as it comes.
func (p plan) run(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(p.raw), 0o755); err != nil {
		return err
	}
	f, err := os.Create(p.raw)
	if err != nil {
		return err
	}
	defer f.Close()
	write(f, heading{p.about()})
	began := time.Now()
	c := &course{plan: p, put: func(s sample) { write(f, s) }}
	for c.round = 1; c.round <= p.rounds; c.round++ {
		if p.has("delivery") || p.has("mix") {
			systems := append([]string{"pebble", "postgres", "standby"}, p.rivals...)
			for i := range systems {
				c.on(ctx, systems[(i+c.round-1)%len(systems)], c.loads) // nobody is always the first
			}
		}
		if p.has("nodes") {
			c.on(ctx, "two", c.nodes)
		}
		fmt.Fprintf(os.Stderr, "benchcluster: round %d is done after %s\n", c.round, time.Since(began).Round(time.Second))
	}
	c.round = 1
	if p.has("trips") || p.has("news") {
		c.on(ctx, "two", func(ctx context.Context, s *system) {
			if p.has("trips") {
				c.trips(ctx, s)
			}
			if p.has("news") {
				c.news(ctx, s)
			}
		})
	}
	if p.has("bytes") {
		c.on(ctx, "postgres", c.bytes)
	}
	if p.has("cold") {
		for _, name := range append([]string{"pebble", "postgres"}, p.rivals...) {
			c.on(ctx, name, c.cold)
		}
	}
	fmt.Fprintf(os.Stderr, "benchcluster: done after %s\n", time.Since(began).Round(time.Second))
	return ctx.Err()
}

// on starts a system, has it measured, and ends it.
func (c *course) on(ctx context.Context, name string, measure func(context.Context, *system)) {
	if ctx.Err() != nil || len(c.systems) > 0 && !slices.Contains(c.systems, name) {
		return
	}
	s, err := c.begin(name)
	if err != nil {
		c.failed("all", name, "start", err)
		return
	}
	defer s.end()
	measure(ctx, s)
}

func (c *course) failed(part, system, what string, err error) {
	c.put(sample{Part: part, System: system, Round: c.round, Case: what, Error: err.Error(), Load: loadAverage()})
}

// many are the numbers of connections.
var many = []int{1, 10, 50}

// loads measures deliveries and the mix.
func (c *course) loads(ctx context.Context, s *system) {
	if c.has("delivery") {
		for _, l := range []struct {
			name string
			rcpt []string
		}{{"one account", []string{address(0)}}, {"ten accounts", everybody()}} {
			t := s.target
			t.Recipients = l.rcpt
			for _, n := range many {
				c.load(ctx, "delivery", s, l.name, "lmtp", n, t)
			}
		}
	}
	if c.has("mix") && s.name != "standby" {
		c.fill(ctx, s)
		for _, n := range many {
			c.load(ctx, "mix", s, "ten accounts", "mix", n, s.target)
		}
	}
}

// fill makes the mailboxes of the mix before anything is timed.
func (c *course) fill(ctx context.Context, s *system) {
	o := bench.Options{Connections: []int{1}, Duration: 50 * time.Millisecond}
	if err := bench.Run(ctx, s.target, o, []string{"mix"}, func(bench.Result) {}); err != nil {
		c.failed("mix", s.name, "filling", err)
	}
}

func everybody() (out []string) {
	for i := range spread {
		out = append(out, address(i))
	}
	return out
}

// nodes puts the same load on one node of two, and then on both.
func (c *course) nodes(ctx context.Context, s *system) {
	second := s.target
	second.IMAP, second.LMTP, second.PID = s.nodes[1].at(143), s.nodes[1].at(24), s.nodes[1].run.PID
	c.fill(ctx, s)
	for _, l := range []struct {
		name, scenario string
		rcpt           []string
	}{{"one account", "lmtp", []string{address(0)}}, {"ten accounts", "lmtp", everybody()}, {"ten accounts", "mix", nil}} {
		a, b := s.target, second
		a.Recipients, b.Recipients = l.rcpt, l.rcpt
		c.load(ctx, "nodes", s, l.name+", one node", l.scenario, 50, a)
		c.load(ctx, "nodes", s, l.name+", both", l.scenario, 50, a, b)
		if l.name == "ten accounts" { // no account at both
			c.load(ctx, "nodes", s, "ten accounts, each at one node, one node", l.scenario, 50, a)
			half := spread / 2
			a.Users, b.Users = s.target.Users[:half], s.target.Users[half:]
			if l.rcpt != nil {
				a.Recipients, b.Recipients = l.rcpt[:half], l.rcpt[half:]
			}
			c.load(ctx, "nodes", s, "ten accounts, each at one node, both", l.scenario, 50, a, b)
		}
	}
}

// load runs one scenario with n connections, shared by the targets, and reports it with
// who used the processors meanwhile.
func (c *course) load(ctx context.Context, part string, s *system, name, scenario string, n int, targets ...bench.Target) {
	if ctx.Err() != nil {
		return
	}
	c.turn++
	s.forget()
	out := sample{Part: part, System: s.name, Round: c.round, Case: name, Load: loadAverage()}
	watch := &stopwatch{pids: s.pids()}
	results := make([]bench.Result, len(targets))
	errs := make([]error, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		o := bench.Options{Connections: []int{n / len(targets)}, Duration: c.duration, Run: fmt.Sprintf("r%dt%dn%d", c.round, c.turn, i)}
		if i == 0 {
			o.Progress = watch.tick
		}
		wg.Go(func() {
			inTime, cancel := context.WithTimeout(ctx, 3*time.Minute)
			defer cancel()
			errs[i] = bench.Run(inTime, t, o, []string{scenario}, func(r bench.Result) { results[i] = r })
		})
	}
	wg.Wait()
	out.Result = results[0]
	for _, r := range results[1:] {
		out.Rate += r.Rate
		out.Operations += r.Operations
		out.Connections += r.Connections
		out.P99 = max(out.P99, r.P99)
		out.Median = (out.Median + r.Median) / 2
		out.CPU = 0
	}
	out.Cores = watch.cores()
	for _, err := range errs {
		if err != nil {
			out.Error = err.Error()
		}
	}
	s.remember(c.profile, fmt.Sprintf("%s-%s-%d-%s", part, scenario, n, name))
	c.put(out)
}

// stopwatch reads who has used the processors, while a load is under way.
type stopwatch struct {
	pids        map[string][]int
	first, last reading
}

type reading struct {
	at   time.Time
	used map[string]time.Duration
}

// tick is called as the load goes on; before it begins, done is 0.
func (w *stopwatch) tick(_ string, done, total int) {
	switch {
	case done <= 0 || done >= total:
	case w.first.used == nil:
		w.first = w.read()
	case done*2 >= total:
		w.last = w.read()
	}
}

func (w *stopwatch) read() reading {
	used := map[string]time.Duration{}
	for name, pids := range w.pids {
		for _, pid := range pids {
			t, _ := bench.ProcessorTime(pid)
			used[name] += t
		}
	}
	var own syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &own) == nil {
		used["clients"] = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	}
	used["machine"] = busy()
	return reading{time.Now(), used}
}

// cores returns how many processors each used, in the mean.
func (w *stopwatch) cores() map[string]float64 {
	whole := w.last.at.Sub(w.first.at).Seconds()
	if w.first.used == nil || w.last.used == nil || whole <= 0 {
		return nil
	}
	out := map[string]float64{}
	for name, t := range w.last.used {
		out[name] = (t - w.first.used[name]).Seconds() / whole
	}
	return out
}

// news times how long after the answer to a delivery a session in IDLE hears of it: at the
// same node, and at the other.
func (c *course) news(ctx context.Context, s *system) {
	for _, l := range []struct {
		name string
		imap string
	}{{"at the node that took it", s.nodes[0].at(143)}, {"at another node", s.nodes[1].at(143)}} {
		t := s.target
		t.IMAP = l.imap
		o := bench.Options{Repeat: c.plan.news, Listeners: 10, Run: "news" + l.imap}
		err := bench.Run(ctx, t, o, []string{"announce"}, func(r bench.Result) {
			c.put(sample{Part: "news", System: s.name, Round: c.round, Case: l.name, Load: loadAverage(), Result: r})
		})
		if err != nil {
			c.failed("news", s.name, l.name, err)
		}
	}
}

// opened are the requests that are made cold.
var opened = []string{"select", "first-page", "fetch-flags", "fetch-envelope"}

// cold opens a large mailbox directly after a restart of the node, and of the node and its
// database.
func (c *course) cold(ctx context.Context, s *system) {
	fill := bench.Options{Messages: c.messages, Repeat: 1}
	if err := bench.Run(ctx, s.target, fill, []string{"select"}, func(bench.Result) {}); err != nil {
		c.failed("cold", s.name, "filling", err)
		return
	}
	syscall.Sync()
	for _, whole := range []bool{false, true} {
		name := "node restarted"
		if whole {
			name = "database restarted, too"
		}
		if whole && s.database == nil {
			continue
		}
		for _, scenario := range opened {
			o := bench.Options{Messages: c.messages, Repeat: 1, Colds: c.colds, Restart: func(context.Context) (int, error) {
				err := s.renew(whole)
				return s.target.PID, err
			}}
			s.forget()
			err := bench.Run(ctx, s.target, o, []string{scenario}, func(r bench.Result) {
				c.put(sample{Part: "cold", System: s.name, Round: c.round, Case: name, Load: loadAverage(), Result: r})
			})
			s.remember(c.profile, "cold-"+scenario+"-"+name)
			if err != nil {
				c.failed("cold", s.name, name+", "+scenario, err)
			}
		}
	}
}

// forget empties what the database has counted of statements.
func (s *system) forget() {
	if s.database != nil && s.database.profile {
		s.database.query("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
		s.database.query("SELECT pg_stat_statements_reset()")
	}
}

// remember writes what statements the database has carried out, the costliest first.
func (s *system) remember(dir, name string) {
	if s.database == nil || !s.database.profile {
		return
	}
	text, err := s.database.query(`SELECT calls, round(total_exec_time::numeric, 1) AS ms, rows, shared_blks_hit AS hit, shared_blks_read AS read,
 wal_bytes, regexp_replace(left(query, 400), '\s+', ' ', 'g') FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 25`)
	if err != nil {
		text = err.Error()
	}
	os.MkdirAll(dir, 0o755)
	name = string(slices.DeleteFunc([]byte(s.name+"-"+name+".txt"), func(b byte) bool { return b == ',' }))
	os.WriteFile(filepath.Join(dir, name), []byte("calls|ms|rows|hit|read|wal|query\n"+text+"\n"), 0o644)
}
