package sim

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/disk"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/receive"
	"github.com/martlet-mail/martlet/internal/send"
	"github.com/martlet-mail/martlet/internal/serve/imapd"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/serve/pop3d"
	"github.com/martlet-mail/martlet/internal/serve/smtpd"
	"github.com/martlet-mail/martlet/internal/store"
	whole "github.com/martlet-mail/martlet/test/house"
)

// house is the whole server, put together as cmd/martlet does it, on a disk and a network
// of the simulation.
type house struct {
	engine    *pebble.Engine
	store     *store.Store
	directory *directory.Directory
	courier   *send.Courier
	queue     *queue.Queue
	receiver  *receive.Receiver
	dead      atomic.Bool // its power is off: nothing it does counts

	ctx   context.Context
	end   context.CancelFunc
	parts sync.WaitGroup
}

// Lifetime of mail in the queue, and what belongs to it. Short, since each minute of
// waiting costs a look at the queue.
const (
	lifetime   = 40 * time.Minute
	delayAfter = 15 * time.Minute
)

var gaps = []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 8 * time.Minute}

// Where the server listens, and asks.
const (
	atSMTP, atSubmission, atLMTP = "192.0.2.1:25", "192.0.2.1:587", "192.0.2.1:24"
	atIMAP, atPOP                = "192.0.2.1:143", "192.0.2.1:110"
	atIMAPS, atPOPS              = "192.0.2.1:993", "192.0.2.1:995"
	atDNS                        = "192.0.2.53:53"
)

// site is what a house stands on.
type site struct {
	fs       vfs.FS
	memTable int // KB
	now      func() time.Time
	log      *slog.Logger
	chance   *chance
	deaf     bool
	keep     bool // deleted mail
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
}

// chance is all that the server draws, from one source and from many goroutines.
type chance struct {
	mu  sync.Mutex
	src *rand.ChaCha8
	r   *rand.Rand
}

func newChance(seed uint64, life int) *chance {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], uint64(life))
	src := rand.NewChaCha8(key)
	return &chance{src: src, r: rand.New(src)}
}

func (c *chance) Read(b []byte) (int, error) { c.mu.Lock(); defer c.mu.Unlock(); return c.src.Read(b) }
func (c *chance) float() float64             { c.mu.Lock(); defer c.mu.Unlock(); return c.r.Float64() }
func (c *chance) id() uint16                 { c.mu.Lock(); defer c.mu.Unlock(); return uint16(c.r.Uint32()) }

func (c *chance) shuffle(n int, swap func(i, j int)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.r.Shuffle(n, swap)
}

// cheap are passwords that cost nothing.
func cheap(at site) directory.Options {
	return directory.Options{Rand: at.chance, DetailSeparator: "+", Now: at.now, Log: at.log, ScramIterations: 1, Argon: directory.Argon{MemoryKiB: 8, Passes: 1, Lanes: 1}}
}

func openHouse(ctx context.Context, at site) (h *house, err error) {
	h = &house{}
	if h.engine, err = pebble.Open("data", pebble.Options{FS: at.fs, CacheBytes: 256 << 10, MemTableBytes: uint64(at.memTable) << 10, ReserveBytes: -1, Now: at.now, Log: at.log}); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	if err = h.furnish(ctx, at); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

func (h *house) furnish(ctx context.Context, at site) (err error) {
	if err := at.fs.MkdirAll("spool", 0o700); err != nil {
		return err
	}
	var keep store.Keep
	if at.keep {
		keep.For = 30 * 24 * time.Hour
	}
	spool := disk.NewSpool(at.fs, "spool")
	if h.store, err = store.Open(h.engine, store.Options{Now: at.now, Spool: func() (store.SpoolFile, error) { return spool.File() }, PictureBytes: 1 << 20, LogLines: 40, Keep: keep, Log: at.log}); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if h.directory, err = directory.Open(ctx, h.engine, h.store, cheap(at)); err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if h.dead.Load() {
			return nil, errors.New("no power")
		}
		return at.dial(ctx, network, address)
	}
	resolver, err := dnsx.New(dnsx.Options{Servers: []string{atDNS}, Now: at.now, ID: at.chance.id, Dial: dial})
	if err != nil {
		return err
	}
	h.courier, err = send.New(send.Options{Hostname: "mx." + home, Resolver: resolver, Now: at.now, Shuffle: at.chance.shuffle, Random: at.chance, Dial: dial})
	if err != nil {
		return err
	}
	road := new(receive.Local)
	h.queue = queue.New(h.engine, h.store, queue.Options{
		Hostname: "mx." + home, Remote: remote{whole.Remote{Courier: h.courier}, at.deaf}, Local: road, Report: road.Report,
		Gaps: gaps, Lifetime: lifetime, DelayAfter: delayAfter, Now: at.now, Rand: at.chance.float, Random: at.chance, Log: at.log,
	})
	h.receiver = receive.New(receive.Options{Store: h.store, Directory: h.directory, Queue: h.queue, Now: at.now, Log: at.log})
	road.Receiver = h.receiver
	return nil
}

// serve opens the doors.
func (h *house) serve(at site, net *network) {
	ctx, end := context.WithCancel(context.Background())
	h.end = end
	sessions := netsrv.New(netsrv.Options{Log: at.log, Now: at.now, Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate(), nil }})
	smtp := func(kind smtpd.Kind) netsrv.Service {
		return smtpd.Service(smtpd.Options{Kind: kind, Hostname: "mx." + home, Store: h.store, Directory: h.directory,
			Receiver: h.receiver, Now: at.now})
	}
	imap := netsrv.Service{Handle: imapd.New(imapd.Options{Store: h.store, Directory: h.directory, Now: at.now, Random: at.chance}).Handle}
	pop := netsrv.Service{Handle: pop3d.New(pop3d.Options{Store: h.store, Directory: h.directory}).Handle}
	imaps, pops := imap, pop
	imaps.TLS, pops.TLS = netsrv.ImplicitTLS, netsrv.ImplicitTLS
	for _, door := range []struct {
		name, at string
		svc      netsrv.Service
	}{
		{"smtp", atSMTP, smtp(smtpd.Relay)}, {"submission", atSubmission, smtp(smtpd.Submission)}, {"lmtp", atLMTP, smtp(smtpd.LMTP)},
		{"imap", atIMAP, imap}, {"imaps", atIMAPS, imaps}, {"pop3", atPOP, pop}, {"pop3s", atPOPS, pops},
	} {
		door.svc.Name = door.name
		ln := net.listen(door.at, true)
		h.parts.Go(func() { _ = sessions.Serve(ctx, ln, door.svc) })
	}
	h.ctx = ctx
}

// work begins to send what waits.
func (h *house) work() { h.parts.Go(func() { h.queue.Run(h.ctx) }) }

// stop ends all parts and closes the house.
func (h *house) stop() error {
	h.end()
	h.parts.Wait()
	return h.close()
}

func (h *house) close() error {
	if h.courier != nil {
		h.courier.Close()
	}
	if h.directory != nil {
		h.directory.Close()
	}
	if h.store != nil {
		h.store.Close()
	}
	return h.engine.Close()
}

// remote may turn a yes into a no for now.
type remote struct {
	whole.Remote
	deaf bool
}

func (r remote) Deliver(ctx context.Context, job queue.Job) []queue.Result {
	results := r.Remote.Deliver(ctx, job)
	for i := range results {
		if r.deaf && results[i].Code == 250 {
			results[i].Code = 451
		}
	}
	return results
}

// settle makes the domain, the accounts and the aliases.
func (h *house) settle(ctx context.Context) error {
	d := h.directory
	if err := d.AddDomain(ctx, home); err != nil {
		return err
	}
	for _, u := range users {
		if _, err := d.AddAccount(ctx, here(u), secret, store.Quota{}); err != nil {
			return err
		}
	}
	return errors.Join(
		d.AddAlias(ctx, here("both"), here("alice"), here("bob")),
		d.AddAlias(ctx, here("away"), mail.Address{Local: "amy", Domain: "b.test"}))
}

func here(local string) mail.Address { return mail.Address{Local: local, Domain: home} }

// certificate is that of the server, made once.
var certificate = sync.OnceValue(func() *tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		panic(err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx." + home}, NotBefore: time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(crand.Reader, t, t, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})
