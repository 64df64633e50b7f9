package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// page is text that grows.
type page struct{ strings.Builder }

func (p *page) say(format string, args ...any) { fmt.Fprintf(&p.Builder, format, args...) }

// grid is a table: lines by name, columns by system, and of each cell what every round
// measured.
type grid struct {
	lines, columns []string
	cells          map[[2]string][]float64
}

func (g *grid) put(line, column string, v float64) {
	if g.cells == nil {
		g.cells = map[[2]string][]float64{}
	}
	if !slices.Contains(g.lines, line) {
		g.lines = append(g.lines, line)
	}
	if !slices.Contains(g.columns, column) {
		g.columns = append(g.columns, column)
	}
	g.cells[[2]string{line, column}] = append(g.cells[[2]string{line, column}], v)
}

func (g *grid) of(line, column string) (float64, bool) {
	return median(g.cells[[2]string{line, column}])
}

func median(v []float64) (float64, bool) {
	if len(v) == 0 {
		return 0, false
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2, true
	}
	return s[len(s)/2], true
}

// ratio is the quotient of two columns in each round, its median, lowest and highest.
func (g *grid) ratio(line, over, under string) (mid, low, high float64, ok bool) {
	a, b := g.cells[[2]string{line, over}], g.cells[[2]string{line, under}]
	var each []float64
	for i := range min(len(a), len(b)) {
		if b[i] > 0 {
			each = append(each, a[i]/b[i])
		}
	}
	mid, ok = median(each)
	if ok {
		low, high = slices.Min(each), slices.Max(each)
	}
	return mid, low, high, ok
}

// table writes a grid; over and under name the columns whose ratio is shown, "" for none.
func (p *page) table(g *grid, what, over, under string) {
	if len(g.lines) == 0 {
		p.say("Not measured.\n")
		return
	}
	order := []string{"pebble", "postgres", "standby", "two", "mdbox", "cyrus"}
	slices.SortStableFunc(g.columns, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
	p.say("| %s |", what)
	for _, c := range g.columns {
		p.say(" %s |", display(c))
	}
	if over != "" {
		p.say(" PostgreSQL by own engine | from round to round |")
	}
	p.say("\n|---|%s", strings.Repeat("---:|", len(g.columns)))
	if over != "" {
		p.say("---:|---|")
	}
	p.say("\n")
	for _, l := range g.lines {
		p.say("| %s |", l)
		for _, c := range g.columns {
			if v, ok := g.of(l, c); ok {
				p.say(" %s |", number(v))
			} else {
				p.say(" - |")
			}
		}
		if mid, low, high, ok := g.ratio(l, over, under); over != "" && ok {
			p.say(" %.2f | %.2f to %.2f |", mid, low, high)
		} else if over != "" {
			p.say(" | |")
		}
		p.say("\n")
	}
}

// number writes a figure with three digits.
func number(v float64) string {
	switch {
	case v == 0:
		return "0"
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func connections(n int) string {
	if n == 1 {
		return "1 connection"
	}
	return fmt.Sprintf("%d connections", n)
}

// report is docs/benchmarks-cluster.md.
func report(r results) string {
	var out page
	out.say("# On PostgreSQL, and on two nodes\n\n")
	out.say(intro, r.about.Rounds, r.about.Seconds)
	out.loads(r)
	out.nodes(r)
	out.trips(r)
	out.news(r)
	out.cold(r)
	out.bytes(r)
	out.failed(r)
	out.say("\n## The machine, and how to repeat it\n\n%s; %s. %s.\n\n```\nmake bench-cluster\n```\n", r.about.Machine, r.about.Versions, r.about.When.Format(time.DateOnly))
	out.say(notes)
	out.say("\n### PostgreSQL\n\n```\n%s\n```\n", strings.Join(tuned, "\n"))
	out.say("\n### A node\n\n```toml\n%s```\n", configuration("node1", "DATA", "postgres://martlet@127.0.0.1/martlet", "LMTP", "IMAP", "HTTP"))
	return out.String()
}

// of returns the samples of a part that did not fail.
func (r results) of(part string) []sample {
	return slices.DeleteFunc(slices.Clone(r.samples), func(s sample) bool { return s.Part != part || s.Error != "" })
}

func (p *page) loads(r results) {
	var rate, late, cpu grid
	for _, s := range r.of("delivery") {
		line := s.Case + ", " + connections(s.Connections)
		rate.put(line, s.System, s.Rate)
		late.put(line, s.System, s.P99)
		cpu.cores(s, line)
	}
	p.say("\n## Deliveries\n\nBy LMTP, 1.4 KB each, per second. Each is durable before it is acknowledged: in the column with a standby on the disks of both.\n\n")
	p.table(&rate, "deliveries per second", "postgres", "pebble")
	p.say("\nMilliseconds within which 99 %% were acknowledged:\n\n")
	p.table(&late, "99 %, ms", "", "")
	var mix, mixLate, mixCPU grid
	for _, s := range r.of("mix") {
		line := strings.Replace(connections(s.Connections), "connection", "session", 1)
		mix.put(line, s.System, s.Rate)
		mixLate.put(line, s.System, s.P99)
		mixCPU.cores(s, line)
	}
	p.say("\n## Reading mail\n\nCommands of mail programs of several kinds (`mix` of [bench.md](bench.md)) in sessions of ten accounts, per second.\n\n")
	p.table(&mix, "commands per second", "postgres", "pebble")
	p.say("\nMilliseconds within which 99 %% were answered:\n\n")
	p.table(&mixLate, "99 %, ms", "", "")
	p.say("\n## Who used the processors\n\nProcessors in use, in the mean, of the machine's, while the load of 50 connections was under way:\n\n")
	p.users(r)
}

// cores adds who used the processors.
func (g *grid) cores(s sample, line string) {
	for _, who := range slices.Sorted(maps.Keys(s.Cores)) {
		g.put(line+": "+who, s.System, s.Cores[who])
	}
}

// users writes the processors of all loads with 50 connections.
func (p *page) users(r results) {
	var g grid
	for _, s := range append(append(r.of("delivery"), r.of("mix")...), r.of("nodes")...) {
		if s.Connections != 50 {
			continue
		}
		what := "deliveries, "
		if s.Scenario == "mix" {
			what = "mix, "
		}
		g.cores(s, what+s.Case)
	}
	slices.Sort(g.lines)
	p.table(&g, "load: who", "", "")
}

func (p *page) nodes(r results) {
	p.say("\n## Two nodes against one\n\nThe same load of 50 connections on one of two nodes, and halved between both, per second.\n\n")
	var g grid
	for _, s := range r.of("nodes") {
		what := "deliveries, "
		if s.Scenario == "mix" {
			what = "mix, "
		}
		at := strings.LastIndex(s.Case, ", ")
		g.put(what+s.Case[:at], s.Case[at+2:], s.Rate)
	}
	if len(g.lines) == 0 {
		p.say("Not measured.\n")
		return
	}
	p.say("| load | one node | both | both by one | from round to round |\n|---|---:|---:|---:|---|\n")
	for _, l := range g.lines {
		one, _ := g.of(l, "one node")
		both, _ := g.of(l, "both")
		mid, low, high, _ := g.ratio(l, "both", "one node")
		p.say("| %s | %s | %s | %.2f | %.2f to %.2f |\n", l, number(one), number(both), mid, low, high)
	}
	p.say("%s", limits)
}

func (p *page) trips(r results) {
	p.say("\n## Questions to the database\n\nRound trips for one operation that somebody waits for, as the node counts them in its metrics (`martlet_engine_..._total`),\nwarm and for the first time after its start. Looks are those that a node takes by itself at what somebody watches.\n\n")
	all := r.of("trips")
	if len(all) == 0 {
		p.say("Not measured.\n")
		return
	}
	p.say("| operation | times | round trips each | of which |\n|---|---:|---:|---|\n")
	for _, s := range all {
		var kinds []string
		for _, k := range slices.Sorted(maps.Keys(s.Cores)) {
			kinds = append(kinds, k+" "+number(s.Cores[k]))
		}
		p.say("| %s | %d | %s | %s |\n", s.Case, s.Operations, number(s.Value), strings.Join(kinds, ", "))
	}
}

func (p *page) news(r results) {
	p.say("\n## News at another node\n\nFrom the answer to a delivery at one node until a session in IDLE has its EXISTS, in ms; with ten sessions, until the last of them.\n\n")
	all := r.of("news")
	if len(all) == 0 {
		p.say("Not measured.\n")
		return
	}
	p.say("| sessions | deliveries | median | 99 %% within |\n|---|---:|---:|---:|\n")
	for _, s := range all {
		p.say("| %d %s | %d | %s | %s |\n", s.Connections, s.Case, s.Operations, number(s.Median), number(s.P99))
	}
}

func (p *page) cold(r results) {
	p.say("\n## A mailbox of %d messages, opened cold\n\nDirectly after a restart, in ms, the median. The files are still in the system's memory; PostgreSQL's own is empty where the database was restarted, too.\n\n", r.about.Messages)
	var g grid
	for _, s := range r.of("cold") {
		where := ""
		if s.System == "postgres" {
			where = ", " + s.Case
		}
		g.put(s.Scenario, display(s.System)+where, s.Cold)
		if s.System == "pebble" || s.System == "postgres" {
			g.put(s.Scenario+", warm", display(s.System)+where, s.Median)
		}
	}
	if len(g.lines) == 0 {
		p.say("Not measured.\n")
		return
	}
	p.say("| request | %s |\n|---|%s\n", strings.Join(g.columns, " | "), strings.Repeat("---:|", len(g.columns)))
	for _, l := range g.lines {
		p.say("| %s |", l)
		for _, c := range g.columns {
			if v, ok := g.of(l, c); ok {
				p.say(" %s |", number(v))
			} else {
				p.say(" - |")
			}
		}
		p.say("\n")
	}
}

func (p *page) bytes(r results) {
	p.say("\n## Bytes and rows\n\nOf ordinary mail (`corpus` of [bench.md](bench.md)), delivered by LMTP to ten accounts, bodies in the database.\n\n")
	all := r.of("bytes")
	if len(all) == 0 {
		p.say("Not measured.\n")
		return
	}
	p.say("| | |\n|---|---:|\n")
	for _, s := range all {
		p.say("| %s | %s |\n", s.Case, number(s.Value))
	}
}

func (p *page) failed(r results) {
	var said []string
	for _, s := range r.samples {
		if s.Error != "" {
			first, _, _ := strings.Cut(s.Error, "\n")
			said = append(said, fmt.Sprintf("- %s, %s, %s: %s\n", display(s.System), s.Part, s.Case, first))
		}
	}
	if len(said) > 0 {
		p.say("\n## Not measured\n\n%s", strings.Join(slices.Compact(said), ""))
	}
}
