package report_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/report"
	"github.com/martlet-mail/martlet/internal/report/aggregate"
	"github.com/martlet-mail/martlet/internal/report/tlsrpt"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

const wantsReports = "v=DMARC1; p=reject; rua=mailto:dmarc@bank.test"

func message(at time.Time, from string) report.Message {
	return report.Message{At: at, Domain: from, Policy: wantsReports, Record: aggregate.Record{
		Source: netip.MustParseAddr("192.0.2.1"), Disposition: "pass", DKIM: true, HeaderFrom: from, EnvelopeFrom: from,
		DKIMResults: []aggregate.Result{{Domain: from, Selector: "k", Result: "pass"}},
		SPFResults:  []aggregate.Result{{Domain: from, Scope: "mfrom", Result: "fail"}},
	}}
}

func session(at time.Time, domain, failure string) report.Session {
	return report.Session{At: at, Domain: domain, Policy: tlsrpt.Policy{Type: "no-policy-found", Domain: domain},
		Failure: tlsrpt.Failure{Result: failure, Host: "mx." + domain, Receiving: "192.0.2.2"}}
}

// What is seen adds up, over flushes, restarts and goroutines, and days are apart.
func TestCountsAddUp(t *testing.T) {
	h := newHouse(t, "")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				h.book.Saw(message(noon, "bank.test"))
				h.book.Connected(session(noon, "far.test", ""))
			}
		})
	}
	wg.Wait()
	h.book.Connected(session(noon, "far.test", "starttls-not-supported"))
	h.flush()
	h.book.Saw(message(noon.Add(24*time.Hour), "bank.test"))
	h.flush()
	h.restart()
	h.book.Saw(message(noon, "bank.test"))
	h.flush()
	want := "dmarc 2026-03-04 bank.test: 201 in 1 row\ndmarc 2026-03-05 bank.test: 1 in 1 row\ntls 2026-03-04 far.test: 201 in 2 rows\n"
	if got := h.owed(); got != want {
		t.Errorf("\n%swant\n%s", got, want)
	}
}

// Nothing is counted of domains that ask for nothing, nor where reports are off.
func TestNotCounted(t *testing.T) {
	h := newHouse(t, "")
	m := message(noon, "bank.test")
	m.Policy = "v=DMARC1; p=reject"
	h.book.Saw(m)
	h.opt.Collect = false
	h.restart()
	h.book.Saw(message(noon, "bank.test"))
	h.book.Connected(session(noon, "far.test", ""))
	h.flush()
	(*report.Book)(nil).Saw(m)
	(*report.Book)(nil).Connected(session(noon, "far.test", ""))
	if got := h.owed(); got != "" {
		t.Error(got)
	}
}

// Strangers cannot make a report or the list of them grow without end.
func TestBounded(t *testing.T) {
	h := newHouse(t, "")
	h.opt.MaxRows, h.opt.MaxDomains = 3, 2
	h.restart()
	for i := range 5 {
		m := message(noon, "bank.test")
		m.Record.Source = netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		h.book.Saw(m)
		h.book.Saw(message(noon, fmt.Sprintf("d%d.test", i)))
	}
	h.flush()
	if got, want := h.owed(), "dmarc 2026-03-04 bank.test: 3 in 3 rows, 2 left out\ndmarc 2026-03-04 d0.test: 1 in 1 row\n"; got != want {
		t.Errorf("\n%swant\n%s", got, want)
	}
}

// A disk that fails loses nothing that fits into memory.
func TestFailingDisk(t *testing.T) {
	h := newHouse(t, "")
	h.book.Saw(message(noon, "bank.test"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.book.Flush(ctx); err == nil {
		t.Skip("the engine does not mind")
	}
	h.book.Saw(message(noon, "bank.test"))
	h.flush()
	if got, want := h.owed(), "dmarc 2026-03-04 bank.test: 2 in 1 row\n"; got != want {
		t.Errorf("\n%swant\n%s", got, want)
	}
}
