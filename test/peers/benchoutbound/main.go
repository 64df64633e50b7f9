// Command benchoutbound measures how fast Martlet and Postfix, in turns and in one run,
// hand mail on to other hosts: to Postfix's smtp-sink on loopback, over at most 50
// connections at a time. It needs root, for a private Postfix.
//
// Two things are measured. "through": mail comes in over 50 connections and goes out at
// once; the rate counts from the first message given in to the last one taken by the
// sink. "drain": the other side was down, and everything waits in the queue; the rate
// counts from the moment it is up again and the queue has been told so.
//
// Every message is on the disk of the same machine before its 250, for both.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// settings are the command's flags.
type settings struct {
	messages, size, connections, rounds, domains int
	binary, only, sign                           string
}

func main() {
	var s settings
	flag.IntVar(&s.messages, "messages", 10_000, "messages of each measurement")
	flag.IntVar(&s.size, "size", 1400, "bytes of each message")
	flag.IntVar(&s.connections, "connections", 50, "connections in, and at most out")
	flag.IntVar(&s.rounds, "rounds", 3, "times that each server has its turn")
	flag.IntVar(&s.domains, "domains", 1, "domains that the recipients are of")
	flag.StringVar(&s.binary, "martlet", "bin/martlet", "program to measure")
	flag.StringVar(&s.only, "only", "", `"martlet" or "postfix"`)
	flag.StringVar(&s.sign, "sign", "none", `what Martlet signs with: "none" as Postfix, "ed25519", "rsa" or "both"`)
	flag.Parse()
	if err := measure(context.Background(), s); err != nil {
		fmt.Fprintln(os.Stderr, "benchoutbound:", err)
		os.Exit(1)
	}
}

// server is one of the two.
type server interface {
	name() string
	load() target // where mail is given in
	hold() error  // restarts it so that nothing goes out
	flow() error  // tells it that the other side is up again
	pid() int
	stop() error
}

// figure is one measurement.
type figure struct {
	rate float64 // messages a second
	cpu  float64 // processor time of the server and its children, ms a message
}

func measure(ctx context.Context, s settings) error {
	dir, err := os.MkdirTemp("", "benchoutbound")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // Postfix's daemons run as other users
		return err
	}
	got := map[string][]figure{}
	for round := range s.rounds {
		for _, kind := range []string{"martlet", "postfix"} {
			if s.only != "" && s.only != kind {
				continue
			}
			for _, what := range []string{"through", "drain"} {
				f, err := turn(ctx, s, kind, what, filepath.Join(dir, fmt.Sprint(kind, what, round)))
				if err != nil {
					return fmt.Errorf("%s, %s: %w", kind, what, err)
				}
				fmt.Fprintf(os.Stderr, "round %d: %s %s %.0f/s, %.2f ms of processor time a message\n", round+1, kind, what, f.rate, f.cpu)
				got[kind+what] = append(got[kind+what], f)
			}
		}
	}
	report(s, got)
	return nil
}

// turn is one measurement of one server, new and empty.
func turn(ctx context.Context, s settings, kind, what, dir string) (f figure, err error) {
	to, err := newSink()
	if err != nil {
		return f, err
	}
	defer to.stop()
	if what == "through" {
		if err := to.start(); err != nil {
			return f, err
		}
	}
	srv, err := start(kind, s, dir, to.addr)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, srv.stop()) }()
	if what == "drain" {
		if err := srv.hold(); err != nil {
			return f, err
		}
	}
	used, began := processorTime(srv.pid()), time.Now()
	if err := give(ctx, srv.load(), s); err != nil {
		return f, err
	}
	if what == "drain" {
		if err := to.start(); err != nil {
			return f, err
		}
		used, began = processorTime(srv.pid()), time.Now()
		if err := srv.flow(); err != nil {
			return f, err
		}
	}
	took, err := to.wait(began, s.messages)
	if err != nil {
		return f, err
	}
	spent := processorTime(srv.pid()) - used
	return figure{float64(s.messages) / took.Seconds(), spent.Seconds() * 1000 / float64(s.messages)}, nil
}

func report(s settings, got map[string][]figure) {
	fmt.Printf("| %d messages of %d bytes, %d connections | Martlet | Postfix | ratio |\n|---|---|---|---|\n", s.messages, s.size, s.connections)
	for _, what := range []string{"through", "drain"} {
		m, p := median(got["martlet"+what]), median(got["postfix"+what])
		fmt.Printf("| %s, messages a second | %.0f | %.0f | %.2f |\n", what, m.rate, p.rate, m.rate/p.rate)
		fmt.Printf("| %s, ms of processor time a message | %.2f | %.2f | %.2f |\n", what, m.cpu, p.cpu, m.cpu/p.cpu)
	}
}

func median(f []figure) figure {
	if len(f) == 0 {
		return figure{}
	}
	f = slices.Clone(f)
	slices.SortFunc(f, func(a, b figure) int { return int((a.rate - b.rate) * 1000) })
	return f[len(f)/2]
}
