package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// report is a page and the pictures in it, by the names of their files.
type report struct {
	text     string
	pictures map[string]string
}

// publish writes a report and its pictures, which lie in the folder "images" beside it.
func (p plan) publish(r report) error {
	if p.out == "-" {
		fmt.Print(r.text)
		return nil
	}
	images := filepath.Join(filepath.Dir(p.out), "images")
	if err := os.MkdirAll(images, 0o755); err != nil {
		return err
	}
	for name, text := range r.pictures {
		if err := os.WriteFile(filepath.Join(images, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(p.out, []byte(r.text), 0o644)
}

// page is text that grows.
type page struct{ strings.Builder }

func (p *page) say(format string, args ...any) { fmt.Fprintf(&p.Builder, format, args...) }

// peersReport is docs/benchmarks.md.
func peersReport(r results) report {
	var out page
	servers, all := r.servers(), rows(r.samples)
	a := r.setting()
	out.say("# Benchmarks\n\n")
	out.say(peersIntro, len(r.rounds()), a.Seconds, a.Messages)
	out.say("%s", tally(all, servers))
	out.say("![Ratios to the best peer](images/bench-ratios.svg)\n")
	for _, s := range sections {
		of := slices.DeleteFunc(slices.Clone(all), func(r *row) bool { return r.section != s })
		if len(of) == 0 {
			continue
		}
		out.say("\n## %s\n\n", s)
		out.figures(of, servers)
	}
	out.below(all, servers)
	out.costs(r.samples, servers)
	out.failed(r)
	out.circumstances(r)
	out.say(peersNotes)
	out.say("\n## Configurations\n")
	for _, s := range servers {
		out.say("\n### %s\n\n```\n%s```\n", display(s), configuration(s))
	}
	return report{out.String(), map[string]string{"bench-ratios.svg": ratioChart(all, servers)}}
}

// setting returns what the runs were made with; that of the first file stands for all.
func (r results) setting() about {
	if len(r.about) == 0 {
		return about{Command: "make bench-peers"}
	}
	return r.about[0]
}

// figures writes the table of the rows.
func (p *page) figures(all []*row, servers []string) {
	servers = slices.DeleteFunc(slices.Clone(servers), func(s string) bool { // who has none at all has no column
		return !slices.ContainsFunc(all, func(r *row) bool { return len(r.values[s]) > 0 })
	})
	p.say("| measurement | unit |")
	for _, s := range servers {
		p.say(" %s |", display(s))
	}
	compared := slices.ContainsFunc(all, func(r *row) bool { _, ok := r.ratio(servers); return ok })
	ratios := ""
	if compared {
		p.say(" ratio | from round to round |")
		ratios = "---:|---|"
	}
	p.say("\n|---|---|%s%s\n", strings.Repeat("---:|", len(servers)), ratios)
	for _, r := range all {
		p.say("| %s | %s |", escape(r.title), r.unit)
		for _, s := range servers {
			if v, ok := r.of(s); ok {
				p.say(" %s |", number(v))
			} else {
				p.say(" - |")
			}
		}
		ratio, ok := r.ratio(servers)
		switch {
		case !compared:
			p.say("\n")
		case !ok:
			p.say(" | |\n")
		case ratio.value < goal:
			p.say(" **%s** | %s to %s |\n", times(ratio.value), times(ratio.low), times(ratio.high))
		default:
			p.say(" %s | %s to %s |\n", times(ratio.value), times(ratio.low), times(ratio.high))
		}
	}
}

// escape keeps Markdown from reading commands as its own.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "<", `\<`, "_", `\_`).Replace(s)
}

// tally counts the lines at the goal.
func tally(all []*row, servers []string) string {
	compared, reached, behind := 0, 0, 0
	for _, r := range all {
		ratio, ok := r.ratio(servers)
		if !ok {
			continue
		}
		compared++
		switch {
		case ratio.value >= goal:
			reached++
		case ratio.value < 1:
			behind++
		}
	}
	if compared == 0 {
		return ""
	}
	return fmt.Sprintf("Of %d lines, %d are at %.1f or above, %d between 1 and %.1f, and %d below 1.\n\n",
		compared, reached, goal, compared-reached-behind, goal, behind)
}

// below lists what does not reach the goal, and what bounds it.
func (p *page) below(all []*row, servers []string) {
	p.say("\n## Below %.1f\n\n", goal)
	any := false
	for _, r := range all {
		ratio, ok := r.ratio(servers)
		if !ok || ratio.value >= goal {
			continue
		}
		any = true
		peer, _, _ := r.best(servers)
		why := bound(r.title)
		if why == "" {
			why = "Not explained yet."
		}
		p.say("- **%s**: %s (%s to %s), beside %s. %s\n", escape(r.title), times(ratio.value),
			times(ratio.low), times(ratio.high), display(peer), why)
	}
	if !any {
		p.say("Nothing.\n")
	}
}

// costs writes what the servers' processors and memory had to do with it.
func (p *page) costs(samples []sample, servers []string) {
	var cpu, memory table
	for _, s := range samples {
		title := costTitle(s)
		if title == "" || s.Error != "" {
			continue
		}
		if s.CPU > 0 {
			cpu.put(s, "", title, "ms", false, s.CPU)
		}
		if peak := max(s.MemoryPeak, s.Memory); peak > 0 {
			memory.put(s, "", title, "MB", false, float64(peak)/1e6).alone = true
		}
	}
	if len(cpu.rows) > 0 {
		p.say("\n## Processor time of the server for each operation\n\nUser and system time of all its processes. " +
			"An operation is a message, a command, or for the large\nmailbox a warm request.\n\n")
		p.figures(cpu.rows, servers)
	}
	if len(memory.rows) > 0 {
		p.say("\n## Memory of the server\n\nThe highest that was seen while the scenario ran, of all its processes, pages in common counted once.\n\n")
		p.figures(memory.rows, servers)
	}
}

// costTitle names a sample in the tables of costs; "" leaves it out.
func costTitle(s sample) string {
	switch s.Scenario {
	case "lmtp", "smtp", "append":
		return deliveryTitle(s)
	case "multiappend":
		return fmt.Sprintf("APPEND of %d at once", s.Batch)
	case "announce", "idle-memory", "idle-cpu", "open-memory", "disk", "grow", "restart":
		return ""
	case "handshake", "handshake-resumed":
		return handshakeTitle(s)
	}
	return secured(commandTitle(s.Scenario), s)
}

// failed names the legs that failed, where there are any.
func (p *page) failed(r results) {
	failures := r.failures()
	if len(failures) == 0 {
		return
	}
	p.say("\n## Not measured\n\n")
	var said []string
	for _, s := range failures {
		line := fmt.Sprintf("- %s, %s: %s", display(s.Server), escape(s.Leg), escape(strings.TrimSpace(s.Error)))
		if first, _, more := strings.Cut(line, "\n"); more {
			line = first
		}
		if !slices.Contains(said, line) {
			said = append(said, line)
			p.say("%s\n", line)
		}
	}
}

// circumstances says where and with what the figures were taken.
func (p *page) circumstances(r results) {
	low, high := r.load()
	p.say("\n## The machine, and how to repeat it\n\n")
	for _, a := range r.about {
		p.say("%s; %s. %s.", a.Machine, a.Versions, a.When.Format(time.DateOnly))
		if a.Drop {
			p.say(" Each restart emptied the page cache too.")
		}
		p.say("\n")
	}
	p.say("Load average before the single runs: %.1f to %.1f (the runs themselves are part of it).\n\n", low, high)
	p.say("```\n%s\n```\n", r.setting().Command)
}
