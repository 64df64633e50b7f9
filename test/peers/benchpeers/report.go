package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/bench"
)

// row is one line of the report: a measurement, with a figure for each server.
type row struct {
	title  string
	unit   string
	higher bool // is better
	values map[string][]float64
}

// rows orders the samples by what they measure.
func rows(samples []sample) []*row {
	var out []*row
	find := func(title, unit string, higher bool) *row {
		for _, r := range out {
			if r.title == title {
				return r
			}
		}
		r := &row{title, unit, higher, map[string][]float64{}}
		out = append(out, r)
		return r
	}
	for _, s := range samples {
		put := func(title, unit string, higher bool, v float64) {
			r := find(title, unit, higher)
			r.values[s.Server] = append(r.values[s.Server], v)
		}
		switch s.Scenario {
		case "lmtp", "append":
			put(deliveryTitle(s), "per second", true, s.Rate)
			if s.Connections == 50 {
				put(deliveryTitle(s)+", 99 % within", "ms", false, s.P99)
			}
		case "multiappend":
			put(fmt.Sprintf("APPEND of %d at once, messages", s.Batch), "per second", true, s.Rate*float64(s.Batch))
		case "announce":
			put("EXISTS in IDLE after the answer to a delivery, median", "ms", false, s.Median)
			put("EXISTS in IDLE after the answer to a delivery, 99 % within", "ms", false, s.P99)
		case "idle-memory":
			put(fmt.Sprintf("memory of the server with %d connections in IDLE", s.Connections), "MB", false,
				float64(s.Base+s.PSS)/1e6)
		default:
			put(s.Scenario+", first", "ms", false, s.First)
			put(s.Scenario+", median", "ms", false, s.Median)
		}
	}
	return out
}

func deliveryTitle(s sample) string {
	t := strings.ToUpper(s.Scenario) + ", "
	switch {
	case s.Scenario == "append":
		t += "one mailbox"
	case s.Spread:
		t += "ten accounts"
	default:
		t += "one account"
	}
	if s.Sizes == bench.Mixed {
		t += ", 13 KB in the mean"
	}
	return fmt.Sprintf("%s, %d connections", t, s.Connections)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// ratio says how much better the first server is than the better of the others, or 0
// where there is nothing to compare.
func (r *row) ratio(servers []string) float64 {
	if len(servers) < 2 || servers[0] != "martlet" {
		return 0
	}
	own := median(r.values[servers[0]])
	best := 0.0
	for _, s := range servers[1:] {
		v := median(r.values[s])
		if v > 0 && (best == 0 || (v > best) == r.higher) {
			best = v
		}
	}
	if own <= 0 || best <= 0 {
		return 0
	}
	if r.higher {
		return own / best
	}
	return best / own
}

// verdict names the measurements in which Martlet is behind.
func verdict(all []*row, servers []string) string {
	var behind []string
	compared := 0
	for _, r := range all {
		ratio := r.ratio(servers)
		if ratio > 0 {
			compared++
		}
		if ratio > 0 && ratio < 1 {
			behind = append(behind, fmt.Sprintf("%s (%.2f)", r.title, ratio))
		}
	}
	switch {
	case compared == 0:
		return ""
	case len(behind) == 0:
		return "Martlet is behind in none of them.\n\n"
	}
	return "Martlet is behind in: " + strings.Join(behind, "; ") + ".\n\n"
}

func figure(v float64) string {
	switch {
	case v == 0:
		return "-"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// write writes the report.
func (p plan) write(w io.Writer, samples []sample) error {
	rounds := 0
	for _, s := range samples {
		rounds = max(rounds, s.Round)
	}
	fmt.Fprintf(w, intro, rounds, p.duration, p.messages)
	fmt.Fprintf(w, "| measurement | unit |")
	for _, s := range p.servers {
		fmt.Fprintf(w, " %s |", display(s))
	}
	fmt.Fprintf(w, " ratio |\n|---|---|%s---|\n", strings.Repeat("---|", len(p.servers)))
	all := rows(samples)
	for _, r := range all {
		fmt.Fprintf(w, "| %s | %s |", r.title, r.unit)
		for _, s := range p.servers {
			fmt.Fprintf(w, " %s |", figure(median(r.values[s])))
		}
		fmt.Fprintf(w, " %s |\n", figure(r.ratio(p.servers)))
	}
	fmt.Fprintf(w, "\n%s%s\n\n## How to repeat it\n\n%s", verdict(all, p.servers), machine(samples), repeatText)
	for _, s := range p.servers {
		fmt.Fprintf(w, "\n### Configuration of %s\n\n```\n%s```\n", display(s), configuration(s))
	}
	return nil
}

func display(server string) string {
	switch server {
	case "martlet":
		return "Martlet"
	case "maildir", "mdbox":
		return "Dovecot, " + server
	}
	return server
}

// machine says what the figures were taken on.
func machine(samples []sample) string {
	low, high := 0.0, 0.0
	for i, s := range samples {
		load, _ := strconv.ParseFloat(s.Load, 64)
		if i == 0 || load < low {
			low = load
		}
		high = max(high, load)
	}
	model := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.Trim(rest, " \t:\n")
				break
			}
		}
	}
	version, _ := exec.Command("dovecot", "--version").Output()
	return fmt.Sprintf("Machine: %s, %d cores, %s; %s; Dovecot %s. Load average before the single runs: %.1f to %.1f\n"+
		"(the runs themselves are part of it).", model, runtime.NumCPU(), runtime.GOOS, runtime.Version(),
		strings.TrimSpace(string(version)), low, high)
}

const intro = `# Benchmarks

Martlet beside Dovecot, on one machine, in one run, with the same bytes, over the same
client (` + "`martlet bench`" + `). Each figure is the median of %d round(s), each on a fresh server. A
delivery run lasts %s; the large mailbox has %d messages. Client and server share
the processors. Every delivery that is counted is on disk: both servers sync before
they answer.

The ratio is Martlet's figure against the better of the other two: above 1, Martlet is
faster or smaller.

`

const repeatText = "```\nmake bench\n```\n\nor, with other numbers of rounds or messages,\n\n```\n" +
	"go build -o bin/martlet ./cmd/martlet\ngo run ./test/peers/benchpeers -rounds 3 -messages 100000 -out docs/benchmarks.md\n```\n\n" +
	`The small message has 1.4 KB. "13 KB in the mean" is a mix: half of the messages have 2 KB, a
third 6 KB, and one in twenty 80 KB or more, with an attachment. "First" is the first
request of its kind on a mailbox that was filled before the server was started, with
the files still in memory; "median" is that of all.
Memory is the proportional share (PSS) of all processes of the server, so that pages
which processes have in common count once; it is that of the whole server, since what
a connection adds cannot be told from memory that is free within a process.

What to know when reading it: the client reads everything and parses little, and its
loop is closed (a connection sends the next request when it has the answer to the
last one). A static password is Dovecot's cheapest sign-in; sign-in is outside of all
measured times. Of flags that change, Dovecot syncs nothing to disk by default; Martlet syncs
before it answers STORE, as it does for mail.

`
