// Package postgres is the engine of many machines: shards in one table of PostgreSQL, on
// which any number of nodes (processes) work at once.
//
// A node keeps of each shard in use what it knows of its records, and the identity of the
// state in which it knew it: a number that each commit raises, and a token that each commit
// draws. A commit writes only if the shard is still as it was when its function read it, so
// it needs no lock, no reading before, and one round trip; who comes too late runs again. A
// View asks for the identity, and reads from memory what has not changed. Identities never
// come back, not even after a failover that lost commits, so what a node remembers cannot
// lie.
//
// The package knows nothing of mail, replicates nothing and elects nobody: that is
// PostgreSQL's part, and that of those who run it.
package postgres

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Options configure Open. URL and Rand must be given.
type Options struct {
	URL         string           // how PostgreSQL is reached, as libpq has it; of several hosts the one that takes writes
	Connections int              // to each database at the most; 0 is 16
	CacheBytes  int64            // of records in memory, over all shards; 0 is 32 MB
	Patience    time.Duration    // how long calls wait for a database that cannot be reached; 0 is a minute
	Node        string           // the name of this process beside others
	Run         string           // a word drawn by who may shut the databases for others, and come where others did; "": none
	Brief       bool             // it ends soon, and goes on with nothing that others have begun
	Objects     Objects          // where large bodies lie; nil: in the database
	Over        int64            // bodies with more bytes than this are large; 0 is 64 KB
	Log         *slog.Logger     // nil discards
	Now         func() time.Time // of the times of blobs; nil is the database's clock, which is the same for all nodes
	Rand        io.Reader        // of tokens; must not repeat itself

	statement time.Duration      // after which one that got no answer is given up; 0 is 5 seconds
	hold      time.Duration      // after which the server ends a transaction that holds rows and goes on with nothing; 0 is 5 seconds
	poll      time.Duration      // between two looks at shards that somebody watches; 0 is 2 seconds
	beat      time.Duration      // between two signs of life of one who moves a shard; 0 is a second
	tend      time.Duration      // between two looks at groups and moves; 0 is 5 seconds
	eachStep  func(string) error // of a move: tests end it there
	gather    time.Duration      // of hints before they are sent; 0 is 3 milliseconds
	without   without
}

// without are mechanisms that tests switch off, to see that they are needed.
type without struct {
	guard  bool // commits whatever the shard's identity
	token  bool // takes a shard with the same version for the same
	fence  bool // takes a commit for lost as soon as it is not seen
	hints  bool // tells and hears nothing
	poll   bool
	recent bool // forgets all of a shard that another has changed
	row    bool // never locks a shard's row
	limit  bool // on the memory of records
	trim   bool // forgets shards as a whole
	surety bool // believes a primary that confirms no commit
	graze  bool // asks a server that refuses commits for no other
	freeze bool // moves shards without telling those who write
	ending bool // shuts a database and ends no connection

	uploads   bool // objects are named by their blob alone
	orphanAge bool // orphans of any age are removed
	rowFirst  bool // the row of a blob comes before its bytes
	young     bool // a Put of what is there does not make it young

	foresight bool // reads keys when they are asked for
	order     bool // takes the rows of several shards in any order, and waits for those that others hold
}

func (o Options) withDefaults() Options {
	o.Connections = cmp.Or(o.Connections, 16)
	o.CacheBytes = cmp.Or(o.CacheBytes, 32<<20)
	o.Patience = cmp.Or(o.Patience, time.Minute)
	o.Over = cmp.Or(o.Over, 64<<10)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.statement = cmp.Or(o.statement, 5*time.Second)
	o.hold = cmp.Or(o.hold, 5*time.Second)
	o.poll = cmp.Or(o.poll, 2*time.Second)
	o.gather = cmp.Or(o.gather, 3*time.Millisecond)
	o.beat = cmp.Or(o.beat, time.Second)
	o.tend = cmp.Or(o.tend, 5*time.Second)
	return o
}

// Objects keeps large bodies outside the database. Keys are made by this package: letters,
// digits, "-" and "/". Faults: NotFound, Unavailable.
type Objects interface {
	Put(ctx context.Context, key string, size int64, r io.Reader) error
	// Open returns n bytes of an object from off on; n < 0 means to the end.
	Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)
	Remove(ctx context.Context, key string) error
	// List yields the objects whose keys begin with prefix, with the time at which the
	// store says that they were put.
	List(ctx context.Context, prefix string, fn func(key string, at time.Time, size int64) bool) error
}

// Engine is an engine.Engine on PostgreSQL.
type Engine struct {
	opt   Options
	stats Stats
	gate  gate
	router
	blobs *blobs
}

var _ engine.Shared = (*Engine)(nil)

// Open opens the engine, and makes its tables where there are none. Faults: Unavailable if
// no database can be reached in time, Unsupported if it was written by another version,
// Invalid if the address is none.
func Open(ctx context.Context, opt Options) (*Engine, error) {
	e := &Engine{opt: opt.withDefaults()}
	if err := e.openRouter(ctx); err != nil {
		return nil, err
	}
	e.blobs = newBlobs(e)
	return e, nil
}

// View runs fn on a snapshot of the shard, which nobody had changed when View was called.
// It may run fn again.
func (e *Engine) View(ctx context.Context, id engine.Shard, fn func(engine.Reader) error) error {
	if err := e.gate.enter(); err != nil {
		return err
	}
	defer e.gate.leave()
	return known(e.view(ctx, id, fn))
}

// Update runs fn and commits what it wrote if nobody has changed the shard meanwhile, else
// it runs fn again.
func (e *Engine) Update(ctx context.Context, id engine.Shard, fn func(engine.Writer) error) error {
	if err := e.gate.enter(); err != nil {
		return err
	}
	defer e.gate.leave()
	return known(e.update(ctx, id, fn))
}

// known gives an error of this package its kind. What an outcome is unknown for comes first: an
// error of any other kind says that nothing was written.
func known(err error) error {
	switch {
	case fault.Is(err, fault.Unknown):
		return err
	case errors.Is(err, errMoved):
		return fault.Wrap(fault.Unavailable, "the account is being moved", err)
	case fault.Is(err, fault.Unavailable):
		return err // which says why
	case errors.Is(err, errAgain), errors.Is(err, errUnsent), errors.Is(err, errReach), errors.Is(err, errBroken):
		return fault.Wrap(fault.Unavailable, "the database cannot be reached", err)
	}
	return err
}

// Watch returns a channel that ticks after each durable change of the shard.
func (e *Engine) Watch(id engine.Shard) (<-chan struct{}, func()) { return e.watch(id) }

// Foreign has fn called when another node has changed the shard.
func (e *Engine) Foreign(id engine.Shard, fn func()) (stop func()) {
	return e.foreign(id, fn)
}

// Shards returns the shards that have a record, in order.
func (e *Engine) Shards(ctx context.Context) ([]engine.Shard, error) {
	if err := e.gate.enter(); err != nil {
		return nil, err
	}
	defer e.gate.leave()
	return e.list(ctx)
}

// Stats returns the counters, which go on counting.
func (e *Engine) Stats() *Stats { return &e.stats }

// Size returns about how many bytes the database occupies, or 0 if it does not say.
func (e *Engine) Size() int64 {
	if e.gate.enter() != nil {
		return 0
	}
	defer e.gate.leave()
	return e.size()
}

// Close waits for calls under way and ends all connections.
func (e *Engine) Close() error {
	if e.gate.close() {
		e.closeRouter()
	}
	return nil
}

// Healthy returns nil, or why the database cannot be used now.
func (e *Engine) Healthy() error {
	p := e.member(0).pool
	if down := p.down.Load(); down != nil {
		if closed := shutFault(*down); closed != nil {
			return closed
		}
		return fault.Wrap(fault.Unavailable, p.trouble(), *down)
	}
	return nil
}

// Failed returns a channel that is never closed: a database comes back.
func (e *Engine) Failed() <-chan struct{} { return nil }

// ReadFailures returns how many reads the database could not carry out since its files are
// damaged.
func (e *Engine) ReadFailures() int64 { return e.stats.unread.Load() }

// CheckFiles has nothing to do: the files are PostgreSQL's.
func (e *Engine) CheckFiles(context.Context, func(file, what string)) error { return nil }
