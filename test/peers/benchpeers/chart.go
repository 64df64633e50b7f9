package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// style is that of all charts. The browser says whether the page around is dark.
const style = `<style>
text{font:12px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:#1f2328}
.h{font-weight:600;font-size:13px}.s{fill:#59636e;font-size:11px}.n{font-size:11px;font-variant-numeric:tabular-nums}
.g{stroke:#d1d9e0;stroke-width:1}.one{stroke:#818b98;stroke-width:1}.goal{stroke:#1a7f37;stroke-width:1.5;stroke-dasharray:4 3}
.good{fill:#2da44e}.fair{fill:#bf8700}.bad{fill:#cf222e}.w{stroke:#1f2328;stroke-width:1;opacity:.55}
.l{fill:none;stroke-width:2}.d{stroke-dasharray:5 4}
.c0{stroke:#0969da}.c1{stroke:#1a7f37}.c2{stroke:#bc4c00}.c3{stroke:#8250df}.c4{stroke:#bf3989}.c5{stroke:#9a6700}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9198a1}.g{stroke:#3d444d}.one{stroke:#9198a1}.goal{stroke:#3fb950}
.good{fill:#3fb950}.fair{fill:#d29922}.bad{fill:#f85149}.w{stroke:#e6edf3}
.c0{stroke:#4493f8}.c1{stroke:#3fb950}.c2{stroke:#f0883e}.c3{stroke:#ab7df8}.c4{stroke:#db61a2}.c5{stroke:#d29922}}
</style>
`

// picture is an SVG that grows.
type picture struct{ strings.Builder }

func (p *picture) add(format string, args ...any) { fmt.Fprintf(&p.Builder, format+"\n", args...) }

func (p *picture) text(x, y float64, class, anchor, s string) {
	p.add(`<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`, x, y, class, anchor, html.EscapeString(s))
}

func (p *picture) line(x1, y1, x2, y2 float64, class string) {
	p.add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>`, x1, y1, x2, y2, class)
}

// finish puts the frame around.
func (p *picture) finish(width, height float64, title string) string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img">`+
		"\n<title>%s</title>\n%s%s</svg>\n", width, height, width, height, html.EscapeString(title), style, p.String())
}

// The measures of the chart of ratios.
const (
	barsLeft   = 410.0
	barsWidth  = 420.0
	barsRight  = 70.0
	barHeight  = 18.0
	ratioFloor = 0.1
	ratioTop   = 1000.0
)

// ratioAt is where a ratio lies, on a scale of powers.
func ratioAt(v float64) float64 {
	v = min(max(v, ratioFloor), ratioTop)
	return barsLeft + barsWidth*math.Log(v/ratioFloor)/math.Log(ratioTop/ratioFloor)
}

// ratioChart draws a bar for each row, from 1 to its ratio, with a line across from the
// lowest to the highest round.
func ratioChart(all []*row, servers []string) string {
	var p picture
	y, section := 40.0, ""
	for _, r := range all {
		ratio, ok := r.ratio(servers)
		if !ok {
			continue
		}
		if r.section != section {
			section = r.section
			y += 8
			p.text(8, y+13, "h", "start", section)
			y += barHeight + 2
		}
		p.bar(y, r.title, ratio)
		y += barHeight
	}
	var axis picture
	for _, v := range []float64{0.1, 1, 10, 100, 1000} {
		axis.line(ratioAt(v), 32, ratioAt(v), y+4, map[bool]string{true: "one", false: "g"}[v == 1])
		axis.text(ratioAt(v), 24, "s", "middle", fmt.Sprintf("%g", v))
	}
	axis.line(ratioAt(goal), 32, ratioAt(goal), y+4, "goal")
	axis.text(ratioAt(goal), 24, "s", "middle", "2.0")
	axis.text(8, 24, "s", "start", "How many times as fast, or as small, as the best peer")
	axis.WriteString(p.String())
	return axis.finish(barsLeft+barsWidth+barsRight, y+12, "Ratios of Martlet to the best peer")
}

func (p *picture) bar(y float64, title string, r ratio) {
	class := "good"
	switch {
	case r.value < 1:
		class = "bad"
	case r.value < goal:
		class = "fair"
	}
	from, to := ratioAt(1), ratioAt(r.value)
	if to < from {
		from, to = to, from
	}
	p.text(barsLeft-8, y+13, "", "end", short(title, 62))
	p.add(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="%s"/>`, from, y+3, max(to-from, 1), barHeight-6, class)
	if r.high > r.low {
		p.line(ratioAt(r.low), y+barHeight/2, ratioAt(r.high), y+barHeight/2, "w")
	}
	p.text(barsLeft+barsWidth+6, y+13, "n", "start", times(r.value))
}
