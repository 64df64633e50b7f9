// Package link keeps accounts here in step with mailboxes elsewhere, for as long as their
// owners like: rules that are stored, what is needed to sign in, sealed, and the scheduler
// that carries them out while the server runs.
//
// A link brings the new mail of a source, and follows what is changed there: flags, and
// messages that are moved from one linked mailbox to another. If asked it goes both ways, and
// carries what is changed here to the source. What is the same on both sides is remembered in
// ties (package move), written in the commits that make it so; a link has no other memory of
// messages, and may be stopped at any moment.
//
// Who changed what is told from the tie, which is how it was when both were the same: what
// one side changed goes to the other; where both moved a message, the side here wins. docs/links.md has the rule.
//
// Thousands of links that wait cost a line in memory each. Some run at the same time, some
// wait at their servers for news (IDLE), and there are bounds on both. A server that refuses
// the password is not asked again and again.
//
// The package speaks no protocol: sources and accounts are handed to it.
package link

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/signin"
	"github.com/martlet-mail/martlet/internal/store"
)

// Shard is where the rules are kept.
const Shard engine.Shard = 6

// ID names a link for ever; it is never given twice.
type ID uint64

// Rule is what an administrator asked for.
type Rule struct {
	ID      ID
	Account mail.AccountID
	Server  Server
	User    string // at the source
	OAuth   string // who signs in there; "": a password does

	Mailboxes      []string // patterns of names at the source; none: all
	Into           string   // one mailbox here; "": those with the names of the source's
	BothWays       bool     // what changes here is carried to the source
	FollowDeletes  bool     // what is gone there goes into Trash here
	DeleteAtSource bool     // IMAP: what is deleted here goes into Trash there; POP3: what was brought is deleted
	Poll           time.Duration
	Since          time.Time // older mail is not brought; zero: all is
	Created        time.Time
}

// Server is where a source is.
type Server struct {
	Protocol string // imap or pop3
	Security string // tls, starttls, or "offered": by STARTTLS if there is one
	Host     string
	Port     uint16
	Insecure bool // any certificate will do, and a password may go in the clear
}

// Secret is what signs in. It is stored sealed, and shown to nobody.
type Secret struct {
	Password string        `json:"password,omitempty"`
	Grant    *signin.Grant `json:"grant,omitempty"`
}

// Limits that keep a mistake small.
const (
	maxRules    = 100 // of one account
	minPoll     = 10 * time.Second
	maxPoll     = 7 * 24 * time.Hour
	usualPoll   = 5 * time.Minute
	maxPatterns = 100
)

// Options are what links work on. All but Store, Spool, Log and the numbers must be given.
type Options struct {
	Engine engine.Engine
	Now    func() time.Time
	Chance func() float64 // [0, 1)
	Random io.Reader
	Key    []byte // 32 bytes that seal what signs in

	// Open connects to a source and signs in. With a Grant its access token is fresh. What it
	// dials with is to be Felt.
	Open func(context.Context, Rule, Secret) (move.Source, error)
	// Target is the account; a NotFound is one that was removed.
	Target func(context.Context, mail.AccountID) (move.Target, error)
	Store  *store.Store                    // tells what others change in accounts; nil: nobody does
	SignIn signin.Options                  // how access tokens are made
	Spool  func() (store.SpoolFile, error) // for long messages on their way in; nil: memory

	// Elsewhere returns the node that carries links out, "" if it is this one or none; nil:
	// there are no others.
	Elsewhere func(ctx context.Context) (string, error)

	Off     bool // nothing is done by itself
	MaxRuns int  // at the same time, and as many again that take long; 0: 8
	MaxIdle int  // that wait at their servers for news; 0: 200, negative: none
	Poll    time.Duration
	Log     *slog.Logger // nil: discard
}

// Links are all links of a server. The methods may be called from many goroutines.
type Links struct {
	opt Options

	mu      sync.Mutex
	known   map[ID]*entry // of those that are being looked after
	queue   schedule
	running int            // that hold a place
	long    int            // that run for long and hold none
	hosts   map[string]int // runs by host
	idle    int
	begun   bool        // Run has read the rules
	foreign atomic.Bool // another node has changed something
	wake    chan struct{}
	brought int64 // messages since the start
	often   map[mail.AccountID]*often
	workers sync.WaitGroup

	// Accounts tell of changes with a lock of theirs in hand, and are let go of with mu in hand:
	// so what they tell is kept apart.
	toldMu sync.Mutex
	told   map[ID]struct{} // links whose accounts were changed here
}

// New returns the links of a server. Nothing is done before Run.
func New(o Options) *Links {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxRuns <= 0 {
		o.MaxRuns = 8
	}
	if o.MaxIdle == 0 {
		o.MaxIdle = 200
	}
	if o.Poll <= 0 {
		o.Poll = usualPoll
	}
	return &Links{opt: o, known: map[ID]*entry{}, told: map[ID]struct{}{}, often: map[mail.AccountID]*often{}, hosts: map[string]int{}, wake: make(chan struct{}, 1)}
}
