// Package node is what several processes that share an engine know of each other: who is
// there, who does what only one may do at a time, who is about to leave; and small files that
// all of them need, with locks.
//
// A node has a name, which stays, and a number that goes with it. While it runs it raises a
// counter in its record, its beat, every third of the lease. What only one node does at a time
// is a lease of its own name, held by one run of one node for as long as that node's beat goes
// on: no lease is renewed by itself. A node stops what it does under leases when its last beat
// began two thirds of a lease ago; another takes over when it has watched the beat stand still
// for a whole lease. Both measure by their own steady clocks: no time of day is compared with
// another, and none is relied on. What one could not read does not count as watched, so that
// after an outage of the engine nobody is taken over from before he had time to come back.
//
// A process that was frozen may go on before it looks at a clock. So each taking of a lease has
// a higher term: work under a lease is to keep the highest term it has seen where it writes
// (package queue does), and to refuse what comes with a lower one.
//
// On an engine that belongs to one process all is granted at once: nothing is written, and
// nothing is watched.
//
// The package opens no connection and knows nothing of mail. Everything lies in one shard.
package node

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Shard is where everything of this package lies.
const Shard engine.Shard = 7

// MaxNumber is the highest number of a node.
const MaxNumber = 4095

// Options sets up a Node. Name, Lease, Elapsed, Now and Random must be given.
type Options struct {
	Name    string        // that no other node has, and that stays: 1 to 63 letters, digits, dots, dashes
	Lease   time.Duration // how long a node may be silent before others take over from it
	Version string        // of the program, for people
	// Format is the newest form of stored records that this program knows. A node that knows
	// less than what is in force does not join, and one that runs ends.
	Format    uint64
	Addresses []string // where it listens, for people

	// Elapsed is how long the process has run by a clock that nobody sets and that goes on
	// while the machine sleeps.
	Elapsed func() time.Duration
	Now     func() time.Time // for people
	Random  io.Reader
	// Dead is a run of this node that has surely ended, as Run returned it: what it held can be
	// had at once. nil: none is known.
	Dead []byte
	Log  *slog.Logger // nil: discard
}

// Node is this process as one of several. All methods may be called from many goroutines; Run
// from one.
type Node struct {
	opt    Options
	eng    engine.Engine
	shared bool
	run    run

	mu       sync.Mutex
	number   uint64
	joined   bool
	begun    time.Duration // when the last beat that went well began; before the first: a lease ago
	format   uint64        // in force
	here     member        // this node, as it was read last
	members  map[string]member
	next     uint64 // number of the next node
	seen     map[string]sighting
	leases   map[string]lease
	changes  uint64        // how many there were of the shard when it was read last
	believed time.Duration // when that was taken over
	drained  chan struct{} // closed while this node drains
	looked   chan struct{} // closed, and made anew, after each look
	locks    map[string]*lock
	using    map[string]int // leases that are had or waited for here
}

// run names one run of a node.
type run [8]byte

// sighting is when a beat was seen first.
type sighting struct {
	run, owner run // of the node's record; of the lease, if it is another
	beat       uint64
	since      time.Duration
}

// Open looks who is there. Faults: Invalid (the name), Unsupported (the stored form is newer than
// this program), those of the engine.
func Open(ctx context.Context, eng engine.Engine, opt Options) (*Node, error) {
	if err := checkName(opt.Name); err != nil {
		return nil, err
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	_, shared := eng.(engine.Shared)
	n := &Node{
		opt: opt, eng: eng, shared: shared,
		members: map[string]member{}, seen: map[string]sighting{}, leases: map[string]lease{},
		drained: make(chan struct{}), looked: make(chan struct{}), locks: map[string]*lock{}, using: map[string]int{},
	}
	n.begun = opt.Elapsed() - opt.Lease
	if _, err := io.ReadFull(opt.Random, n.run[:]); err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	s, err := n.read(ctx)
	if err != nil {
		return nil, err
	}
	if err := n.knows(s.format); err != nil { // to such a program newer records look damaged
		return nil, err
	}
	if shared { // the one process of an engine is number 0, whoever had the store before
		n.number = s.members[opt.Name].number
	}
	n.format = n.inForce(s.format)
	n.members, n.next = s.members, s.next
	return n, nil
}

func checkName(name string) error {
	ok := len(name) >= 1 && len(name) <= 63 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == ""
	if !ok {
		return fault.Newf(fault.Invalid, "%q cannot be the name of a node: it has 1 to 63 letters, digits, dots, dashes and underscores", name)
	}
	return nil
}

// Shared tells whether other processes may work on the engine.
func (n *Node) Shared() bool { return n.shared }

// Name returns the node's name.
func (n *Node) Name() string { return n.opt.Name }

// Number returns the node's number, which goes with its name for ever; 0 until it first joins,
// and on an engine that is not shared.
func (n *Node) Number() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.number
}

// Numbers returns the numbers of all nodes there ever were, as they are now, in order, those
// of forgotten ones, too. 0 is always among them. A node is there before it does anything.
func (n *Node) Numbers(ctx context.Context) ([]uint64, error) {
	n.mu.Lock()
	known, next := n.members, n.next
	n.mu.Unlock()
	if n.shared {
		s, err := n.read(ctx)
		if err != nil {
			return nil, err
		}
		known, next = s.members, s.next
	}
	return numbers(known, next), nil
}

// KnownNumbers is Numbers as of the last look: it costs nothing.
func (n *Node) KnownNumbers() []uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return numbers(n.members, n.next)
}

// Format returns the newest form of stored records that may be written now: the newest that
// every node that lives can read.
func (n *Node) Format() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.format
}

// inForce returns what may be written where a form is on record. A process that has its engine
// alone writes what it knows.
func (n *Node) inForce(format uint64) uint64 {
	if n.shared && format > 0 {
		return min(format, n.opt.Format)
	}
	return n.opt.Format
}

// Settle puts the newest form that this program knows in force if none is yet: for whoever writes
// records of it, and is none of the nodes, where there may never have been one. Programs that
// cannot read them are then refused. What is in force beside nodes stays. Faults: those of the
// engine.
func (n *Node) Settle(ctx context.Context) error {
	if !n.shared {
		return nil
	}
	s, err := n.change(ctx, func(_ engine.Writer, s *snapshot) error {
		if s.format != 0 {
			return errSame
		}
		s.format = n.opt.Format
		return nil
	})
	if err == nil {
		n.saw(s)
	}
	return err
}

// Raise puts a form in force if it is newer than what is: for whoever has written records of it
// while no node is there, and none can come before this is done. Programs that cannot read them
// are then refused. Faults: those of the engine.
func Raise(ctx context.Context, eng engine.Engine, format uint64) error {
	return eng.Update(ctx, Shard, func(w engine.Writer) error {
		s, err := readAll(w)
		if err != nil || s.format >= format {
			return err
		}
		s.format = format
		s.changes++
		return w.Put([]byte{famView}, s.encode())
	})
}

// Identity returns what names this run, for Options.Dead of the next.
func (n *Node) Identity() []byte { return append([]byte(nil), n.run[:]...) }

// Looked returns a channel that is closed when the node has looked again who is there.
func (n *Node) Looked() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.looked
}

func (n *Node) isDead(r run) bool {
	return len(n.opt.Dead) == len(r) && r == run(n.opt.Dead)
}

// fresh returns for how long beats of this node still count; it may be below zero.
func (n *Node) fresh() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.begun + n.opt.Lease - n.opt.Elapsed()
}

// runOf reads the name of a run.
func runOf(b []byte) (r run) {
	copy(r[:], b)
	return r
}
