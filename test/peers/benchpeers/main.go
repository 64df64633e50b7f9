// Command benchpeers runs the scenarios of internal/bench on Martlet and on a private
// Dovecot, in turn and with the same bytes, and writes docs/benchmarks.md.
//
//	go build -o bin/martlet ./cmd/martlet && go run ./test/peers/benchpeers
//
// It needs root (for Dovecot) and Debian's packages dovecot-imapd and dovecot-lmtpd.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/bench"
)

// plan is what the flags ask for.
type plan struct {
	servers  []string
	only     []string // scenarios; empty means all
	rounds   int
	duration time.Duration
	messages int
	idle     int
	repeat   int
	binary   string
	out      string
	raw      string
	from     string
}

func main() {
	var p plan
	var servers, only string
	flag.StringVar(&servers, "servers", "martlet,maildir,mdbox", "which, in order: martlet, and the Dovecot formats maildir and mdbox")
	flag.StringVar(&only, "only", "", "scenarios, separated by commas (default all)")
	flag.IntVar(&p.rounds, "rounds", 3, "times that everything is run, each on a fresh server")
	flag.DurationVar(&p.duration, "duration", 5*time.Second, "length of each delivery run")
	flag.IntVar(&p.messages, "messages", 100_000, "messages in the large mailbox")
	flag.IntVar(&p.idle, "idle", 2_000, "idle connections")
	flag.IntVar(&p.repeat, "repeat", 5, "times each request on the large mailbox is made")
	flag.StringVar(&p.binary, "martlet", "bin/martlet", "binary")
	flag.StringVar(&p.out, "out", "docs/benchmarks.md", `file for the report, or "-" for standard output`)
	flag.StringVar(&p.raw, "raw", "", "file for each single result as a line of JSON")
	flag.StringVar(&p.from, "from", "", "file that -raw has written: only write the report again")
	flag.Parse()
	p.servers = strings.Split(servers, ",")
	if only != "" {
		p.only = strings.Split(only, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := p.execute(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "benchpeers:", err)
		os.Exit(1)
	}
}

// sample is one result of one server in one round.
type sample struct {
	Server string `json:"server"`
	Round  int    `json:"round"`
	Spread bool   `json:"spread,omitempty"` // deliveries went to ten accounts
	Load   string `json:"load"`             // load average of the machine before the run
	bench.Result
}

func (p plan) execute(ctx context.Context) error {
	run := p.runAll
	if p.from != "" {
		run = p.readBack
	}
	samples, err := run(ctx)
	if err != nil {
		return err
	}
	w := os.Stdout
	if p.out != "-" {
		f, err := os.Create(p.out)
		if err != nil {
			return err
		}
		defer f.Close()
		w = f
	}
	return p.write(w, samples)
}

// runAll measures every server in every round.
func (p plan) runAll(ctx context.Context) ([]sample, error) {
	raw := io.Discard
	if p.raw != "" {
		f, err := os.Create(p.raw)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		raw = f
	}
	var samples []sample
	for round := 1; round <= p.rounds; round++ {
		for i := range p.servers {
			name := p.servers[(i+round-1)%len(p.servers)] // nobody is always the first
			err := p.measure(ctx, name, func(s sample) {
				s.Server, s.Round = name, round
				samples = append(samples, s)
				line, _ := json.Marshal(s)
				fmt.Fprintf(os.Stderr, "%s\n", line)
				fmt.Fprintf(raw, "%s\n", line)
			})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return samples, nil
}

// readBack returns the results of an earlier run.
func (p plan) readBack(context.Context) ([]sample, error) {
	b, err := os.ReadFile(p.from)
	if err != nil {
		return nil, err
	}
	var samples []sample
	for line := range bytes.Lines(b) {
		var s sample
		if err := json.Unmarshal(line, &s); err != nil {
			return nil, fmt.Errorf("%s: %w", p.from, err)
		}
		samples = append(samples, s)
	}
	return samples, nil
}

// measure runs everything once on a fresh server.
func (p plan) measure(ctx context.Context, name string, report func(sample)) error {
	dir, err := os.MkdirTemp("", "bench-"+name+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := p.fill(ctx, name, filepath.Join(dir, "s")); err != nil {
		return err
	}
	s, err := start(name, filepath.Join(dir, "s"), p.binary, false)
	if err != nil {
		return err
	}
	defer s.stop()
	for _, leg := range p.legs() {
		load := loadAverage()
		t := s.target
		if leg.spread {
			t.Recipients = s.others
		}
		err := bench.Run(ctx, t, leg.opt, leg.names, func(r bench.Result) {
			report(sample{Spread: leg.spread, Load: load, Result: r})
		})
		if err != nil {
			fmt.Fprintf(os.Stderr, "benchpeers: %s: %v\n", name, err)
			if ctx.Err() != nil {
				return err
			}
		}
	}
	return nil
}

// fill makes the large mailbox, and ends the server again.
func (p plan) fill(ctx context.Context, name, dir string) error {
	s, err := start(name, dir, p.binary, true)
	if err != nil {
		return err
	}
	defer s.stop()
	opt := bench.Options{Messages: p.messages, Repeat: 1}
	return bench.Run(ctx, s.target, opt, []string{"select"}, func(bench.Result) {})
}

// leg is one call of bench.Run.
type leg struct {
	names  []string
	opt    bench.Options
	spread bool
}

// legs returns the runs in order.
func (p plan) legs() []leg {
	base := bench.Options{Duration: p.duration, Messages: p.messages, Idle: p.idle, Repeat: p.repeat}
	mixed := base
	mixed.Sizes = bench.Mixed
	var out []leg
	add := func(o bench.Options, spread bool, names ...string) {
		for _, n := range names {
			if len(p.only) == 0 || contains(p.only, n) {
				out = append(out, leg{[]string{n}, o, spread})
			}
		}
	}
	add(base, false, "idle-memory") // first, while the server has no memory left over from other work
	add(base, false, "lmtp", "append", "multiappend", "announce")
	add(base, true, "lmtp")
	add(mixed, true, "lmtp")
	add(base, false, "select", "fetch-flags", "fetch-envelope", "fetch-bodystructure",
		"fetch-size", "fetch-whole", "search-unseen", "search-subject", "search-text", "sort-date", "sort-subject", "thread",
		"store", "changedsince", "qresync")
	return out
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func loadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(b), " ")
	return first
}
