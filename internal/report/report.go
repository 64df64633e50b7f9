// Package report tells other domains what this server has seen of their mail and their TLS,
// and keeps what they tell ours: aggregate reports of DMARC (RFC 9990) and TLS reports (RFC
// 8460), both ways.
//
// What is seen is counted in memory and written to the engine each minute: a crash costs a
// minute of statistics, and nothing else waits for it. A day's reports go out in the hours
// after its end. What arrives for our domains is read with hard limits and kept.
//
// Reports of single failures (RFC 9991) are never sent: they hold other people's mail. The
// package delivers nothing: the road for mail is handed in.
package report

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"crypto/x509"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Shard is where reports lie.
const Shard engine.Shard = 5

// Kind is what a report is about.
type Kind byte

const (
	DMARC Kind = 'd' // who sends in a domain's name
	TLS   Kind = 't' // how mail gets to a domain
)

// String returns dmarc or tls.
func (k Kind) String() string {
	if k == TLS {
		return "tls"
	}
	return "dmarc"
}

// Options of New. Engine, Resolver and Now must be given.
type Options struct {
	Engine   engine.Engine
	Resolver dnsx.Resolver
	Now      func() time.Time
	Log      *slog.Logger // nil: discard

	// Collect: what is seen is counted and reported. Without it only what others report is
	// kept.
	Collect      bool
	Hostname     string // ours: who submits the reports
	Organization string // as reports name us; "": the domain of From
	Version      string // of this program
	// From is the address that reports come from, of a domain whose mail we sign. An error
	// means that none can be sent now.
	From func(ctx context.Context) (mail.Address, error)
	// Mail sends a message. Two calls with one key are one message.
	Mail func(ctx context.Context, key string, env mail.Envelope, message []byte) error
	// Dial, Roots and AllowPrivate are for reports that are posted over https. Nil Dial: none
	// are.
	Dial         func(ctx context.Context, network, address string) (net.Conn, error)
	Roots        *x509.CertPool
	AllowPrivate bool

	// Asked returns the address to which a domain here asks for reports; ok is false if it is
	// no domain of ours. Nil: no report of others is taken.
	Asked func(ctx context.Context, kind Kind, domain string) (to mail.Address, ok bool)
	// Keep is for how long what was received, and what is known of what was sent, is kept;
	// 0: 400 days.
	Keep time.Duration

	// Sends tells whether this process is the one that sends; nil: it is. All count.
	Sends func() bool

	MaxRows    int // of one report that we send; 0: 5000
	MaxBytes   int // of its rows, as they are kept; what is over it is left out and told of; 0: 4 MiB
	MaxDomains int // that are told of in one day; 0: 20000
}

// Book collects, sends and keeps reports. It may be used by many goroutines; a nil Book does
// nothing.
type Book struct {
	opt Options

	mu      sync.Mutex
	seen    map[rowKey]*seen // since the last flush
	known   map[place]source // of these rows
	lost    uint64           // not counted: there was too much
	full    chan struct{}    // ticks when seen is half full
	inbox   chan letter
	desk    chan struct{} // full while TakeAtOnce reads
	writing sync.Mutex    // one flush at a time

	composing sync.Mutex // one report at a time is made
}

// New returns a book.
func New(o Options) *Book {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Keep <= 0 {
		o.Keep = 400 * 24 * time.Hour
	}
	if o.MaxRows <= 0 {
		o.MaxRows = 5000
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 4 << 20
	}
	if o.MaxDomains <= 0 {
		o.MaxDomains = 20_000
	}
	return &Book{opt: o, seen: map[rowKey]*seen{}, known: map[place]source{}, full: make(chan struct{}, 1), inbox: make(chan letter, maxInbox), desk: make(chan struct{}, 1)}
}
