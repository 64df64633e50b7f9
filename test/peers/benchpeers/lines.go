package main

import (
	"fmt"
	"math"
	"slices"

	"github.com/martlet-mail/martlet/internal/bench"
)

// plotted is one line of a chart of growth.
type plotted struct {
	title, server string
	values        map[int]float64 // milliseconds by the number of messages
}

// frame is the field of a chart.
type frame struct{ left, top, width, height float64 }

var field = frame{left: 64, top: 36, width: 480, height: 320}

// legend is the width beside the field.
const legend = 330.0

// growthChart draws time over the number of messages, both by powers. It returns ""
// where there is nothing to draw.
func growthChart(title string, lines []plotted, sizes []int) string {
	low, high := math.Inf(1), math.Inf(-1)
	for _, l := range lines {
		for _, v := range l.values {
			low, high = min(low, math.Log10(max(v, resolution))), max(high, math.Log10(max(v, resolution)))
		}
	}
	if low > high || len(sizes) < 2 {
		return ""
	}
	low, high = math.Floor(low), max(math.Ceil(high), math.Floor(low)+1)
	left, right := math.Log10(float64(sizes[0])), math.Log10(float64(sizes[len(sizes)-1]))
	x := func(n int) float64 {
		return field.left + field.width*(math.Log10(float64(n))-left)/(right-left)
	}
	y := func(v float64) float64 {
		return field.top + field.height*(high-math.Log10(max(v, resolution)))/(high-low)
	}
	var p picture
	p.text(field.left, 20, "h", "start", title)
	for e := low; e <= high; e++ {
		v := math.Pow(10, e)
		p.line(field.left, y(v), field.left+field.width, y(v), "g")
		p.text(field.left-6, y(v)+4, "s", "end", duration(v))
	}
	for _, n := range sizes {
		p.line(x(n), field.top, x(n), field.top+field.height, "g")
		p.text(x(n), field.top+field.height+16, "s", "middle", grouped(n))
	}
	p.text(field.left+field.width, field.top+field.height+32, "s", "end", "messages in the mailbox")
	p.curves(lines, sizes, x, y)
	return p.finish(field.left+field.width+legend, field.top+field.height+44, title)
}

// curves draws the lines: a colour for each request, whole for Martlet, dashed for
// others. Beside them stands what each means.
func (p *picture) curves(lines []plotted, sizes []int, x func(int) float64, y func(float64) float64) {
	var colours, servers []string
	at := field.top + 8
	explain := func(class, text string) {
		p.line(field.left+field.width+12, at, field.left+field.width+36, at, class)
		p.text(field.left+field.width+42, at+4, "s", "start", short(text, 50))
		at += 18
	}
	for _, l := range lines {
		points := ""
		for _, n := range sizes {
			if v, ok := l.values[n]; ok {
				points += fmt.Sprintf("%.1f,%.1f ", x(n), y(v))
			}
		}
		if points == "" {
			continue
		}
		i := slices.Index(colours, l.title)
		if i < 0 {
			i = len(colours)
			colours = append(colours, l.title)
			explain(fmt.Sprintf("l c%d", i%6), l.title)
		}
		p.add(`<polyline points="%s" class="l c%d%s"/>`, points, i%6, dashes(l.server))
		if !slices.Contains(servers, l.server) {
			servers = append(servers, l.server)
		}
	}
	at += 9
	for _, s := range servers {
		explain("l one"+dashes(s), display(s))
	}
}

func dashes(server string) string {
	if server == "martlet" {
		return ""
	}
	return " d"
}

func short(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// duration writes milliseconds in the unit that suits.
func duration(ms float64) string {
	switch {
	case ms >= 999:
		return fmt.Sprintf("%g s", math.Round(ms/1000))
	case ms < 0.999:
		return fmt.Sprintf("%g µs", math.Round(ms*1000))
	}
	return fmt.Sprintf("%g ms", math.Round(ms))
}

// rateChart draws deliveries per second over what is stored.
func rateChart(of []bench.Interval) string {
	top, stored := 0.0, float64(of[len(of)-1].Stored)
	for _, i := range of {
		top = max(top, i.Rate)
	}
	step := math.Pow(10, math.Floor(math.Log10(max(top, 1))))
	top = math.Ceil(top/step) * step
	x := func(bytes float64) float64 { return field.left + (field.width+legend-40)*bytes/stored }
	y := func(rate float64) float64 { return field.top + field.height*(1-rate/top) }
	var p picture
	p.text(field.left, 20, "h", "start", "Deliveries per second while the store grows")
	for v := 0.0; v <= top; v += step / 2 {
		p.line(field.left, y(v), x(stored), y(v), "g")
		p.text(field.left-6, y(v)+4, "s", "end", number(v))
	}
	for i := range 11 {
		at := stored * float64(i) / 10
		p.line(x(at), field.top+field.height, x(at), field.top+field.height+4, "one")
		p.text(x(at), field.top+field.height+18, "s", "middle", fmt.Sprintf("%.3g GB", at/1e9))
	}
	points := ""
	for _, i := range of {
		points += fmt.Sprintf("%.1f,%.1f ", x(float64(i.Stored)), y(i.Rate))
	}
	p.add(`<polyline points="%s" class="l c0"/>`, points)
	return p.finish(field.left+field.width+legend, field.top+field.height+30, "Deliveries per second while the store grows")
}
