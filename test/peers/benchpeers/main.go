// Command benchpeers runs the scenarios of internal/bench on Martlet and on private
// installations of Dovecot, Cyrus and Postfix, in turn and with the same bytes, and
// writes docs/benchmarks.md with its charts.
//
//	make bench-peers
//
// With -growth it runs those of the large mailbox at growing sizes, and some that take
// a store of many gigabytes, on Martlet and on Dovecot's mdbox, and writes
// docs/benchmarks-growth.md.
//
// Each result is written to the raw file as it comes; -from writes the report again
// from one or more such files. A leg that fails is reported and the run goes on. The
// servers need root and what test/deps.sh bench installs.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
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
	patience time.Duration
	budget   time.Duration
	drop     bool // the page cache, at each restart
	growth   bool
	sizes    []int // of growth
	grow     int64 // bytes
	idleCPU  int
	binary   string
	cyrus    string
	dir      string
	out      string
	raw      string
	from     []string
}

func main() {
	p, err := flags(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchpeers:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := p.execute(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "benchpeers:", err)
		os.Exit(1)
	}
}

func flags(args []string) (plan, error) {
	var p plan
	var servers, only, from, sizes string
	var quick bool
	f := flag.NewFlagSet("benchpeers", flag.ExitOnError)
	f.StringVar(&servers, "servers", "", `which, in order (default "martlet,maildir,mdbox,cyrus,postfix"; with -growth "martlet,mdbox")`)
	f.StringVar(&only, "only", "", "scenarios, separated by commas (default all)")
	f.IntVar(&p.rounds, "rounds", 0, "times that everything is run, each on fresh servers (default 3; with -growth 1)")
	f.DurationVar(&p.duration, "duration", 2*time.Second, "length of each delivery run")
	f.IntVar(&p.messages, "messages", 100_000, "messages in the large mailbox")
	f.IntVar(&p.idle, "idle", 2_000, "idle connections")
	f.IntVar(&p.repeat, "repeat", 3, "times each request on the large mailbox is made warm")
	f.DurationVar(&p.patience, "patience", 6*time.Minute, "time after which a leg is given up")
	f.DurationVar(&p.budget, "budget", 40*time.Minute, "no round is begun that would likely end after this time")
	f.BoolVar(&p.drop, "drop-caches", false, "have each restart empty the system's page cache too")
	f.BoolVar(&p.growth, "growth", false, "the growth of the mailbox and of the store")
	f.StringVar(&sizes, "sizes", "1000,10000,100000,1000000", "messages in the mailbox, with -growth")
	f.Int64Var(&p.grow, "grow-bytes", 10_000_000_000, "bytes the store grows to, with -growth")
	f.IntVar(&p.idleCPU, "idle-cpu", 10_000, "connections whose processor time is watched, with -growth")
	f.BoolVar(&quick, "quick", false, "a run of a few minutes that shows that all works: small numbers, one round")
	f.StringVar(&p.binary, "martlet", "bin/martlet", "binary")
	f.StringVar(&p.cyrus, "cyrus", "bin/peers/cyrus", "where cyrus-imapd is unpacked")
	f.StringVar(&p.dir, "dir", "", "where the servers' folders are made (default the system's for temporary files)")
	f.StringVar(&p.out, "out", "", `file for the report (default docs/benchmarks.md or docs/benchmarks-growth.md), or "-" for standard output, without charts`)
	f.StringVar(&p.raw, "raw", "", "file for each single result as a line of JSON (default bin/bench-peers.jsonl or bin/bench-growth.jsonl)")
	f.StringVar(&from, "from", "", "files that -raw has written, separated by commas: only write the report again")
	f.Parse(args)
	if quick {
		hurry(f)
	}
	p.servers, p.only, p.from = list(servers), list(only), list(from)
	for _, s := range list(sizes) {
		n, err := strconv.Atoi(s)
		if err != nil || n <= 0 {
			return p, fmt.Errorf("%q is no size of a mailbox", s)
		}
		p.sizes = append(p.sizes, n)
	}
	return p, p.complete()
}

// hurried are the values that -quick gives to what is not given by itself.
var hurried = map[string]string{"rounds": "1", "duration": "1s", "messages": "2000", "idle": "200", "repeat": "2",
	"sizes": "500,1000,2000", "grow-bytes": "100000000", "idle-cpu": "500"}

// hurry makes everything small.
func hurry(f *flag.FlagSet) {
	given := map[string]bool{}
	f.Visit(func(one *flag.Flag) { given[one.Name] = true })
	for name, value := range hurried {
		if !given[name] {
			f.Set(name, value)
		}
	}
}

// complete fills in what depends on other flags.
func (p *plan) complete() error {
	name := "peers"
	if p.growth {
		name = "growth"
	}
	if len(p.servers) == 0 {
		p.servers = []string{"martlet", "maildir", "mdbox", "cyrus", "postfix"}
		if p.growth {
			p.servers = []string{"martlet", "mdbox"}
		}
	}
	for _, s := range p.servers {
		if display(s) == s {
			return fmt.Errorf("there is no server %q", s)
		}
	}
	if p.rounds <= 0 {
		p.rounds = 3
		if p.growth {
			p.rounds = 1
		}
	}
	if p.raw == "" {
		p.raw = "bin/bench-" + name + ".jsonl"
	}
	if p.out == "" {
		p.out = "docs/benchmarks.md"
		if p.growth {
			p.out = "docs/benchmarks-growth.md"
		}
	}
	return nil
}

func list(s string) []string {
	return slices.DeleteFunc(strings.Split(s, ","), func(s string) bool { return s == "" })
}

func (p plan) execute(ctx context.Context) error {
	if len(p.from) == 0 {
		if err := p.runAll(ctx); err != nil {
			return err
		}
		p.from = []string{p.raw}
	}
	r, err := readRaw(p.from)
	if err != nil {
		return err
	}
	if p.growth {
		return p.publish(growthReport(r))
	}
	for _, title := range unexplained(rows(r.samples), r.servers()) {
		fmt.Fprintf(os.Stderr, "benchpeers: bounds.md has nothing about %q\n", title)
	}
	return p.publish(peersReport(r))
}
