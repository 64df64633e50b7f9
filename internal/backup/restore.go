package backup

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
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
func (o *Opened) Whole(ctx context.Context, into engine.Engine, opt RestoreOptions) (Restored, error) {
	c := carrier{ctx: ctx, from: o, into: into, opt: opt, put: map[name]bool{}, done: Restored{Time: o.Info().Time}}
	var last []engine.Shard
	for i := range o.snap.shards {
		sh := &o.snap.shards[i]
		if _, ok := sh.account(); !ok {
			last = append(last, sh.Shard)
			continue
		}
		if err := c.shard(sh.Shard, c.write(sh.Shard)); err != nil {
			return c.done, err
		}
		c.done.Accounts++
		c.done.Messages += sh.Messages
		opt.progress(Progress{"accounts", int64(c.done.Accounts), int64(o.snap.end.Accounts), c.done.Bytes})
	}
	for _, sh := range []engine.Shard{store.QueueShard, store.RegistryShard, store.DirectoryShard} {
		if err := c.shard(sh, c.write(sh)); err != nil {
			return c.done, err
		}
	}
	for _, sh := range last {
		if sh != store.QueueShard && sh != store.RegistryShard && sh != store.DirectoryShard {
			return c.done, fault.Newf(fault.Unsupported, "the snapshot has a shard %d that this version does not know", sh)
		}
	}
	return c.done, ctx.Err()
}

// Depart sets a store and a directory that were brought back apart from what came after
// the snapshot and is lost.
func Depart(ctx context.Context, st *store.Store, d *directory.Directory) error {
	ids, err := st.Accounts(ctx)
	for _, id := range ids {
		if err != nil {
			return err
		}
		if err = st.Account(id).Depart(ctx); fault.Is(err, fault.NotFound) {
			err = nil // in the making, or being removed, when the snapshot was made
		}
	}
	if err != nil {
		return err
	}
	return d.Depart(ctx)
}

// carrier copies shards and the bodies that they need.
type carrier struct {
	ctx  context.Context
	from *Opened
	into engine.Engine
	opt  RestoreOptions
	put  map[name]bool // bodies that were dealt with
	done Restored
}

// shard copies the bodies of a shard, and gives its records to write, in order.
func (c *carrier) shard(sh engine.Shard, write func(key, value []byte) error) error {
	t, err := c.from.tree(sh)
	if err != nil {
		return err
	}
	for i := range t.chunks {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		got, err := c.from.chunks.get(t.chunks[i].name)
		if err != nil {
			return err
		}
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
	}
	return write(nil, nil)
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
