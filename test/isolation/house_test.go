// Package isolation shows that what goes wrong in one session stays there: a defect that
// is met anywhere below a protocol ends that session, or is an error to its client, and
// nobody else notices.
//
// The whole server runs in the test's process over real sockets, on an engine that can be
// told to panic; the server's own code has no such command.
package isolation

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/receive"
	"github.com/martlet-mail/martlet/internal/serve/imapd"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/serve/pop3d"
	"github.com/martlet-mail/martlet/internal/serve/smtpd"
	"github.com/martlet-mail/martlet/internal/store"
)

const password = "correct horse"

// defective is an engine that panics at a call of our choice, with whatever locks are
// held there.
type defective struct {
	engine.Engine
	calls atomic.Int64
	at    atomic.Int64 // 0: never
}

// arm makes the nth call from now on panic; 0 makes none.
func (d *defective) arm(n int64) {
	d.at.Store(0)
	d.calls.Store(0)
	d.at.Store(n)
}

// hit reports whether the call came, and disarms.
func (d *defective) hit() bool {
	at := d.at.Swap(0)
	return at > 0 && d.calls.Load() >= at
}

func (d *defective) step() {
	if n := d.calls.Add(1); n == d.at.Load() {
		panic(fmt.Sprintf("planted at call %d", n))
	}
}

func (d *defective) View(ctx context.Context, id engine.Shard, fn func(engine.Reader) error) error {
	return d.Engine.View(ctx, id, func(r engine.Reader) error {
		err := fn(reader{r, d})
		d.step()
		return err
	})
}

func (d *defective) Update(ctx context.Context, id engine.Shard, fn func(engine.Writer) error) error {
	return d.Engine.Update(ctx, id, func(w engine.Writer) error {
		err := fn(writer{w, d})
		d.step()
		return err
	})
}

type reader struct {
	engine.Reader
	d *defective
}

func (r reader) Get(key []byte) ([]byte, bool, error) {
	r.d.step()
	return r.Reader.Get(key)
}

func (r reader) Scan(from, to []byte, reverse bool, fn func(key, value []byte) bool) error {
	r.d.step()
	return r.Reader.Scan(from, to, reverse, fn)
}

type writer struct {
	engine.Writer
	d *defective
}

func (w writer) Get(key []byte) ([]byte, bool, error) {
	w.d.step()
	return w.Writer.Get(key)
}

func (w writer) Put(key, value []byte) error {
	w.d.step()
	return w.Writer.Put(key, value)
}

// house is a server of all protocols.
type house struct {
	engine    *defective
	store     *store.Store
	directory *directory.Directory
	sessions  *netsrv.Server
	ports     map[string]string
}

// account makes an account.
func (h *house) account(t *testing.T, name string) {
	t.Helper()
	a, err := mail.ParseAddress(name + "@example.org")
	if err == nil {
		_, err = h.directory.AddAccount(t.Context(), a, password, store.Quota{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// cheap is a hash of passwords that hides no other difference in time.
var cheap = directory.Argon{MemoryKiB: 64, Passes: 1, Lanes: 1}

func newHouse(t *testing.T, opt directory.Options, log *slog.Logger, hash directory.Argon) *house {
	t.Helper()
	eng, err := pebble.Open("data", pebble.Options{FS: vfs.NewMem(), Now: time.Now, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{engine: &defective{Engine: eng}, ports: map[string]string{}}
	if h.store, err = store.Open(h.engine, store.Options{Now: time.Now, Log: log}); err != nil {
		t.Fatal(err)
	}
	opt.Now, opt.Rand, opt.Log = time.Now, rand.Reader, log
	opt.Argon, opt.ScramIterations = hash, 4096
	if h.directory, err = directory.Open(t.Context(), h.engine, h.store, opt); err != nil {
		t.Fatal(err)
	}
	if err := h.directory.AddDomain(t.Context(), "example.org"); err != nil {
		t.Fatal(err)
	}
	road := new(receive.Local)
	q := queue.New(h.engine, h.store, queue.Options{
		Hostname: "mx.example.org", Local: road, Report: road.Report, Now: time.Now, Log: log,
		Rand: func() float64 { return 0 }, Random: rand.Reader,
	})
	road.Receiver = receive.New(receive.Options{Store: h.store, Directory: h.directory, Queue: q, Now: time.Now, Log: log})
	h.listen(t, road.Receiver, log)
	t.Cleanup(func() {
		h.directory.Close()
		h.store.Close()
		eng.Close()
	})
	return h
}

// listen serves every protocol, on ports of the system's choice.
func (h *house) listen(t *testing.T, to *receive.Receiver, log *slog.Logger) {
	h.sessions = netsrv.New(netsrv.Options{Log: log, Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, MaxPerAccount: 1000})
	mx := func(kind smtpd.Kind) netsrv.Service {
		return smtpd.Service(smtpd.Options{
			Now: time.Now, Kind: kind, Hostname: "mx.example.org",
			Store: h.store, Directory: h.directory, Receiver: to, MaxErrors: 1000, MaxFailures: 1000,
		})
	}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	for name, svc := range map[string]netsrv.Service{
		"smtp": mx(smtpd.Relay), "lmtp": mx(smtpd.LMTP), "submission": mx(smtpd.Submission),
		"imap": {Handle: imapd.New(imapd.Options{Store: h.store, Directory: h.directory, Now: time.Now, Random: rand.Reader, MaxBad: 1000}).Handle},
		"pop3": {Handle: pop3d.New(pop3d.Options{Store: h.store, Directory: h.directory, MaxErrors: 1000, MaxFailures: 1000}).Handle},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		svc.Name = name
		h.ports[name] = ln.Addr().String()
		go h.sessions.Serve(ctx, ln, svc)
	}
}
