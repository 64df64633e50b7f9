package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/bench"
)

// row is one line of the report: a measurement, with figures for each server.
type row struct {
	section string
	title   string
	unit    string
	higher  bool // is better
	alone   bool // there is no ratio: it says something of each server by itself
	values  map[string][]figure
}

// figure is what was measured in one round.
type figure struct {
	round int
	value float64
}

// resolution is the least time that is told from none, in milliseconds.
const resolution = 0.001

// table gathers rows in the order in which they come.
type table struct{ rows []*row }

func (t *table) put(s sample, section, title, unit string, higher bool, value float64) *row {
	i := slices.IndexFunc(t.rows, func(r *row) bool { return r.title == title })
	if i < 0 {
		i = len(t.rows)
		t.rows = append(t.rows, &row{section: section, title: title, unit: unit, higher: higher, values: map[string][]figure{}})
	}
	r := t.rows[i]
	r.values[s.Server] = append(r.values[s.Server], figure{s.Round, value})
	return r
}

// sections are the parts of the report, in order.
var sections = []string{"Delivery", "A large mailbox, directly after a restart", "A large mailbox, warm", "Connections", "Disk"}

// rows returns what the samples measure, section by section.
func rows(samples []sample) []*row {
	var t table
	for _, s := range samples {
		if s.Error == "" && s.Failures <= s.Operations {
			t.add(s)
		}
	}
	slices.SortStableFunc(t.rows, func(a, b *row) int {
		return slices.Index(sections, a.section) - slices.Index(sections, b.section)
	})
	return t.rows
}

func (t *table) add(s sample) {
	switch s.Scenario {
	case "lmtp", "smtp", "append":
		t.put(s, sections[0], deliveryTitle(s), "per second", true, s.Rate)
		if s.Connections >= 50 {
			t.put(s, sections[0], deliveryTitle(s)+", 99 % within", "ms", false, s.P99)
		}
	case "multiappend":
		t.put(s, sections[0], fmt.Sprintf("APPEND of %d at once, messages", s.Batch), "per second", true, s.Rate*float64(s.Batch))
	case "announce":
		title := "delivery to EXISTS in IDLE"
		if s.Connections > 1 {
			title += fmt.Sprintf(" at the last of %d", s.Connections)
		}
		t.put(s, sections[3], title+", median", "ms", false, s.Median)
		t.put(s, sections[3], title+", 99 % within", "ms", false, s.P99)
	case "idle-memory":
		t.put(s, sections[3], secured("memory of an idle server", s), "MB", false, float64(s.Base)/1e6).alone = true
		t.put(s, sections[3], secured("memory of each connection in IDLE, net", s), "KiB", false,
			max(float64(s.PSS), 0)/1024/float64(max(s.Connections, 1)))
		t.put(s, sections[3], secured(fmt.Sprintf("memory of the server with %d connections in IDLE", s.Connections), s), "MB", false,
			float64(s.Base+s.PSS)/1e6)
	case "idle-cpu":
		t.put(s, sections[3], fmt.Sprintf("processor time with %d connections in IDLE", s.Connections), "% of one", false, s.CPUPercent).alone = true
	case "open-memory":
		t.put(s, sections[3], "memory added by opening the large mailbox "+openings(s), "MB", false, max(float64(s.PSS), 0)/1e6)
		t.put(s, sections[3], "memory of the server, the large mailbox open "+openings(s), "MB", false,
			float64(s.Base+s.PSS)/1e6).alone = true
	case "handshake", "handshake-resumed":
		t.put(s, sections[3], handshakeTitle(s), "per second", true, s.Rate)
	case "restart":
		t.put(s, sections[3], "start until a sign-in succeeds", "ms", false, s.Median)
	case "disk":
		t.put(s, sections[4], "disk for a byte of mail, "+diskTitle(s), "", false, s.DiskPerByte)
	case "grow":
	default:
		t.mailbox(s)
	}
}

// mailbox adds a question about the large mailbox, cold and warm.
func (t *table) mailbox(s sample) {
	title := secured(commandTitle(s.Scenario), s)
	switch {
	case s.ColdRuns > 0:
		t.put(s, sections[1], title+", cold", "ms", false, s.Cold)
	case s.TLS == bench.Plain:
		t.put(s, sections[1], title+", cold", "ms", false, s.First)
	}
	t.put(s, sections[2], title+", warm", "ms", false, s.Median)
}

func secured(title string, s sample) string {
	if s.TLS != bench.Plain {
		return title + ", TLS"
	}
	return title
}

func handshakeTitle(s sample) string {
	what := "sign-in over TLS, new sessions of TLS, "
	if s.Scenario == "handshake-resumed" {
		what = "sign-in over TLS, resumed, "
	}
	return what + connections(s)
}

func connections(s sample) string {
	if s.Connections == 1 {
		return "1 connection"
	}
	return fmt.Sprintf("%d connections", s.Connections)
}

func openings(s sample) string {
	if s.Connections == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", s.Connections)
}

func diskTitle(s sample) string {
	switch {
	case s.Recipients > 1:
	case s.Sizes == bench.Small:
		return "messages of 1.4 KB"
	case s.Sizes == bench.Mixed:
		return "13 KB in the mean"
	case s.Sizes == bench.Corpus:
		return "ordinary with attachments"
	}
	return fmt.Sprintf("each to %d recipients", s.Recipients)
}

func deliveryTitle(s sample) string {
	title := strings.ToUpper(s.Scenario) + ", "
	switch {
	case s.Scenario == "append":
		title += "one mailbox"
	case s.Spread:
		title += "ten accounts"
	default:
		title += "one account"
	}
	if s.Sizes == bench.Mixed {
		title += ", 13 KB in the mean"
	}
	return secured(title+", "+connections(s), s)
}

// commandTitle names a scenario of the large mailbox by what it asks.
func commandTitle(scenario string) string {
	switch scenario {
	case "select-new-session":
		return "SELECT in a new session"
	case "select":
		return "SELECT"
	case "headers":
		return "FETCH 1:* of five header fields"
	case "changedsince":
		return "UID FETCH CHANGEDSINCE after 10 changes"
	case "store-add":
		return `STORE 1:* +FLAGS (\Flagged)`
	case "store-remove-silent":
		return `STORE 1:* -FLAGS.SILENT (\Flagged)`
	}
	for _, n := range bench.Names() {
		if n[0] == scenario {
			return n[1]
		}
	}
	return scenario
}

// median returns the median of the values, and whether there are any.
func median(v []figure) (float64, bool) {
	if len(v) == 0 {
		return 0, false
	}
	f := make([]float64, len(v))
	for i := range v {
		f[i] = v[i].value
	}
	slices.Sort(f)
	if n := len(f); n%2 == 0 {
		return (f[n/2-1] + f[n/2]) / 2, true
	}
	return f[len(f)/2], true
}

// of returns the median of a server over all rounds.
func (r *row) of(server string) (float64, bool) { return median(r.values[server]) }

// best returns the best of the peers and its figure, over all rounds.
func (r *row) best(servers []string) (string, float64, bool) {
	return r.bestIn(servers, func(s string) (float64, bool) { return r.of(s) })
}

func (r *row) bestIn(servers []string, of func(server string) (float64, bool)) (best string, value float64, any bool) {
	for _, s := range servers {
		v, ok := of(s)
		if s == "martlet" || !ok {
			continue
		}
		if !any || v != value && (v > value) == r.higher {
			best, value, any = s, v, true
		}
	}
	return best, value, any
}

// ratio says how much better Martlet is than the best peer: the median of the single
// rounds, so that what the machine did meanwhile falls on both, and the lowest and
// the highest. There is none where no round has figures of both.
type ratio struct{ value, low, high float64 }

func (r *row) ratio(servers []string) (ratio, bool) {
	var out ratio
	var each []figure
	for _, f := range r.values["martlet"] {
		if slices.ContainsFunc(each, func(g figure) bool { return g.round == f.round }) {
			continue
		}
		in := func(s string) (float64, bool) {
			return median(slices.DeleteFunc(slices.Clone(r.values[s]), func(g figure) bool { return g.round != f.round }))
		}
		own, _ := in("martlet")
		_, best, any := r.bestIn(servers, in)
		if !any {
			continue
		}
		one := r.divide(own, best)
		if len(each) == 0 || one < out.low {
			out.low = one
		}
		out.high = max(out.high, one)
		each = append(each, figure{f.round, one})
	}
	var ok bool
	out.value, ok = median(each)
	return out, ok && !r.alone
}

// divide compares two figures. Nothing is taken for the least that can be measured.
func (r *row) divide(own, peer float64) float64 {
	own, peer = max(own, resolution), max(peer, resolution)
	if r.higher {
		return own / peer
	}
	return peer / own
}

// goal is the ratio that every line is to reach.
const goal = 2.0

// number writes a figure with three digits.
func number(v float64) string {
	switch {
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// times writes a ratio.
func times(v float64) string {
	if v > 1000 {
		return "> 1000"
	}
	return number(v)
}
