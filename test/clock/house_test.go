// Package clock proves promise R9: a clock that is wrong for a while, or is set, loses no
// mail, takes nothing back that clients were told, and makes nothing wait that need not.
//
// The server runs in one process and in a bubble of testing/synctest, where timers cost
// nothing. What it reads from its clock is the bubble's time and an offset, which a seed
// moves: hours and years there and back, the second that is told twice, a millisecond.
package clock

import (
	"bytes"
	"context"
	crypto "crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/disk"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/serve/imapd"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/store"
	whole "github.com/martlet-mail/martlet/test/house"
)

// clock is what the server reads. In the bubble time.Now is the truth.
type clock struct {
	offset atomic.Int64
	zone   atomic.Int64 // seconds east
}

func (c *clock) now() time.Time {
	at := time.Now().Add(time.Duration(c.offset.Load())).Round(0) // no monotonic part
	return at.In(time.FixedZone("here", int(c.zone.Load())))
}

func (c *clock) step(d time.Duration) { c.offset.Add(int64(d)) }

// peer is the host that all mail to others goes to. It refuses a message for now as often as
// it is told.
type peer struct {
	mu       sync.Mutex
	refuse   map[string]int         // by recipient: how often yet
	attempts map[string][]time.Time // by the true clock
	taken    map[string]int
}

func (p *peer) Deliver(_ context.Context, job queue.Job) []queue.Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	results := make([]queue.Result, len(job.Envelope.To))
	for i, r := range job.Envelope.To {
		to := r.Address.Local
		p.attempts[to] = append(p.attempts[to], time.Now())
		results[i] = queue.Result{Code: 451, Enhanced: "4.7.1", Text: "not now", Host: "mx.away.test"}
		if p.refuse[to]--; p.refuse[to] < 0 {
			results[i] = queue.Result{Code: 250, Enhanced: "2.0.0", Text: "taken", Host: "mx.away.test"}
			p.taken[to]++
		}
	}
	return results
}

// house is the server.
type house struct {
	t     *testing.T
	fs    *vfs.MemFS
	clock *clock
	peer  *peer

	*whole.House
	engine  *pebble.Engine
	imap    *imapd.Server
	net     *netsrv.Server
	end     context.CancelFunc
	running sync.WaitGroup
}

const domain, password = whole.Domain, whole.Password

// gaps are those of the queue.
var gaps = []time.Duration{time.Minute, 3 * time.Minute, 8 * time.Minute}

func newHouse(t *testing.T) *house {
	h := &house{t: t, fs: vfs.NewMem(), clock: &clock{},
		peer: &peer{refuse: map[string]int{}, attempts: map[string][]time.Time{}, taken: map[string]int{}}}
	h.open()
	t.Cleanup(h.close)
	h.Account(t, alice.Local)
	return h
}

var alice = mail.Address{Local: "alice", Domain: domain}

func (h *house) open() {
	h.t.Helper()
	ctx, end := context.WithCancel(context.Background())
	h.end = end
	var err error
	check := func(bad error) {
		if err = bad; err != nil {
			h.t.Fatal(err)
		}
	}
	h.engine, err = pebble.Open("data", pebble.Options{FS: h.fs, Now: h.clock.now, CacheBytes: 1 << 20, MemTableBytes: 256 << 10, ReserveBytes: -1})
	check(err)
	check(h.fs.MkdirAll("spool", 0o700))
	spool := disk.NewSpool(h.fs, "spool")
	h.House, err = whole.Build(ctx, h.engine, whole.Options{
		Now: h.clock.now, Remote: h.peer,
		Store:     func(o *store.Options) { o.Spool = func() (store.SpoolFile, error) { return spool.File() } },
		Directory: func(o *directory.Options) { o.ScramIterations, o.Argon.MemoryKiB = 2, 8 },
		Queue: func(o *queue.Options) {
			o.Gaps, o.Lifetime, o.DelayAfter, o.Rand = gaps, 60*24*time.Hour, -1, rand.Float64
		},
	})
	check(err)
	h.imap = imapd.New(imapd.Options{Store: h.Store, Directory: h.Directory, Now: h.clock.now, Random: crypto.Reader})
	h.net = netsrv.New(netsrv.Options{Now: h.clock.now, Log: slog.New(slog.DiscardHandler)})
	h.running.Go(func() { h.Queue.Run(ctx) })
}

func (h *house) close() {
	h.t.Helper()
	h.end()
	h.running.Wait()
	h.Close()
	if err := h.engine.Close(); err != nil {
		h.t.Error(err)
	}
}

func (h *house) restart() { h.close(); h.open() }

// account is Alice's.
func (h *house) account() *store.Account {
	h.t.Helper()
	a, err := h.Directory.Lookup(context.Background(), alice)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.Store.Account(a.ID)
}

// receive takes bytes in, as a session does before it knows what becomes of them.
func (h *house) receive(token string) *store.Parcel {
	h.t.Helper()
	var text strings.Builder // too much for a small body, even compressed
	text.WriteString("From: bob@away.test\r\nSubject: " + token + "\r\n\r\n")
	for i := range 250 {
		fmt.Fprintf(&text, "%x\r\n", sha256.Sum256(fmt.Append(nil, token, i)))
	}
	p, err := h.Store.Receive(context.Background(), strings.NewReader(text.String()))
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// deliver takes a message to where it goes.
func (h *house) deliver(p *store.Parcel, to mail.Address) error {
	env := mail.Envelope{From: mail.Address{Local: "bob", Domain: "away.test"}, To: []mail.Recipient{{Address: to}}}
	if to.Domain != domain {
		env.From, env.Login = alice, alice.String()
	}
	var errs []error
	for _, r := range h.Receiver.Deliver(context.Background(), env, p) {
		errs = append(errs, r.Err)
	}
	return errors.Join(errs...)
}

// tokens returns how often each token lies in a mailbox.
func (h *house) tokens() (map[string]int, error) {
	ctx, found := context.Background(), map[string]int{}
	a := h.account()
	var boxes []store.Mailbox
	if err := a.View(ctx, func(s *store.Snapshot) (err error) { boxes, err = s.Mailboxes(); return err }); err != nil {
		return nil, err
	}
	for _, b := range boxes {
		p, err := a.Picture(ctx, b.ID)
		if err != nil {
			return nil, err
		}
		for seq := 1; seq <= p.Len(); seq++ {
			m, _ := p.Message(p.UID(seq))
			r, err := a.Open(ctx, m.ID, 0, -1)
			if err != nil {
				return nil, fmt.Errorf("%s, UID %d: %w", b.Name, m.UID, err)
			}
			text, err := io.ReadAll(r)
			r.Close()
			if err != nil {
				return nil, fmt.Errorf("%s, UID %d: %w", b.Name, m.UID, err)
			}
			_, rest, _ := bytes.Cut(text, []byte("Subject: "))
			token, _, _ := bytes.Cut(rest, []byte("\r\n"))
			found[string(token)]++
		}
	}
	return found, nil
}

// sound reads everything.
func (h *house) sound() {
	h.t.Helper()
	ctx := context.Background()
	if _, err := h.Store.Verify(ctx, func(p store.Problem) { h.t.Errorf("verify: %+v", p) }, nil); err != nil {
		h.t.Error(err)
	}
	if _, err := h.Queue.Verify(ctx, func(id queue.ID, what string) { h.t.Errorf("verify: queue %v: %s", id, what) }); err != nil {
		h.t.Error(err)
	}
}

func token(n int) string { return fmt.Sprintf("token%06d", n) }
