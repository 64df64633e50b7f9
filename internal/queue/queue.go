// Package queue keeps mail that must wait: for another host, or for a mailbox that
// cannot take it now. It says when to try, hands mail to a courier, records what
// came of each recipient, and reports to the sender what was not delivered.
//
// Everything lies in one shard of the engine, or one for each node, and is durable before anybody is told:
// a message when Enqueue returns, an outcome as soon as the courier has it. A crash
// between a host's answer and its record is the one way to a second copy, and SMTP
// itself leaves no other (RFC 1047). Memory does not grow with the queue.
//
// Mail waits in lanes, one for each destination domain. Each lane has its own order,
// its own limit of attempts at a time and its own pause when its hosts are down, so
// that a dead domain holds up nobody else.
//
// The package opens no connection, decides no route and delivers nothing: couriers
// and the road for reports are handed in. One process owns the queue, or each of several
// nodes a part of it, under leases that are handed in.
//
// RFC 5321, 4.5.4 (retries) and 6.1 (no bounce for a bounce), RFC 3461 (who is
// told what), RFC 3464 and 6522 (form of reports), RFC 6533 (with SMTPUTF8),
// RFC 3834 (Auto-Submitted).
package queue

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/trace"
)

// shard is where the first part of the queue lives, and what accounts have sent.
const shard = store.QueueShard

// maxRecipients bounds a message, so that no change outgrows one Update.
const maxRecipients = 2000

// groupSize is how many recipients of one domain travel together. It is also what
// one SMTP transaction takes, so that the answer to each transaction is recorded
// before the next begins.
const groupSize = 100

// ID names a message in the queue. It is never used again.
type ID uint64

// String returns the ID as people type it.
func (id ID) String() string { return strconv.FormatUint(uint64(id), 36) }

// ParseID reads what String wrote. A fault is of kind Invalid.
func ParseID(s string) (ID, error) {
	n, err := strconv.ParseUint(strings.ToLower(s), 36, 64)
	if err != nil {
		return 0, fault.Newf(fault.Invalid, "%q is no queue id", s)
	}
	return ID(n), nil
}

// Road says which courier takes a message.
type Road uint8

const (
	Remote Road = iota // to other hosts
	Local              // to a mailbox here that could not take it at once
)

// Result says what came of one recipient. It has the shape of send.Result.
type Result struct {
	Code     int    // 2xx: done; 4xx: try again; 5xx: give up
	Enhanced string // "4.7.1" or ""
	Text     string // the host's words if Host is set, else ours
	Host     string // who said so; "" if no host was reached
	Address  string
	TLS      string
	DSN      bool // the next host reports success itself
	Line     mail.Line
	InTime   bool // the next host knows DELIVERBY
	Unsure   bool // the host had the whole message, and its answer was not heard
}

// Message is the content of a job. It has the shape of send.Message.
type Message struct {
	Size      int64
	Has8Bit   bool
	NeedsUTF8 bool
	Open      func(context.Context) (io.ReadCloser, error)
}

// Job is one attempt: a message for recipients of one domain.
type Job struct {
	ID       ID
	Attempt  int // 1 for the first
	Envelope mail.Envelope
	Message  Message
	// Parcel gives the message for an Append. It reads and parses it once more.
	Parcel func(context.Context) (*store.Parcel, error)
	// Settled may be called during the attempt for recipients, by index, whose fate
	// is known while others still wait for theirs: it is recorded at once.
	Settled func(who []int, r Result)
}

// Courier makes one attempt and returns a result for each of job.Envelope.To, in
// the same order, as soon as the last one is known.
type Courier interface {
	Deliver(ctx context.Context, job Job) []Result
}

// Options sets up a Queue. Hostname, Remote, Local, Report, Now, Rand and Random must be given.
type Options struct {
	Hostname string
	Remote   Courier
	Local    Courier
	// Report takes a report to a sender on its way, by the same road as other mail.
	// Two calls with one key are one report. A fault that is not Temporary means
	// that the sender cannot be told; it is logged and that is all (RFC 5321, 6.1).
	Report func(ctx context.Context, key string, env mail.Envelope, message io.Reader) error

	Gaps       []time.Duration // between attempts, the last one repeated; nil: 5 min to 4 h
	Lifetime   time.Duration   // until mail is given up; 0: 5 days
	DelayAfter time.Duration   // until the sender is told of the delay, once; 0: 4 h; negative: never
	Workers    int             // attempts at a time; 0: 200
	PerDomain  int             // of these for one domain at most; 0: 20
	Grace      time.Duration   // for attempts under way when the queue stops; 0: 3 s

	// Rules says what holds for mail to other hosts of a domain; nil: nothing particular.
	Rules func(domain string) Rules

	// Part is the number of this node's part of the queue; Parts returns the numbers of all
	// parts there are. nil: there is one.
	Part  uint64
	Parts func(ctx context.Context) ([]uint64, error)
	// Format returns the newest form of stored records that all nodes can read; nil: that of
	// this program.
	Format func() uint64

	Now    func() time.Time
	Rand   func() float64 // in [0, 1), for jitter
	Random io.Reader      // of what nobody may guess
	Log    *slog.Logger   // nil: discard
	Trace  *trace.Book    // nil: nobody is told what comes of messages
}

// DefaultGaps are the waits between attempts (RFC 5321, 4.5.4.1 asks for at least
// 30 minutes once the first hours are over; early tries get past greylisting).
func DefaultGaps() []time.Duration {
	return []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute,
		time.Hour, 2 * time.Hour, 4 * time.Hour}
}

func (o Options) filled() Options {
	if len(o.Gaps) == 0 {
		o.Gaps = DefaultGaps()
	}
	if o.Lifetime <= 0 {
		o.Lifetime = 5 * 24 * time.Hour
	}
	if o.DelayAfter == 0 {
		o.DelayAfter = 4 * time.Hour
	}
	if o.Workers <= 0 {
		o.Workers = 200
	}
	if o.PerDomain <= 0 {
		o.PerDomain = 20
	}
	if o.Grace <= 0 {
		o.Grace = 3 * time.Second
	}
	if o.Format == nil {
		o.Format = func() uint64 { return formOfOwner }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Queue is the queue. All methods may be called from many goroutines; Run from one.
type Queue struct {
	opt   Options
	eng   engine.Engine
	store *store.Store
	shard engine.Shard
	part  uint64        // its number
	front *Queue        // this node's own part, which answers for the queue as a whole
	seq   atomic.Uint64 // low bits of the next ID
	clock timekeeper
	swept int64 // when bounces were looked through; of ring

	longest atomic.Int64 // lifetime that rules have named, in nanoseconds

	shared   bool        // others change the shard, too
	follows  atomic.Bool // heads is told of what they change
	heads    heads
	arrivals committer // of messages
	own      committer // of those for which nobody's patience ends
	outcomes committer // of attempts

	mu       sync.Mutex
	flying   map[flight]bool
	landed   map[flight]bool  // since a look began; nil between looks
	shut     []string         // destinations that a look has found held by their schedules
	busy     map[string]int   // attempts under way, by lane
	paces    map[string]*pace // of destinations
	forgot   int64            // when some of them were last forgotten
	arriving map[ID]bool      // not to be touched before Enqueue has returned
	freed    chan struct{}    // ticks when an attempt ends
	jobs     sync.WaitGroup
	others   map[uint64]*Queue // parts, of the front
}

// flight is a group of recipients that a courier has at the moment.
type flight struct {
	id    ID
	group int
}

// New returns the queue that lies in eng and registers the bodies it refers to with
// the store's sweep. Nothing is sent before Run.
func New(eng engine.Engine, st *store.Store, opt Options) *Queue {
	q := newPart(eng, st, opt, opt.Part)
	st.AddReferrer(q.Blobs)
	return q
}

func newPart(eng engine.Engine, st *store.Store, opt Options, part uint64) *Queue {
	q := &Queue{
		opt: opt.filled(), eng: eng, store: st, shard: PartShard(part), part: part, others: map[uint64]*Queue{},
		flying: map[flight]bool{}, busy: map[string]int{}, paces: map[string]*pace{}, arriving: map[ID]bool{},
		freed: make(chan struct{}, 1),
	}
	q.arrivals.q, q.own.q, q.outcomes.q = q, q, q
	q.longest.Store(int64(q.opt.Lifetime))
	seq, _ := q.number() // any will do
	q.seq.Store(seq)
	q.front = q
	_, q.shared = eng.(engine.Shared)
	return q
}

// number returns a number that nobody can guess.
func (q *Queue) number() (uint64, error) {
	var b [8]byte
	_, err := io.ReadFull(q.opt.Random, b[:])
	return binary.BigEndian.Uint64(b[:]), err
}

// newID returns a number that rises with time and, short of two processes and bad
// luck, is new; Enqueue looks.
func (q *Queue) newID() ID {
	if q.opt.Parts != nil {
		return q.partID(uint64(q.now()))
	}
	return ID(uint64(q.now())<<20 | q.seq.Add(1)&(1<<20-1))
}

// tick makes Run look again.
func (q *Queue) tick() {
	select {
	case q.freed <- struct{}{}:
	default:
	}
}

// gap returns the wait after the n-th attempt, with up to a tenth of jitter either
// way, so that mail that failed together does not come back together.
func (q *Queue) gap(n int) int64 { return q.jittered(q.opt.gapAfter(n), q.opt.Rand()) }

func (q *Queue) jittered(gap time.Duration, chance float64) int64 {
	return int64(float64(gap.Milliseconds()) * (0.9 + 0.2*chance))
}

func (o *Options) gapAfter(n int) time.Duration { return o.Gaps[min(max(n, 1), len(o.Gaps))-1] }
