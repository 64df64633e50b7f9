package smtpd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/receive"
	"github.com/martlet-mail/martlet/internal/serve/imapd"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/store"
)

// world is a whole server with a store in memory: domains here.test and too.test,
// accounts alice and bob of here.test with the password "secret", aliases
// sales@here.test (alice) and all@too.test (alice, bob, carol@far.test).
type world struct {
	t       testing.TB
	store   *store.Store
	dir     *directory.Directory
	queue   *fakeQueue
	disk    *failingDisk
	net     *netsrv.Server
	imap    *imapd.Server
	options Options
	ctx     context.Context
	stop    context.CancelFunc
	done    sync.WaitGroup

	names    *dnstest.Server // nil: nothing is checked
	observed []receive.Observation
}

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, func(e engine.Engine) engine.Engine { return e })
}

// newWorldOn is newWorld on what is made of an engine in memory.
func newWorldOn(t testing.TB, on func(engine.Engine) engine.Engine) *world {
	t.Helper()
	w := &world{t: t, queue: &fakeQueue{}}
	w.ctx, w.stop = context.WithCancel(context.Background())
	base, err := pebble.Open("data", pebble.Options{Now: time.Now, FS: vfs.NewMem()})
	w.must(err)
	w.disk = &failingDisk{Engine: base}
	eng := on(w.disk)
	now := func() time.Time { return start }
	w.store, err = store.Open(eng, store.Options{Now: now, MaxMessage: 100_000})
	w.must(err)
	w.dir, err = directory.Open(w.ctx, eng, w.store, directory.Options{
		Now: time.Now, Rand: rand.Reader,
		DetailSeparator: "+", Argon: directory.Argon{MemoryKiB: 8, Passes: 1, Lanes: 1}, ScramIterations: 4096,
		Sleep: func(context.Context, time.Duration) error { return nil },
	})
	w.must(err)
	w.populate()
	n := 0
	w.net = netsrv.New(netsrv.Options{
		Certificate: certificate(t), MaxPerAddress: 3,
		NewID: func() string { n++; return fmt.Sprintf("conn%d", n) },
		Now:   now, Log: slog.New(slog.DiscardHandler),
	})
	w.imap = imapd.New(imapd.Options{Now: time.Now, Random: rand.Reader, Store: w.store, Directory: w.dir})
	w.options = Options{
		Hostname: "mx.here.test", Store: w.store, Directory: w.dir, Now: now,
		Receiver: receive.New(receive.Options{Store: w.store, Directory: w.dir, Queue: w.queue, Now: now}),
	}
	t.Cleanup(func() {
		w.stop()
		w.done.Wait()
		w.dir.Close()
		base.Close()
	})
	return w
}

func (w *world) populate() {
	w.t.Helper()
	for _, d := range []string{"here.test", "too.test"} {
		w.must(w.dir.AddDomain(w.ctx, d))
	}
	for _, name := range []string{"alice", "bob"} {
		_, err := w.dir.AddAccount(w.ctx, address(name+"@here.test"), "secret", store.Quota{})
		w.must(err)
	}
	w.must(w.dir.AddAlias(w.ctx, address("sales@here.test"), address("alice@here.test")))
	w.must(w.dir.AddAlias(w.ctx, address("all@too.test"), address("alice@here.test"), address("bob@here.test"), address("carol@far.test")))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func address(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// connect gives a client's end of a connection from an address, for as long as the
// test runs.
func (w *world) connect(o Options, mode netsrv.TLSMode, from string) net.Conn {
	client := w.serve(o, mode, from)
	w.t.Cleanup(func() { client.Close() })
	return client
}

func (w *world) serve(o Options, mode netsrv.TLSMode, from string) net.Conn {
	client, server := net.Pipe()
	svc := Service(o)
	svc.Name, svc.TLS = "test", mode
	w.done.Go(func() { w.net.ServeConn(w.ctx, &fromAddr{server, from}, svc) })
	return client
}

// fromAddr is a connection that seems to come from an address.
type fromAddr struct {
	net.Conn
	from string
}

func (f *fromAddr) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(addrPort(f.from))
}

// inbox returns the messages in an account's INBOX, oldest first.
func (w *world) inbox(name string) []string { return w.mailbox(name, "INBOX") }

// mailbox returns the messages in a mailbox of an account, oldest first.
func (w *world) mailbox(name, mailbox string) []string {
	w.t.Helper()
	ctx := context.Background() // also after the server has stopped
	a, err := w.dir.Lookup(ctx, address(name+"@here.test"))
	w.must(err)
	acct := w.store.Account(a.ID)
	var box store.Mailbox
	w.must(acct.View(ctx, func(s *store.Snapshot) (err error) {
		box, err = s.Mailbox(mailbox)
		return err
	}))
	pic, err := acct.Picture(ctx, box.ID)
	w.must(err)
	var all []string
	for _, m := range pic.Messages(store.All()) {
		r, err := acct.Open(ctx, m.ID, 0, -1)
		w.must(err)
		text, err := io.ReadAll(r)
		w.must(err)
		r.Close()
		all = append(all, string(text))
	}
	return all
}

// fakeQueue remembers what it was given.
type fakeQueue struct {
	mu      sync.Mutex
	entries []queue.Entry
}

func (q *fakeQueue) Enqueue(_ context.Context, entries ...queue.Entry) ([]queue.ID, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.entries = append(q.entries, entries...)
	return make([]queue.ID, len(entries)), nil
}

// lines describes the queue: a line for each recipient.
func (q *fakeQueue) lines() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []string
	for _, e := range q.entries {
		for _, to := range e.Envelope.To {
			line := fmt.Sprintf("<%s> to <%s> by %s", e.Envelope.From, to.Address, e.Envelope.Protocol)
			if e.Road == queue.Local {
				line += " local"
			}
			for _, more := range []struct{ name, value string }{
				{"login", e.Envelope.Login}, {"envid", e.Envelope.EnvID}, {"orcpt", to.ORcpt}, {"reason", e.Reason},
			} {
				if more.value != "" {
					line += " " + more.name + "=" + more.value
				}
			}
			if to.Notify != 0 || e.Envelope.Ret != 0 {
				line += fmt.Sprintf(" notify=%d ret=%d", to.Notify, e.Envelope.Ret)
			}
			out = append(out, line+asked(e.Envelope))
		}
	}
	return out
}

// few lets so many recipients be sent to.
type few struct{ left int }

func (f *few) Check(_ context.Context, login string, recipients int, _ bool) error {
	if recipients > f.left {
		return fault.Newf(fault.Limited, "%s may send no more", login)
	}
	return nil
}

func (f *few) Spend(ctx context.Context, login string, recipients int, trusted bool) error {
	if err := f.Check(ctx, login, recipients, trusted); err != nil {
		return err
	}
	f.left -= recipients
	return nil
}

// asked describes what a message asks for of time and order.
func asked(env mail.Envelope) (line string) {
	if env.Release != "" {
		line += " release=" + env.ReleaseAt.UTC().Format(time.RFC3339) + " " + env.Release
	}
	if env.Priority != 0 {
		line += fmt.Sprint(" priority=", env.Priority)
	}
	if env.By.Mode != mail.ByNone {
		line += fmt.Sprintf(" by=%s mode=%d trace=%v", env.By.At.UTC().Format(time.RFC3339), env.By.Mode, env.By.Trace)
	}
	if env.VERP {
		line += " verp"
	}
	return line
}

// failingDisk is an engine whose disk can be full.
type failingDisk struct {
	engine.Engine
	mu   sync.Mutex
	full bool
}

func (d *failingDisk) setFull(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

func (d *failingDisk) check() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full {
		return fault.Wrap(fault.Unavailable, "the disk is full", errors.New("no space left on device"))
	}
	return nil
}

func (d *failingDisk) Update(ctx context.Context, shard engine.Shard, fn func(engine.Writer) error) error {
	if err := d.check(); err != nil {
		return err
	}
	return d.Engine.Update(ctx, shard, fn)
}

// certificate makes one for mx.here.test.
func certificate(t testing.TB) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.here.test"}, DNSNames: []string{"mx.here.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }
}

// visible shows a message with its line ends, for transcripts.
func visible(text string) []string {
	var out []string
	for line := range strings.SplitAfterSeq(text, "\n") {
		switch {
		case strings.HasSuffix(line, "\r\n"):
			out = append(out, strings.TrimSuffix(line, "\r\n"))
		case line != "":
			out = append(out, strings.Trim(fmt.Sprintf("%q", line), `"`))
		}
	}
	return out
}
