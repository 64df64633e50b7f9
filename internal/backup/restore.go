package backup

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/record"
	"github.com/martlet-mail/martlet/internal/store"
)

// Restored is what a restore has done, or, if that was only asked, would do.
type Restored struct {
	Time      time.Time // of the snapshot
	Accounts  int       // made again
	Mailboxes int       // made
	Messages  int64     // brought back
	Present   int64     // that were there already
	Failed    int64     // that could not be read from the backup, or not be put
	Bytes     int64
}

// RestoreOptions are how something is brought back.
type RestoreOptions struct {
	Progress func(Progress) // may be nil
	Problem  func(Problem)  // may be nil: something could not be brought back
}

func (o RestoreOptions) progress(p Progress) {
	if o.Progress != nil {
		o.Progress(p)
	}
}

func (o RestoreOptions) problem(what string) {
	if o.Problem != nil {
		o.Problem(Problem{"", what})
	}
}

// Whole brings everything back into an engine that holds nothing yet. The directory comes
// last. What the snapshot was made of goes on in a way of its own: Depart is to be called
// of all accounts and of the directory before anybody uses it.
//
// What is damaged is told of and left out, and counts as Failed; all else comes back, records
// that were damaged when they were saved as they are, but for the directory, whose records are
// brought into accord. Only without the whole directory nothing does: numbers of accounts that
// it names would be given to others. Faults: Corrupt.
func (o *Opened) Whole(ctx context.Context, into engine.Engine, opt RestoreOptions) (Restored, error) {
	c := carrier{ctx: ctx, from: o, into: into, opt: opt, put: map[name]bool{}, spoilt: map[engine.Shard]int{}, done: Restored{Time: o.Info().Time}}
	if err := o.readDirectory(ctx); err != nil {
		return c.done, err
	}
	var ids []mail.AccountID
	var last []engine.Shard
	for i := range o.snap.shards {
		sh := &o.snap.shards[i]
		id, ok := sh.account()
		if !ok {
			last = append(last, sh.Shard)
			continue
		}
		if err := c.shard(sh.Shard, c.write(sh.Shard), c.damaged); err != nil {
			return c.done, err
		}
		ids = append(ids, id)
		c.done.Accounts++
		c.done.Messages += sh.Messages
		opt.progress(Progress{"accounts", int64(c.done.Accounts), int64(o.snap.end.Accounts), c.done.Bytes})
	}
	for _, sh := range serversOwn(last) {
		if err := c.shard(sh, c.write(sh), c.damaged); err != nil {
			return c.done, err
		}
	}
	for _, sh := range last {
		if !known(sh) {
			return c.done, fault.Newf(fault.Unsupported, "the snapshot has a shard %d that this version does not know", sh)
		}
	}
	if err := c.register(ids); err != nil {
		return c.done, err
	}
	if c.spoilt[store.DirectoryShard] > 0 {
		if err := c.mendDirectory(ids); err != nil {
			return c.done, err
		}
	}
	return c.done, ctx.Err()
}

// serversOwn are the shards that are no account's, in the order in which they are brought back: what
// others need comes last.
func serversOwn(there []engine.Shard) (order []engine.Shard) {
	for _, sh := range there {
		if _, part := queue.PartOf(sh); part && sh != store.QueueShard || sh == nodesShard {
			order = append(order, sh)
		}
	}
	return append(order, store.QueueShard, linksShard, store.RegistryShard, store.DirectoryShard)
}

// known tells whether a shard that is no account's is one of those.
func known(sh engine.Shard) bool { return slices.Contains(serversOwn([]engine.Shard{sh}), sh) }

// readDirectory looks whether the directory can be read to its end.
func (o *Opened) readDirectory(ctx context.Context) error {
	err := o.View(ctx, store.DirectoryShard, func(r engine.Reader) error {
		return r.Scan(nil, nil, false, func(_, _ []byte) bool { return true })
	})
	if fault.Is(err, fault.Corrupt) {
		err = fault.Wrap(fault.Corrupt, "the list of accounts in the snapshot of "+o.Info().Time.Format(time.RFC3339)+" is damaged; restore an earlier one with --at", err)
	}
	return err
}

// register notes of all accounts that they have data, in case the note itself was damaged:
// without it their bodies would be swept.
func (c *carrier) register(ids []mail.AccountID) error {
	write := c.write(store.RegistryShard)
	for _, id := range ids {
		if err := write(store.RegistryEntry(id)); err != nil {
			return err
		}
	}
	return write(nil, nil)
}

// damaged tells of a part of a shard that cannot be read. The rest comes back.
func (c *carrier) damaged(sh engine.Shard, err error) error {
	c.done.Failed++
	what := "records of the server"
	switch id, ok := (&snapShard{Shard: sh}).account(); {
	case ok:
		what = "a part of the account " + c.from.nameOf(c.ctx, id) + " (messages, or what is known of them)"
	case sh != store.DirectoryShard && sh != store.RegistryShard:
		what = "a part of " + nameOf(sh)
	}
	c.opt.problem(what + " is damaged in the backup and does not come back: " + fault.Say(err))
	return nil
}

// nameOf returns the address of an account, its number if that cannot be read.
func (o *Opened) nameOf(ctx context.Context, id mail.AccountID) string {
	then := func() time.Time { return o.Info().Time }
	p, err := House{Now: then, Rand: zeros{}}.past(ctx, o)
	if err == nil {
		defer p.close()
		if a, err := p.directory.AccountByID(ctx, id); err == nil {
			return a.Address.String()
		}
	}
	return strconv.FormatUint(uint64(id), 10)
}

// zeros are for one who reads a directory only: nothing secret is made.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// carrier copies shards and the bodies that they need.
type carrier struct {
	ctx  context.Context
	from *Opened
	into engine.Engine
	opt  RestoreOptions
	put  map[name]bool // bodies that were dealt with
	done Restored

	spoilt map[engine.Shard]int // records that were damaged when they were saved; nil: nobody asks
}

// shard copies the bodies of a shard, and gives its records to write, in order. damaged is
// asked of each part that cannot be read whether to go on; nil: no.
func (c *carrier) shard(sh engine.Shard, write func(key, value []byte) error, damaged func(engine.Shard, error) error) error {
	spoilt := func(err error) error {
		if damaged != nil && fault.Is(err, fault.Corrupt) {
			err = damaged(sh, err)
		}
		return err
	}
	t, err := c.from.tree(sh)
	if err != nil {
		return spoilt(err)
	}
	if c.spoilt != nil {
		seals := record.Checker{Sealing: sealingOf(sh), Spoilt: func([]byte) { c.spoilt[sh]++ }}
		into := write
		write = func(key, value []byte) error {
			if key != nil {
				seals.Add(key, value)
			}
			return into(key, value)
		}
		defer func() {
			seals.End()
			c.tellSpoilt(sh)
		}()
	}
	for i := range t.chunks {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		got, err := c.from.chunks.get(t.chunks[i].name)
		if err == nil {
			err = c.records(got, write)
		} else {
			err = spoilt(err)
		}
		if err != nil {
			return err
		}
	}
	return write(nil, nil)
}

// records copies one chunk.
func (c *carrier) records(got *loaded, write func(key, value []byte) error) error {
	for _, b := range got.bodies {
		if err := c.body(b); err != nil {
			return err
		}
	}
	for _, e := range got.entries {
		if err := write(e.key, e.value); err != nil {
			return err
		}
		c.done.Bytes += int64(len(e.key) + len(e.value))
	}
	return nil
}

// body copies one body, after what it needs. One that the backup lacks is told of: the
// other mail comes back without it.
func (c *carrier) body(b name) error {
	if c.put[b] {
		return nil
	}
	c.put[b] = true
	needs := c.from.repo.needs[b]
	for _, n := range needs {
		if err := c.body(n); err != nil {
			return err
		}
	}
	s, ok := c.from.repo.index[object{kindBody, b}]
	if !ok {
		c.done.Failed++
		c.opt.problem(fault.Say(missing(object{kindBody, b})))
		return nil
	}
	r, err := c.from.Blobs().Open(c.ctx, b, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	c.done.Bytes += s.size
	err = c.into.Blobs().Put(c.ctx, b, s.size, r, needs...)
	if fault.Is(err, fault.Corrupt) {
		c.done.Failed++
		c.opt.problem("the body " + b.String() + ": " + fault.Say(err))
		return nil
	}
	return err
}

// writeBytes is how much one Update writes.
const writeBytes = 4 << 20

// write returns what writes records into a shard; a nil key ends it.
func (c *carrier) write(sh engine.Shard) func(key, value []byte) error {
	var list []entry
	size := 0
	return func(key, value []byte) error {
		if key != nil {
			list = append(list, entry{key, value})
			if size += len(key) + len(value); size < writeBytes {
				return nil
			}
		}
		err := c.into.Update(c.ctx, sh, func(w engine.Writer) error {
			for _, e := range list {
				if err := w.Put(e.key, e.value); err != nil {
					return err
				}
			}
			return nil
		})
		list, size = nil, 0
		return err
	}
}

// past is a snapshot as the record layer and the directory read it.
type past struct {
	*Opened
	store     *store.Store
	directory *directory.Directory
}

func (h House) past(ctx context.Context, o *Opened) (*past, error) {
	st, err := store.Open(o, store.Options{Now: h.Now})
	if err != nil {
		return nil, err
	}
	d, err := directory.Open(ctx, o, st, directory.Options{Now: h.Now, Rand: h.Rand})
	if err != nil {
		st.Close()
		return nil, err
	}
	return &past{o, st, d}, nil
}

func (p *past) close() {
	p.directory.Close()
	p.store.Close()
}

// account returns the account of an address as of then.
func (p *past) account(ctx context.Context, addr mail.Address) (*store.Account, error) {
	a, err := p.directory.Lookup(ctx, addr)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.Newf(fault.NotFound, "the snapshot of %s has no account %s", p.Info().Time.Format("2006-01-02 15:04:05 MST"), addr)
	}
	if err != nil {
		return nil, err
	}
	return p.store.Account(a.ID), nil
}
