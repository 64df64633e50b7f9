package main

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// benchBar shows how far a run is: a bar on a terminal, lines of JSON anywhere else.
type benchBar struct {
	w    io.Writer
	what string
	bar  *progressbar.ProgressBar
	last time.Time // line of JSON, or the beginning
}

func newBenchBar(w io.Writer) *benchBar { return &benchBar{w: w, last: time.Now()} }

// benchProgress is such a line.
type benchProgress struct {
	Event string `json:"event"`
	What  string `json:"what"`
	Done  int    `json:"done"`
	Total int    `json:"total"`
}

// show has the form of bench.Options.Progress.
func (b *benchBar) show(what string, done, total int) {
	if !isTerminal(b.w) {
		if now := time.Now(); now.Sub(b.last) >= time.Second {
			b.last = now
			printJSON(b.w, benchProgress{"progress", what, done, total})
		}
		return
	}
	if what != b.what {
		b.clear()
		b.what = what
		b.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(b.w), progressbar.OptionSetDescription(what),
			progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetWidth(30), progressbar.OptionThrottle(100*time.Millisecond))
	}
	b.bar.Set(min(done, total))
}

// clear takes the bar away.
func (b *benchBar) clear() {
	if b.bar != nil {
		b.bar.Clear()
	}
	b.bar, b.what = nil, ""
}
