// Command benchcluster measures what it costs to have mailboxes on PostgreSQL instead of
// in the data folder, what a second node adds, and how far the nodes are from each other,
// with the scenarios of internal/bench; single nodes of Dovecot and Cyrus stand beside it
// for scale. It writes docs/benchmarks-cluster.md.
//
//	make bench-cluster
//
// Everything runs on this machine: clients, nodes and databases share its processors, and
// the report says who took how much of them. It needs root and what test/deps.sh and
// test/deps.sh bench install. A leg that fails is reported and the run goes on; -from writes the
// report again from what a run has left.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// plan is what the flags ask for.
type plan struct {
	parts    []string
	systems  []string // that take part; empty: all
	rivals   []string
	rounds   int
	duration time.Duration
	messages int
	colds    int
	rest     time.Duration
	news     int // deliveries whose news is timed, by ten
	binary   string
	cyrus    string
	dir      string
	out      string
	raw      string
	from     string
	profile  string
}

// parts are the pieces of a run, in order.
var parts = []string{"delivery", "mix", "nodes", "trips", "news", "cold", "bytes"}

func main() {
	p, err := flags(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchcluster:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := p.execute(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "benchcluster:", err)
		os.Exit(1)
	}
}

func flags(args []string) (plan, error) {
	var p plan
	var only, systems, rivals string
	var quick bool
	f := flag.NewFlagSet("benchcluster", flag.ExitOnError)
	f.StringVar(&only, "only", "", "parts, of "+strings.Join(parts, ",")+" (default all)")
	f.StringVar(&systems, "systems", "", "of pebble,postgres,standby,two and the rivals, those that take part (default all)")
	f.StringVar(&rivals, "rivals", "mdbox,cyrus", "whose single node stands beside; empty: nobody's")
	f.IntVar(&p.rounds, "rounds", 3, "times that deliveries, mix and nodes are run, each on fresh servers, in turning order")
	f.DurationVar(&p.duration, "duration", 3*time.Second, "length of each run of deliveries and mix")
	f.IntVar(&p.messages, "messages", 100_000, "messages in the mailbox that is opened cold")
	f.IntVar(&p.colds, "colds", 5, "times that it is")
	f.DurationVar(&p.rest, "rest", 10*time.Second, "time for which questions are counted that a node asks by itself")
	f.IntVar(&p.news, "news", 10, "tens of deliveries whose news is timed")
	f.BoolVar(&quick, "quick", false, "one round of short runs, which takes a few minutes")
	f.StringVar(&p.binary, "martlet", "bin/martlet", "binary")
	f.StringVar(&p.cyrus, "cyrus", "bin/peers/cyrus", "where cyrus-imapd is unpacked")
	f.StringVar(&p.dir, "dir", "", "where the servers' folders are made (default the system's for temporary files)")
	f.StringVar(&p.out, "out", "docs/benchmarks-cluster.md", `file for the report, or "-"`)
	f.StringVar(&p.raw, "raw", "bin/bench-cluster.jsonl", "file for each single result as a line of JSON")
	f.StringVar(&p.from, "from", "", "a file that -raw has written: only write the report again")
	f.StringVar(&p.profile, "profile", "", "folder for what pg_stat_statements says of each leg (default: it is not loaded)")
	f.Parse(args)
	if quick {
		hurry(f)
	}
	p.rivals, p.systems = list(rivals), list(systems)
	if p.parts = list(only); len(p.parts) == 0 {
		p.parts = parts
	}
	for _, s := range p.parts {
		if !slices.Contains(parts, s) {
			return p, fmt.Errorf("there is no part %q", s)
		}
	}
	return p, nil
}

// hurried are the values that -quick gives to what is not given by itself.
var hurried = map[string]string{"rounds": "1", "duration": "1500ms", "messages": "100000", "colds": "3", "news": "5", "rest": "5s"}

func hurry(f *flag.FlagSet) {
	given := map[string]bool{}
	f.Visit(func(one *flag.Flag) { given[one.Name] = true })
	for name, value := range hurried {
		if !given[name] {
			f.Set(name, value)
		}
	}
}

func list(s string) []string {
	return slices.DeleteFunc(strings.Split(s, ","), func(s string) bool { return s == "" })
}

func (p plan) has(part string) bool { return slices.Contains(p.parts, part) }

func (p plan) execute(ctx context.Context) error {
	if p.from == "" {
		if err := p.run(ctx); err != nil {
			return err
		}
		p.from = p.raw
	}
	r, err := readRaw(p.from)
	if err != nil {
		return err
	}
	text := report(r)
	if p.out == "-" {
		fmt.Print(text)
		return nil
	}
	return os.WriteFile(p.out, []byte(text), 0o644)
}
