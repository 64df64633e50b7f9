package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/bench"
)

// family is a group of scenarios that share a chart.
type family struct {
	key, title, promise string
	scenarios           []string
}

var families = []family{
	{"open", "Opening a mailbox, and coming back to it", "Of a mailbox that was opened before these do not depend on the number of messages: their lines should stay flat. " +
		"Directly after a start what changes of all messages is read, once for all sessions: 25 ns each.",
		[]string{"select", "select-new-session", "first-page", "changedsince", "qresync", "qresync-100"}},
	{"fetch", "Asking something of every message", "These answer with a line for each message: their lines may rise as fast as the number of messages, and no faster.",
		[]string{"fetch-flags", "fetch-envelope", "fetch-bodystructure", "fetch-size", "headers"}},
	{"search", "Searching, and reading 1,000 messages", "A search may cost as much as there are messages; 1,000 messages are 1,000 in a mailbox of any size. " +
		"A search for a text looks again at one message in thirty, which its notes leave open. In a million these lie in more blocks " +
		"of the tables than the cache of 32 MB holds, and to unpack them is three fifths of the time, in a profile of it.",
		[]string{"search-unseen", "search-subject", "search-text", "fetch-whole"}},
	{"sort", "Sorting, threading, and setting a flag on all", "These name every message, too.",
		[]string{"sort-date", "sort-subject", "thread", "store-add", "store-remove-silent"}},
}

// growthReport is docs/benchmarks-growth.md.
func growthReport(r results) report {
	out, pictures := &page{}, map[string]string{}
	sizes := r.sizes()
	out.say("# Growth\n\n")
	out.say(growthIntro, commas(sizes))
	for _, f := range families {
		out.family(r, f, sizes, pictures)
	}
	if len(sizes) > 0 {
		out.largest(r, sizes[len(sizes)-1])
	}
	out.grown(r, pictures)
	out.selected(r, "Connections that wait", idleText, func(s sample) bool {
		return s.Scenario == "idle-memory" || s.Scenario == "idle-cpu"
	})
	out.secured(r)
	out.selected(r, "Bytes on disk", diskText, func(s sample) bool { return s.Scenario == "disk" })
	out.failed(r)
	out.circumstances(r)
	out.say(growthNotes)
	return report{out.String(), pictures}
}

// sizes returns the numbers of messages that the large mailbox had, in order.
func (r results) sizes() []int {
	var out []int
	for _, s := range r.samples {
		if s.Mailbox > 0 && !slices.Contains(out, s.Mailbox) {
			out = append(out, s.Mailbox)
		}
	}
	slices.Sort(out)
	return out
}

// commas writes numbers as a list: 1,000, 10,000 and 100,000.
func commas(sizes []int) string {
	var parts []string
	for _, n := range sizes {
		parts = append(parts, grouped(n))
	}
	if len(parts) < 2 {
		return strings.Join(parts, "")
	}
	return strings.Join(parts[:len(parts)-1], ", ") + " and " + parts[len(parts)-1]
}

func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// curve is how long one request takes on one server at each size.
type curve struct {
	server, title string
	cold, warm    map[int]float64
}

// curves returns those of a family, server by server.
func (r results) curves(f family) []curve {
	var out []curve
	for _, server := range r.servers() {
		for _, scenario := range f.scenarios {
			c := curve{server, commandTitle(scenario), map[int]float64{}, map[int]float64{}}
			for _, n := range r.sizes() {
				var cold, warm []figure
				for _, s := range r.samples {
					if s.Error != "" || s.Server != server || s.Scenario != scenario || s.Mailbox != n || s.TLS != bench.Plain {
						continue
					}
					warm = append(warm, figure{s.Round, s.Median})
					if s.ColdRuns > 0 {
						cold = append(cold, figure{s.Round, s.Cold})
					}
				}
				if v, ok := median(warm); ok {
					c.warm[n] = v
				}
				if v, ok := median(cold); ok {
					c.cold[n] = v
				}
			}
			if len(c.warm) > 0 {
				out = append(out, c)
			}
		}
	}
	return out
}

// family writes the charts and the table of one group.
func (p *page) family(r results, f family, sizes []int, pictures map[string]string) {
	curves := r.curves(f)
	if len(curves) == 0 {
		return
	}
	p.say("\n## %s\n\n%s\n\n", f.title, f.promise)
	for _, heat := range []string{"warm", "cold"} {
		var lines []plotted
		for _, c := range curves {
			of := map[string]map[int]float64{"warm": c.warm, "cold": c.cold}[heat]
			lines = append(lines, plotted{c.title, c.server, of})
		}
		name := fmt.Sprintf("bench-growth-%s-%s.svg", f.key, heat)
		if pictures[name] = growthChart(f.title+", "+heat, lines, sizes); pictures[name] == "" {
			delete(pictures, name)
			continue
		}
		p.say("![%s, %s](images/%s)\n", f.title, heat, name)
	}
	p.say("\nIn ms, directly after a restart / warm:\n\n| request | server |")
	for _, n := range sizes {
		p.say(" %s |", grouped(n))
	}
	p.say(" for tenfold |\n|---|---|%s---:|\n", strings.Repeat("---:|", len(sizes)))
	for _, c := range curves {
		p.say("| %s | %s |", escape(c.title), display(c.server))
		for _, n := range sizes {
			p.say(" %s / %s |", cell(c.cold, n), cell(c.warm, n))
		}
		p.say(" %s |\n", tenfold(c.warm, sizes))
	}
}

func cell(of map[int]float64, n int) string {
	if v, ok := of[n]; ok {
		return number(v)
	}
	return "-"
}

// tenfold says by how much the time grows for ten times as many messages, at the upper
// end.
func tenfold(of map[int]float64, sizes []int) string {
	var have []int
	for _, n := range sizes {
		if of[n] > 0 {
			have = append(have, n)
		}
	}
	if len(have) < 2 {
		return "-"
	}
	a, b := have[len(have)-2], have[len(have)-1]
	power := math.Log(of[b]/of[a]) / math.Log(float64(b)/float64(a))
	return "× " + number(math.Pow(10, power))
}

// largest is the section about the largest mailbox.
func (p *page) largest(r results, n int) {
	wanted := []string{"select", "select-new-session", "first-page", "qresync-100", "open-memory"}
	p.selected(r, fmt.Sprintf("A mailbox of %s messages", grouped(n)), "", func(s sample) bool {
		return s.Mailbox == n && s.TLS == bench.Plain && slices.Contains(wanted, s.Scenario)
	})
}

// selected writes the rows of some of the samples under a heading, if there are any.
func (p *page) selected(r results, title, text string, wanted func(sample) bool) {
	var of []sample
	for _, s := range r.samples {
		if s.Error == "" && wanted(s) {
			of = append(of, s)
		}
	}
	if len(of) == 0 {
		return
	}
	p.say("\n## %s\n\n%s", title, text)
	p.figures(rows(of), r.servers())
}

// secured is the section about TLS.
func (p *page) secured(r results) {
	size := 0
	for _, s := range r.samples {
		if s.TLS != bench.Plain && s.Mailbox > 0 {
			size = s.Mailbox
		}
	}
	p.selected(r, "With and without TLS", tlsText, func(s sample) bool {
		switch s.Scenario {
		case "fetch-envelope", "fetch-whole":
			return s.Mailbox == size
		case "append", "handshake", "handshake-resumed":
			return true
		}
		return false
	})
}

// grown is the section about the store that grows.
func (p *page) grown(r results, pictures map[string]string) {
	for _, s := range r.samples {
		if s.Scenario != "grow" || len(s.Intervals) < 2 || s.Error != "" {
			continue
		}
		stored := float64(s.Bytes) / 1e9
		p.say("\n## Delivering until the store holds %s GB\n\n", number(stored))
		name := fmt.Sprintf("bench-growth-rate-%s.svg", s.Server)
		pictures[name] = rateChart(s.Intervals)
		p.say("![Deliveries per second while the store grows](images/%s)\n\n", name)
		p.say(grownText, display(s.Server), s.Connections, grouped(s.Operations), s.Seconds, s.Rate)
		n := max(len(s.Intervals)/10, 1)
		first, last := middleRate(s.Intervals[:n]), middleRate(s.Intervals[len(s.Intervals)-n:])
		p.say("The first tenth of the intervals has %s per second in the median, the last tenth %s (%s of it).\n",
			number(first), number(last), number(last/first))
		p.stalls(s.Intervals)
		if peak := max(s.MemoryPeak, s.Memory); peak > 0 {
			p.say("The server had %s MB of memory at most.\n", number(float64(peak)/1e6))
		}
		p.again(r, s.Server)
	}
}

// stalls says how often deliveries were held up, by compaction for example.
func (p *page) stalls(of []bench.Interval) {
	usual := middleRate(of)
	slow, longest, since, lowest := 0, 0.0, 0.0, math.Inf(1)
	before := 0.0
	for _, i := range of {
		lowest = min(lowest, i.Rate)
		if i.Rate < usual/2 {
			slow++
			longest = max(longest, i.Seconds-since)
		} else {
			since = i.Seconds
		}
		before = i.Seconds
	}
	p.say("Of %d intervals of %s s, %d were below half of the median of %s per second", len(of), number(before/float64(len(of))), slow, number(usual))
	if slow > 0 {
		p.say("; the longest such time lasted %s s", number(longest))
	}
	p.say(". The slowest had %s per second.\n", number(lowest))
}

func middleRate(of []bench.Interval) float64 {
	var f []figure
	for _, i := range of {
		f = append(f, figure{0, i.Rate})
	}
	v, _ := median(f)
	return v
}

// again says how long the start takes with the grown store.
func (p *page) again(r results, server string) {
	for _, s := range r.samples {
		if s.Scenario == "restart" && s.Server == server && s.Error == "" {
			p.say("\nA start with all of it takes %s ms until a sign-in succeeds; the limit is one second.\n", number(s.Median))
		}
	}
}
