package report_test

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/report"
)

// house is a book with what it needs: here.test is its domain, and its clock is a field.
type house struct {
	t    *testing.T
	opt  report.Options
	book *report.Book
	eng  engine.Engine
	dns  *dnstest.Server

	mu   sync.Mutex
	now  time.Time
	sent []sent
	fail error // of the next mail
}

// sent is a message that the book has sent.
type sent struct {
	key  string
	env  mail.Envelope
	text string
}

func newHouse(t *testing.T, zone string) *house {
	t.Helper()
	h := &house{t: t, now: noon}
	var err error
	if h.dns, err = dnstest.Start(zone); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.dns.Close)
	resolver, err := dnsx.New(dnsx.Options{
		Servers: []string{h.dns.Addr()}, Rounds: 1, Timeout: 2 * time.Second, CacheEntries: -1, Now: time.Now,
		ID: func() uint16 { return uint16(rand.Uint32()) }, Dial: (&net.Dialer{}).DialContext,
	})
	if err != nil {
		t.Fatal(err)
	}
	h.eng = freshEngine(t)
	h.opt = report.Options{
		Engine: h.eng, Resolver: resolver, Now: h.clock, Collect: true, Hostname: "mx.here.test", Organization: "Here", Version: "1",
		From: func(context.Context) (mail.Address, error) {
			return mail.Address{Local: "postmaster", Domain: "here.test"}, nil
		},
		Mail: h.mail, Asked: asked,
	}
	h.book = report.New(h.opt)
	return h
}

// asked: here.test asks for reports at postmaster, quiet.test for none.
func asked(_ context.Context, _ report.Kind, domain string) (mail.Address, bool) {
	switch domain {
	case "here.test":
		return mail.Address{Local: "postmaster", Domain: domain}, true
	case "xn--grn-ioa.test", "gr\u00fcn.test":
		return mail.Address{Local: "postmaster", Domain: "gr\u00fcn.test"}, true
	case "quiet.test":
		return mail.Address{}, true
	}
	return mail.Address{}, false
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *house) set(t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = t
}

func (h *house) mail(_ context.Context, key string, env mail.Envelope, message []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail != nil {
		return h.fail
	}
	h.sent = append(h.sent, sent{key, env, string(message)})
	return nil
}

func (h *house) outbox() []sent {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.sent
	h.sent = nil
	return out
}

// restart is a book on the same engine, without what the last one had in memory.
func (h *house) restart() { h.book = report.New(h.opt) }

func (h *house) flush() {
	h.t.Helper()
	if err := h.book.Flush(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) owed() string {
	h.t.Helper()
	text, err := h.book.Owed(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return text
}

var errBusy = fault.New(fault.Busy, "not now")

func freshEngine(t *testing.T) engine.Engine {
	t.Helper()
	eng, err := pebble.Open("data", pebble.Options{FS: vfs.NewMem(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	return eng
}
