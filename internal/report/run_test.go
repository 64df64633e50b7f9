package report_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/report"
)

// A book that runs writes at each tick and at the end, sends what is due, and reads what
// arrives.
func TestRun(t *testing.T) {
	h := newHouse(t, world)
	ticks := make(chan time.Time)
	run := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { h.book.Run(ctx, ticks); close(done) }()
		return func() { cancel(); <-done }
	}
	until := func(what string, happened func() bool) {
		t.Helper()
		for range 3000 {
			if happened() {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatal("still not: " + what)
	}
	stop := run()
	h.book.Saw(message(noon, "bank.test"))
	ticks <- noon
	until("written at a tick", func() bool { return strings.HasPrefix(h.owed(), "dmarc 2026-03-04 bank.test: 1 ") })
	h.book.Saw(message(noon, "bank.test"))
	stop()
	if got := h.owed(); !strings.HasPrefix(got, "dmarc 2026-03-04 bank.test: 2 ") {
		t.Errorf("after a stop: %q", got)
	}
	h.restart()
	h.set(midnight.Add(10 * time.Hour))
	stop = run()
	defer stop()
	ticks <- noon
	until("sent", func() bool { return len(h.outbox()) == 1 })
	google := fixture(t, "aggregate/testdata/google.xml")
	for range 200 { // more than wait at a time
		h.book.Arrived(arrived(post("Report Domain: here.test", "application/gzip", "", gz(google)), "big.test", "postmaster@here.test"))
	}
	h.book.Arrived(arrived("Subject: hello\r\n\r\nhello\r\n", "big.test", "postmaster@here.test"))
	h.book.Arrived(arrived(post("Report Domain: here.test", "application/gzip", "", gz(google)), "big.test", "bob@else.test"))
	until("read", func() bool { return strings.Contains(h.view(report.Query{}), "192.0.2.10 7 ") })
}

// To count a message takes a look into a map and a few allocations, whatever has been counted
// before.
func TestSawIsCheap(t *testing.T) {
	h := newHouse(t, "")
	m := message(noon, "bank.test")
	h.book.Saw(m)
	if n := testing.AllocsPerRun(100, func() { h.book.Saw(m) }); n > 20 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSaw(b *testing.B) {
	book := report.New(report.Options{Collect: true, Now: time.Now})
	m := message(noon, "bank.test")
	for b.Loop() {
		book.Saw(m)
	}
}
