// Package house is a whole server within a test's process: every protocol on a port of
// loopback, over a store in memory. Tests that need the real program start that instead
// (test/peers/martlet); this one is for those that must reach below it, to an engine that
// fails or to limits that no configuration may set.
//
// It wires what cmd/martlet wires, without files, configuration and administration.
package house

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/receive"
	"github.com/martlet-mail/martlet/internal/serve/imapd"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/serve/pop3d"
	"github.com/martlet-mail/martlet/internal/serve/smtpd"
	"github.com/martlet-mail/martlet/internal/store"
)

// Domain is the one local domain, Hostname the server's name, and Password that of all
// accounts.
const (
	Domain   = "example.org"
	Hostname = "mx.example.org"
	Password = "correct horse"
)

// Options change a house before it is built. All may be left out.
type Options struct {
	Log       *slog.Logger
	Now       func() time.Time
	FS        vfs.FS                            // nil: a new one in memory
	Dir       string                            // of the store; "" is data
	Listen    func(net.Listener) net.Listener   // put around each
	Engine    func(engine.Engine) engine.Engine // put around the real one
	Remote    queue.Courier                     // takes mail to other hosts
	Queue     func(*queue.Options)
	Directory func(*directory.Options)
	Store     func(*store.Options)
	Sessions  func(*netsrv.Options)
	SMTP      func(*smtpd.Options) // all three kinds
	IMAP      func(*imapd.Options)
	POP3      func(*pop3d.Options)
}

// House is a server that runs until its test ends.
type House struct {
	Store     *store.Store
	Directory *directory.Directory
	Queue     *queue.Queue
	Receiver  *receive.Receiver
	Sessions  *netsrv.Server

	opt     Options
	ports   map[string]string
	end     context.CancelFunc
	running sync.WaitGroup
}

// Cheap is a password hash that takes next to no time.
func Cheap() directory.Argon { return directory.Argon{MemoryKiB: 64, Passes: 1, Lanes: 1} }

// New builds a house. Its logins are not counted, and their hashes cheap.
func New(t testing.TB, o Options) *House {
	t.Helper()
	if o.FS == nil {
		o.FS = vfs.NewMem()
	}
	eng, err := pebble.Open(cmp.Or(o.Dir, "data"), pebble.Options{FS: o.FS, Now: time.Now, ReserveBytes: -1, Log: o.Log})
	if err != nil {
		t.Fatal(err)
	}
	h, err := Build(t.Context(), eng, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	h.end = end
	h.running.Go(func() { h.Queue.Run(ctx) })
	h.listen(t, ctx)
	t.Cleanup(func() {
		h.Stop()
		h.Close()
		eng.Close()
	})
	return h
}

// Stop stops the server and waits until it has.
func (h *House) Stop() {
	h.end()
	h.running.Wait()
}

// Close closes what Build has opened.
func (h *House) Close() {
	h.Directory.Close()
	h.Store.Close()
}

// Build puts a house together, from the ground up, of which nothing runs yet.
func Build(ctx context.Context, eng engine.Engine, o Options) (h *House, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	h = &House{opt: o, ports: map[string]string{}}
	return h, h.furnish(ctx, eng)
}

func (h *House) furnish(ctx context.Context, eng engine.Engine) (err error) {
	o := h.opt
	if o.Engine != nil {
		eng = o.Engine(eng)
	}
	keep := store.Options{Now: o.Now, Rand: rand.Reader, Log: o.Log}
	changed(o.Store, &keep)
	if h.Store, err = store.Open(eng, keep); err != nil {
		return err
	}
	who := directory.Options{
		Now: o.Now, Rand: rand.Reader, Log: o.Log, DetailSeparator: "+", Argon: Cheap(), ScramIterations: 4096,
		FailuresPerAccount: 1 << 30, FailuresPerAddress: 1 << 30, Sleep: func(context.Context, time.Duration) error { return nil },
	}
	changed(o.Directory, &who)
	if h.Directory, err = directory.Open(ctx, eng, h.Store, who); err != nil {
		return err
	}
	if err := h.Directory.AddDomain(ctx, Domain); err != nil && !fault.Is(err, fault.Exists) {
		return err
	}
	road := new(receive.Local)
	wait := queue.Options{
		Hostname: Hostname, Remote: o.Remote, Local: road, Report: road.Report, Now: o.Now, Log: o.Log,
		Rand: func() float64 { return 0 }, Random: rand.Reader,
	}
	changed(o.Queue, &wait)
	h.Queue = queue.New(eng, h.Store, wait)
	h.Receiver = receive.New(receive.Options{Store: h.Store, Directory: h.Directory, Queue: h.Queue, Now: o.Now, Log: o.Log})
	road.Receiver = h.Receiver
	return nil
}

func changed[T any](by func(*T), what *T) {
	if by != nil {
		by(what)
	}
}

// listen serves every protocol, on ports of the system's choice.
func (h *House) listen(t testing.TB, ctx context.Context) {
	o := netsrv.Options{
		Log: h.opt.Log, Now: h.opt.Now, Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, MaxPerAccount: 1000,
		Certificate: certificate(t),
	}
	changed(h.opt.Sessions, &o)
	h.Sessions = netsrv.New(o)
	for name, svc := range h.services() {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		svc.Name = name
		if svc.TLS == netsrv.NoTLS {
			svc.TLS = netsrv.StartTLS
		}
		h.ports[name] = ln.Addr().String()
		if h.opt.Listen != nil {
			ln = h.opt.Listen(ln)
		}
		h.running.Go(func() { h.Sessions.Serve(ctx, ln, svc) })
	}
}

func (h *House) services() map[string]netsrv.Service {
	mx := func(kind smtpd.Kind) netsrv.Service {
		o := smtpd.Options{
			Now: h.opt.Now, Kind: kind, Hostname: Hostname,
			Store: h.Store, Directory: h.Directory, Receiver: h.Receiver,
		}
		changed(h.opt.SMTP, &o)
		return smtpd.Service(o)
	}
	imap := imapd.Options{Store: h.Store, Directory: h.Directory, Now: h.opt.Now, Random: rand.Reader}
	changed(h.opt.IMAP, &imap)
	pop3 := pop3d.Options{Store: h.Store, Directory: h.Directory}
	changed(h.opt.POP3, &pop3)
	people := mx(smtpd.Submission)
	people.People = true
	mail := netsrv.Service{People: true, Handle: imapd.New(imap).Handle}
	secure := mail
	secure.TLS = netsrv.ImplicitTLS
	return map[string]netsrv.Service{
		"smtp": mx(smtpd.Relay), "lmtp": mx(smtpd.LMTP), "submission": people,
		"imap": mail, "imaps": secure, "pop3": {People: true, Handle: pop3d.New(pop3).Handle},
	}
}

// Account makes an account of the domain.
func (h *House) Account(t testing.TB, local string) directory.Account {
	t.Helper()
	a, err := h.Directory.AddAccount(t.Context(), mail.Address{Local: local, Domain: Domain}, Password, store.Quota{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Addr is where a protocol is spoken: smtp, lmtp, submission, imap, imaps or pop3.
func (h *House) Addr(protocol string) string { return h.ports[protocol] }
