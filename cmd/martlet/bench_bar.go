package main

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// benchBar shows how far a run is, on a terminal; anywhere else it shows nothing.
type benchBar struct {
	w    io.Writer
	what string
	bar  *progressbar.ProgressBar
}

func newBenchBar(w io.Writer) *benchBar { return &benchBar{w: w} }

// show has the form of bench.Options.Progress.
func (b *benchBar) show(what string, done, total int) {
	if !isTerminal(b.w) {
		return
	}
	if what != b.what {
		b.clear()
		b.what = what
		b.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(b.w), progressbar.OptionSetDescription(what),
			progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetWidth(30), progressbar.OptionThrottle(100*time.Millisecond))
	}
	b.bar.Set(done)
}

// clear takes the bar away.
func (b *benchBar) clear() {
	if b.bar != nil {
		b.bar.Clear()
	}
	b.bar, b.what = nil, ""
}
