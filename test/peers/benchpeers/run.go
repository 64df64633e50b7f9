package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/martlet-mail/martlet/internal/bench"
	"github.com/martlet-mail/martlet/internal/fault"
)

// footing is what a leg finds when it begins.
type footing int

const (
	fresh    footing = iota // a server that has just been started for the first time
	filled                  // one that was started on the large mailbox, put in before
	unsynced                // a fresh one that syncs nothing, where it can: only bytes are counted
)

// leg is one call of bench.Run.
type leg struct {
	title    string
	names    []string
	opt      bench.Options
	on       footing
	group    int           // legs of one group follow each other on one server
	spread   bool          // deliveries go to many accounts
	accounts int           // how many, for the server of the group; 0: ten
	tls      bool          // IMAP is spoken over TLS
	restart  bool          // the server may be restarted, and is before each cold request
	once     bool          // in the first round only
	patience time.Duration // if it is to be longer than others
	servers  []string      // empty means all but Postfix
}

// runsOn says whether a server takes part.
func (l leg) runsOn(server string) bool {
	if len(l.servers) == 0 {
		return server != "postfix"
	}
	return slices.Contains(l.servers, server)
}

// runAll measures every server in every round.
func (p plan) runAll(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(p.raw), 0o755); err != nil {
		return err
	}
	f, err := os.Create(p.raw)
	if err != nil {
		return err
	}
	defer f.Close()
	w := writer{f, os.Stderr}
	a := p.about()
	w.put(heading{&a})
	legs := p.legs()
	if p.growth {
		legs = p.growthLegs()
	}
	defer watchMore()()
	began := time.Now()
	for round := 1; round <= p.rounds; round++ {
		if likely := time.Since(began) / time.Duration(max(round-1, 1)) * time.Duration(round); likely > p.budget {
			fmt.Fprintf(os.Stderr, "benchpeers: round %d is left out: it would end after about %s\n", round, likely.Round(time.Minute))
			break
		}
		for i := range p.servers {
			name := p.servers[(i+round-1)%len(p.servers)] // nobody is always the first
			err := p.measure(ctx, name, round, legs, func(s sample) {
				s.Server, s.Round = name, round
				w.put(s)
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "benchpeers: %s, round %d: done after %s\n", name, round, time.Since(began).Round(time.Second))
		}
	}
	return nil
}

// measure runs the legs on one server, group after group. An error means that all is
// to end; what is wrong with one server is reported as a sample.
func (p plan) measure(ctx context.Context, name string, round int, legs []leg, report func(sample)) error {
	legs = slices.DeleteFunc(slices.Clone(legs), func(l leg) bool { return !l.runsOn(name) || l.once && round > 1 })
	for len(legs) > 0 {
		n := 1
		for n < len(legs) && legs[n].group == legs[0].group {
			n++
		}
		if err := p.together(ctx, name, round, legs[:n], report); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			report(sample{Leg: legs[0].title, Error: err.Error(), Load: loadAverage()})
		}
		legs = legs[n:]
	}
	return nil
}

// together runs the legs of one group on one server of their own.
func (p plan) together(ctx context.Context, name string, round int, legs []leg, report func(sample)) error {
	dir, err := os.MkdirTemp(p.dir, "bench-"+name+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l := launch{dir: filepath.Join(dir, "s"), binary: p.binary, cyrus: p.cyrus, accounts: max(legs[0].accounts, spread)}
	if l.pem, err = newCertificate(dir); err != nil {
		return err
	}
	if legs[0].on == filled {
		if err := p.fill(ctx, name, l, legs[0].opt.Messages); err != nil {
			return fmt.Errorf("filling the large mailbox: %w", err)
		}
	}
	l.filling = legs[0].on == unsynced
	s, err := start(name, l)
	if err != nil {
		return err
	}
	defer s.stop()
	time.Sleep(time.Second) // a server that listens may still be starting its processes
	for i, leg := range legs {
		run := fmt.Sprintf("r%dg%dl%d", round, leg.group, i)
		err := p.one(ctx, s, leg, run, report)
		if fault.Is(err, fault.Unavailable) && ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "benchpeers: %s, %s is tried again: %v\n", name, leg.title, err)
			err = p.one(ctx, s, leg, run+"again", report)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			report(sample{Leg: leg.title, Error: err.Error(), Load: loadAverage()})
		}
		if s.lost {
			return errors.New("the legs after " + leg.title + " are left out: the server did not come back")
		}
	}
	return nil
}

// fill makes the large mailbox and ends the server again.
func (p plan) fill(ctx context.Context, name string, l launch, messages int) error {
	l.filling = true
	s, err := start(name, l)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*p.patience)
	defer cancel()
	err = bench.Run(ctx, s.target, bench.Options{Messages: messages, Repeat: 1}, []string{"select"}, func(bench.Result) {})
	s.stop()
	syscall.Sync() // what was put in does not wait for the disk in the measured time
	return err
}

// one runs a leg.
func (p plan) one(ctx context.Context, s *server, l leg, run string, report func(sample)) error {
	load := loadAverage()
	t := s.target
	if l.spread {
		t.Recipients = s.others
	}
	if l.tls {
		t.IMAP, t.TLS = s.imaps, s.tls
	}
	opt := l.opt
	opt.Run = run
	if l.restart {
		opt.Stop = func(context.Context) error { s.stop(); return nil }
		opt.Restart = func(context.Context) (int, error) {
			err := s.again(p.drop)
			return s.target.PID, err
		}
	}
	inTime, cancel := context.WithTimeout(ctx, max(p.patience, l.patience))
	defer cancel()
	return bench.Run(inTime, t, opt, l.names, func(r bench.Result) {
		report(sample{Spread: l.spread, Load: load, Result: r})
	})
}

// again stops the server and starts it.
func (s *server) again(drop bool) error {
	s.stop()
	if drop {
		syscall.Sync()
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
			return err
		}
	}
	err := s.start()
	s.lost = err != nil
	if err != nil {
		return errors.Join(errors.New("the server did not come back"), err)
	}
	return nil
}

// watches is how many processes of one user may be told of changes of files at a time.
// Dovecot needs one for each session until it is hibernated, and says in its log which
// limit to raise.
const watches = "/proc/sys/fs/inotify/max_user_instances"

// watchMore raises that limit and returns what sets it back.
func watchMore() func() {
	before, err := os.ReadFile(watches)
	if n, _ := strconv.Atoi(strings.TrimSpace(string(before))); err != nil || n >= 1<<15 {
		return func() {}
	}
	if err := os.WriteFile(watches, []byte("65536"), 0); err != nil {
		fmt.Fprintln(os.Stderr, "benchpeers:", err)
		return func() {}
	}
	return func() { os.WriteFile(watches, before, 0) }
}
