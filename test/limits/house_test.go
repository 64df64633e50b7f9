// Package limits shows what a client may take of the server and what it may not: time,
// memory, processors. docs/limits.md is the table of it.
//
// The whole server runs in the test's process over real sockets, so that its memory and
// the time of its processors can be counted; what is about processes (10,000 connections,
// fairness) starts the real binary, with MARTLET_PEERS=1.
package limits

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/directory"
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

// options of a house.
type options struct {
	net         netsrv.Options
	onDisk      bool
	maxMessage  int64
	commandTime time.Duration
}

// house is a server of all protocols.
type house struct {
	store     *store.Store
	directory *directory.Directory
	sessions  *netsrv.Server
	ports     map[string]string
	ends      ends
	in        *talk // that delivers
	stop      context.CancelFunc
	served    chan struct{} // closed when all listeners have ended
}

func newHouse(t testing.TB, o options) *house {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	disk, dir := vfs.FS(vfs.NewMem()), "data"
	if o.onDisk {
		disk, dir = vfs.Default, t.TempDir()
	}
	eng, err := pebble.Open(dir, pebble.Options{FS: disk, Now: time.Now, ReserveBytes: -1})
	must(err)
	h := &house{ports: map[string]string{}, served: make(chan struct{})}
	h.store, err = store.Open(eng, store.Options{Now: time.Now, Log: log, MaxMessage: o.maxMessage})
	must(err)
	h.directory, err = directory.Open(t.Context(), eng, h.store, directory.Options{
		Now: time.Now, Rand: rand.Reader, Log: log, Argon: directory.Argon{MemoryKiB: 64, Passes: 1, Lanes: 1}, ScramIterations: 4096,
	})
	must(err)
	must(h.directory.AddDomain(t.Context(), "example.org"))
	for _, name := range []string{"alice", "bob"} {
		h.account(t, name)
	}
	road := new(receive.Local)
	q := queue.New(eng, h.store, queue.Options{
		Hostname: "mx.example.org", Local: road, Report: road.Report, Now: time.Now, Log: log,
		Rand: func() float64 { return 0 }, Random: rand.Reader,
	})
	road.Receiver = receive.New(receive.Options{Store: h.store, Directory: h.directory, Queue: q, Now: time.Now, Log: log})
	h.serve(t, o, road.Receiver, log)
	t.Cleanup(func() {
		h.stop()
		<-h.served
		h.directory.Close()
		h.store.Close()
		eng.Close()
	})
	return h
}

func (h *house) account(t testing.TB, name string) mail.AccountID {
	t.Helper()
	a, err := mail.ParseAddress(name + "@example.org")
	if err != nil {
		t.Fatal(err)
	}
	made, err := h.directory.AddAccount(t.Context(), a, password, store.Quota{})
	if err != nil {
		t.Fatal(err)
	}
	return made.ID
}

// serve serves every protocol, on ports of the system's choice.
func (h *house) serve(t testing.TB, o options, to *receive.Receiver, log *slog.Logger) {
	n := o.net
	n.Log, n.Now, n.Certificate = log, time.Now, certificate(t)
	n.MaxPerAccount = max(n.MaxPerAccount, 1000)
	h.sessions = netsrv.New(n)
	mx := func(kind smtpd.Kind) netsrv.Service {
		return smtpd.Service(smtpd.Options{
			Now: time.Now, Kind: kind, Hostname: "mx.example.org",
			Store: h.store, Directory: h.directory, Receiver: to, MaxErrors: 10, MaxFailures: 3,
		})
	}
	imap := netsrv.Service{People: true, Handle: imapd.New(imapd.Options{
		Store: h.store, Directory: h.directory, Now: time.Now, Random: rand.Reader, MaxBad: 10, CommandTime: o.commandTime,
	}).Handle}
	pop3 := netsrv.Service{People: true, Handle: pop3d.New(pop3d.Options{Store: h.store, Directory: h.directory}).Handle}
	people := mx(smtpd.Submission)
	people.People = true
	secure := imap
	secure.TLS = netsrv.ImplicitTLS
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	ended := make(chan struct{})
	services := map[string]netsrv.Service{"smtp": mx(smtpd.Relay), "lmtp": mx(smtpd.LMTP), "submission": people, "imap": imap, "imaps": secure, "pop3": pop3}
	for name, svc := range services {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		svc.Name = name
		if svc.TLS == netsrv.NoTLS {
			svc.TLS = netsrv.StartTLS
		}
		h.ports[name] = ln.Addr().String()
		go func() {
			h.sessions.Serve(ctx, noting{ln, &h.ends}, svc)
			ended <- struct{}{}
		}()
	}
	go func() {
		for range services {
			<-ended
		}
		close(h.served)
	}()
}

// certificate is one for localhost.
func certificate(t testing.TB) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c, nil }
}

// dial connects to a listener, for as long as the test runs.
func (h *house) dial(t testing.TB, name string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", h.ports[name])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}

// cpu is the time that processors have worked for this process.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// held is the memory in use: the heap without its garbage, and stacks.
func held() int64 {
	var m runtime.MemStats
	for range 3 { // what pools keep goes with the second collection
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// until waits for something that is to come.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come about that %s", what)
		}
	}
}

func line(format string, args ...any) []byte { return fmt.Appendf(nil, format+"\r\n", args...) }
