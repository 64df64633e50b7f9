// Package directory knows who exists: domains with their settings and the keys that sign
// their mail, accounts with their passwords, aliases, catch-alls, and where an address leads.
//
// Its records lie in one shard of the engine and are changed one by one, by this
// process or another; lookups are answered from memory and see every change made
// through this process as soon as the call that made it has returned. Passwords are
// kept as argon2id hashes and as SCRAM keys, never in the plain.
//
// The package delivers nothing, holds no mail (the store does) and speaks no
// protocol. Whether a domain's DNS points here is not its question.
//
// RFC 5321, 4.5.1 (postmaster), RFC 5233 (detail), RFC 5890 to 5895 (a domain in
// letters and in A-labels is one), RFC 9106 (argon2id), RFC 5802 (SCRAM keys), RFC 6376, 8301
// and 8463 (which keys sign).
package directory

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// Data makes and removes the mailboxes of accounts. *store.Store is one. What makes and
// removes them may be repeated after any failure.
type Data interface {
	// Provided returns a context in which they do nothing once it is too late: meant is asked,
	// when they have seen what is there, whether it is still to be done, and still at the end
	// of each change. With a birth, which is not 0, what they find is the account's own only if
	// it was made with the same.
	Provided(ctx context.Context, birth uint64, meant func(context.Context) error, still func() error) context.Context
	// CreateAccount fails with Exists if what is there is not the account's own; DeleteAccount
	// leaves that.
	CreateAccount(ctx context.Context, id mail.AccountID, quota store.Quota) error
	DeleteAccount(ctx context.Context, id mail.AccountID) error
}

// Options of Open. Now and Rand must be given; zero is a good choice of the rest for a small
// server.
type Options struct {
	// DetailSeparator ends the part of a local part that names the account: "+", or
	// "" for none.
	DetailSeparator string
	// Postmaster is who gets mail for postmaster where no such address exists; zero is
	// the first account.
	Postmaster mail.Address

	// Costs of what is kept of a password. An account that has others gets these when
	// somebody next logs in to it with the password itself (PLAIN, LOGIN, PASS).
	Argon           Argon // zero is 19 MiB, 2 passes (RFC 9106, OWASP)
	ScramIterations int   // 0: 10,000

	PasswordMemory int64 // bytes that all hashing at one time may use; 0: 128 MiB

	FailuresPerAccount int           // 0: 20
	FailuresPerAddress int           // per IPv4 address or IPv6 /64; 0: 40
	Forgive            time.Duration // after which one failure is forgotten; 0: 30 s
	// RememberFor is how long a password that was right is known again without argon2;
	// 0: 10 minutes, less than 0: never.
	RememberFor time.Duration

	// KeepForeign keeps hashes that other servers made as they are, for ever; else ours take
	// their place at the first login with the password.
	KeepForeign bool
	Scram       Scram // when SCRAM is offered

	// Former is asked about passwords of accounts that wait for their first login; nil: they
	// wait for ever.
	Former Former

	// Tokens checks access tokens; nil: none is taken.
	Tokens Tokens
	// CertificateNames maps the subjects of clients' certificates, as RFC 2253 writes
	// them, to addresses of accounts. A certificate that is not in it stands for the
	// addresses in it.
	CertificateNames map[string]string

	// KeepKeys is how long a key that signs no more stays published: longer than a message
	// waits in queues, here and elsewhere; 0: 14 days.
	KeepKeys time.Duration

	// Alone waits until no other node does what is named, and keeps them from it until release
	// is called or still, which costs nothing, is false: then this node was silent for too
	// long. nil: no other process makes or removes accounts.
	Alone func(ctx context.Context, what string) (still func() bool, release func(), err error)

	// Format is the newest form of stored records that all nodes can read; nil: that of this
	// program.
	Format func() uint64

	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error // nil: a timer
	Rand  io.Reader                                        // of what nobody may guess: salts, secrets, keys
	Log   *slog.Logger                                     // nil: discard
}

func (o Options) withDefaults() Options {
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Argon == (Argon{}) {
		o.Argon = Argon{MemoryKiB: 19 << 10, Passes: 2, Lanes: 1}
	}
	o.PasswordMemory = or(o.PasswordMemory, 128<<20)
	o.ScramIterations = or(o.ScramIterations, 10_000)
	o.FailuresPerAccount = or(o.FailuresPerAccount, 20)
	o.FailuresPerAddress = or(o.FailuresPerAddress, 40)
	o.Forgive = or(o.Forgive, 30*time.Second)
	o.RememberFor = or(o.RememberFor, 10*time.Minute)
	o.KeepKeys = or(o.KeepKeys, 14*24*time.Hour)
	return o
}

func or[T int | int64 | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Directory answers for all domains and accounts of one engine. All methods may be
// called from many goroutines.
type Directory struct {
	eng  engine.Engine
	data Data
	opt  Options

	cache  cache
	hashes *hasher
	known  *rememberer
	slow   *brake

	flights flights // logins that a former server is asked about

	shared engine.Shared // eng, if other processes change the directory too; else nil
	secret []byte        // from the meta record: salts of logins that do not exist
	stop   func()

	// One at a time: making an account has steps that must not cross. Those of other
	// processes are kept apart by Options.Alone.
	accounts sync.Mutex
	making   sync.Mutex // of signing keys
}

const shard = store.DirectoryShard

// Open reads the directory of an engine, making an empty one if there is none, and
// finishes removals that were cut short. The caller keeps the engine and closes it
// after the directory.
func Open(ctx context.Context, eng engine.Engine, data Data, opt Options) (*Directory, error) {
	opt = opt.withDefaults()
	d := &Directory{eng: eng, data: data, opt: opt}
	if err := d.readMeta(ctx); err != nil {
		return nil, err
	}
	var err error
	if d.hashes, err = newHasher(opt); err != nil {
		return nil, err
	}
	if d.known, err = newRememberer(opt); err != nil {
		return nil, err
	}
	d.slow = newBrake(opt)
	d.cache.ticks, d.stop = eng.Watch(shard)
	d.listen()
	if err := d.finishRemovals(ctx); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

// Close ends the watch on the directory's shard.
func (d *Directory) Close() { d.stop() }

// listen has the engine tell of what other processes change, before it shows it.
func (d *Directory) listen() {
	shared, ok := d.eng.(engine.Shared)
	if !ok {
		return
	}
	d.slow.shared = shared
	watch, foreign := d.stop, shared.Foreign(shard, func() { d.cache.clear() })
	d.shared, d.stop = shared, func() { foreign(); watch() }
}

// prove looks at the directory where other processes may have changed it: what is cached then
// is true as of now. Elsewhere it is anyhow. It is for who must not go by what was true a
// moment ago, such as logins.
func (d *Directory) prove(ctx context.Context) error {
	if d.shared == nil {
		return nil
	}
	return d.eng.View(ctx, shard, func(engine.Reader) error { return nil })
}

// alone keeps the steps of making and removing accounts apart, here and on other nodes.
// Updates in the context that it returns are refused once another node may be at it.
func (d *Directory) alone(ctx context.Context) (within context.Context, release func(), err error) {
	d.accounts.Lock()
	if d.shared == nil || d.opt.Alone == nil {
		return ctx, d.accounts.Unlock, nil
	}
	still, free, err := d.opt.Alone(ctx, "directory/accounts")
	if err != nil {
		d.accounts.Unlock()
		return nil, nil, err
	}
	return context.WithValue(ctx, stillKey{}, still), func() { free(); d.accounts.Unlock() }, nil
}

// stillKey is of what tells whether steps that are kept apart still are.
type stillKey struct{}

// mustBeAlone is for the moment of a change: a process may be frozen at any other.
func mustBeAlone(ctx context.Context) error {
	if still, ok := ctx.Value(stillKey{}).(func() bool); ok && !still() {
		return fault.New(fault.Busy, "this server was silent for too long, and another may be at work on accounts; try again")
	}
	return nil
}

// provided is for what the store is to do of a step of making or removing an account.
func (d *Directory) provided(ctx context.Context, birth uint64, meant func(engine.Reader) error) context.Context {
	return d.data.Provided(ctx, birth, func(ctx context.Context) error { return d.eng.View(ctx, shard, meant) },
		func() error { return mustBeAlone(ctx) })
}

// readMeta finds the directory's secret, or makes one.
func (d *Directory) readMeta(ctx context.Context) error {
	fresh := make([]byte, 32)
	if _, err := io.ReadFull(d.opt.Rand, fresh); err != nil {
		return fault.Wrap(fault.Internal, "", err)
	}
	return d.eng.Update(ctx, shard, func(w engine.Writer) error {
		m, err := getMeta(w)
		if err != nil {
			return err
		}
		if len(m.secret) == 0 {
			m.secret = fresh
			if err := w.Put(metaKey(), m.encode()); err != nil {
				return err
			}
		}
		d.secret = append([]byte(nil), m.secret...)
		return nil
	})
}

// update changes the directory and forgets what is cached of it.
func (d *Directory) update(ctx context.Context, fn func(engine.Writer) error) error {
	err := d.eng.Update(ctx, shard, func(w engine.Writer) error {
		if err := fn(w); err != nil {
			return err
		}
		return mustBeAlone(ctx) // after fn has read: whatever changes from now on makes the commit fail
	})
	d.cache.clear() // whatever the outcome: it may be unknown
	return err
}
