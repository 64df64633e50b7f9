// Command reliability shows that the promises of docs/reliability.md are kept: it runs the
// tests of each, gathers what they counted (test/promise), and writes the figures into the
// page. `make reliability` runs all, ONLY=R4 one of them, LONG=1 the long forms.
//
// It judges nothing: a test that fails keeps its promise unkept, and the page says so.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	pageFile    = "docs/reliability.md"
	figuresFile = "docs/reliability.jsonl"
)

func main() {
	only := flag.String("only", "", "run only these promises, for example R4 or R1,R2")
	long := flag.Bool("long", false, "run the long forms")
	page := flag.Bool("page", false, "run nothing, only write the page anew")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := work(ctx, *only, *long, *page); err != nil {
		fmt.Fprintln(os.Stderr, "reliability:", err)
		os.Exit(1)
	}
}

func work(ctx context.Context, only string, long, page bool) error {
	known, err := readRecords(figuresFile)
	if err != nil {
		return err
	}
	var broken []string
	if !page {
		chosen, err := choose(only)
		if err != nil {
			return err
		}
		for _, p := range chosen {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			records, err := p.show(ctx, long)
			if err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", p.id, err)
				broken = append(broken, p.id)
				continue
			}
			known = replace(known, p.id, long, records)
			if err := writeRecords(figuresFile, known); err != nil {
				return err
			}
		}
	}
	if err := writePage(known); err != nil {
		return err
	}
	if broken != nil {
		return fmt.Errorf("not shown: %s", strings.Join(broken, ", "))
	}
	return nil
}

func choose(only string) ([]promised, error) {
	if only == "" {
		return promises, nil
	}
	var chosen []promised
	for id := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(promises, func(p promised) bool { return p.id == id })
		if i < 0 {
			return nil, fmt.Errorf("there is no promise %q; they are R1 to R%d", id, len(promises))
		}
		chosen = append(chosen, promises[i])
	}
	return chosen, nil
}

// show runs the tests of a promise and returns what they kept.
func (p promised) show(ctx context.Context, long bool) ([]record, error) {
	dir, err := os.MkdirTemp("", "reliability")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	notes := filepath.Join(dir, "notes")
	began := time.Now()
	for _, r := range p.runs {
		fmt.Fprintf(os.Stderr, "%s: %s\n", p.id, r)
		cmd := exec.CommandContext(ctx, "go", r.args()...)
		cmd.Env = append(os.Environ(), "MARTLET_PEERS=1", "MARTLET_FIGURES="+notes)
		if long {
			cmd.Env = append(cmd.Env, "MARTLET_LONG=1")
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", r, err, tail(string(out), 40))
		}
	}
	records, err := readRecords(notes)
	if err != nil {
		return nil, err
	}
	records = slices.DeleteFunc(records, func(r record) bool { return r.Promise != p.id })
	if len(records) == 0 {
		return nil, fmt.Errorf("its tests ran and noted nothing: they were skipped, or are not there")
	}
	for i := range records {
		records[i].When, records[i].Seconds = began.UTC().Format(time.DateOnly), int(time.Since(began).Seconds())
	}
	return records, nil
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
