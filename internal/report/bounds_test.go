package report_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/report/aggregate"
	"github.com/martlet-mail/martlet/internal/report/tlsrpt"
)

// A report has no more rows than its bytes allow, and tells of how many messages or sessions
// it leaves out.
func TestBytesOfReport(t *testing.T) {
	for _, most := range []int{0, 20_000} {
		h := newHouse(t, world)
		h.opt.MaxBytes = most
		h.restart()
		long := strings.Repeat("x", 150)
		for i := range 400 {
			m := message(noon, "bank.test")
			m.Policy, m.Record.EnvelopeFrom = wantsReports, fmt.Sprintf("%s%d.test", long, i)
			h.book.Saw(m)
			s := session(noon, "far.test", "starttls-not-supported")
			s.Failure.Host = m.Record.EnvelopeFrom
			s.Policy.Strings = []string{long, long} // told of once
			h.book.Connected(s)
		}
		got := h.send(midnight.Add(5 * time.Hour))
		if len(got) != 2 {
			t.Fatalf("%d reports, %s", len(got), h.states())
		}
		for _, one := range got {
			var told, left uint64
			text := fileOf(t, one.text)
			if strings.HasPrefix(text, "{") {
				r, err := tlsrpt.Parse(t.Context(), strings.NewReader(text), tlsrpt.Limits{})
				if err != nil || len(r.Policies) != 1 {
					t.Fatal(err, len(r.Policies))
				}
				told = r.Policies[0].Failed
			} else {
				r, err := aggregate.Parse(t.Context(), strings.NewReader(text), aggregate.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				told = uint64(len(r.Records))
				if strings.Contains(text, fmt.Sprintf("<error>%d more messages are not told of", 400-told)) != (most > 0) {
					t.Error("the file does not say what it leaves out")
				}
			}
			if _, rest, ok := strings.Cut(one.text, "It leaves out "); ok {
				_, _ = fmt.Sscan(rest, &left)
			}
			if told+left != 400 || most == 0 && left > 0 || most > 0 && (told < 50 || told > 150) {
				t.Errorf("bound %d: %d told, %d left out", most, told, left)
			}
		}
	}
}

// watched counts who reads rows at one time.
type watched struct {
	engine.Engine
	in, most atomic.Int64
}

type watchedReader struct {
	engine.Reader
	w *watched
}

func (w *watched) View(ctx context.Context, s engine.Shard, fn func(engine.Reader) error) error {
	return w.Engine.View(ctx, s, func(r engine.Reader) error { return fn(watchedReader{r, w}) })
}

func (r watchedReader) Scan(from, to []byte, reverse bool, fn func(k, v []byte) bool) error {
	if from[0] == 'c' {
		now := r.w.in.Add(1)
		defer r.w.in.Add(-1)
		for most := r.w.most.Load(); now > most && !r.w.most.CompareAndSwap(most, now); most = r.w.most.Load() {
		}
		time.Sleep(time.Millisecond) // for the others to come in, too
	}
	return r.Reader.Scan(from, to, reverse, fn)
}

// Of many reports that are due one is made at a time.
func TestOneReportAtATime(t *testing.T) {
	h := newHouse(t, "")
	w := &watched{Engine: h.eng}
	h.opt.Engine = w
	h.restart()
	for i := range 40 {
		domain := fmt.Sprintf("d%d.test", i)
		saw(h, domain, "v=DMARC1; p=none; rua=mailto:r@"+domain)
	}
	if got := h.send(midnight.Add(5 * time.Hour)); len(got) != 40 || w.most.Load() != 1 {
		t.Errorf("%d reports, %d at a time", len(got), w.most.Load())
	}
}
