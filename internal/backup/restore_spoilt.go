package backup

import (
	"context"
	"fmt"
	"strings"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/record"
	"github.com/martlet-mail/martlet/internal/store"
)

// What a restore of everything does with records that were damaged when they were saved.

func sealingOf(sh engine.Shard) func(key, value []byte) record.Sealing {
	if _, ok := (&snapShard{Shard: sh}).account(); ok {
		return store.Sealing
	}
	if _, ok := queue.PartOf(sh); ok {
		return queue.Sealing
	}
	return nil
}

// tellSpoilt tells of the damaged records of a shard.
func (c *carrier) tellSpoilt(sh engine.Shard) {
	n := c.spoilt[sh]
	if n == 0 || sh == store.DirectoryShard { // of each of those is told when it is mended
		return
	}
	where := nameOf(sh)
	if id, ok := (&snapShard{Shard: sh}).account(); ok {
		where = "the account " + c.from.nameOf(c.ctx, id)
	}
	what := fmt.Sprintf("%d records of %s were damaged when they were saved, and are", n, where)
	if n == 1 {
		what = "a record of " + where + " was damaged when it was saved, and is"
	}
	c.done.Failed++
	c.opt.problem(what + " as before; run: martlet verify --repair")
}

// mendDirectory brings the directory into accord: with a damaged record of its own it
// could not be opened.
func (c *carrier) mendDirectory(data []mail.AccountID) error {
	return directory.Repair(c.ctx, c.into, data, nil, c.done.Time, func(m directory.Mended) {
		c.done.Failed++
		c.opt.problem("the directory, " + m.Address + ": " + m.What)
	})
}

// Depart sets a store and a directory that were brought back, and that nobody else uses, apart
// from what came after the snapshot and is lost. An account of which that cannot be done, as
// records of it are damaged or did not come back, is mended first: its numbers would be given
// out again. It returns how often something was told of.
func Depart(ctx context.Context, st *store.Store, d *directory.Directory, opt RestoreOptions) (failed int64, err error) {
	ids, err := st.Accounts(ctx)
	if err != nil {
		return 0, err
	}
	opt.Problem = counting(opt.Problem, &failed)
	for _, id := range ids {
		err := st.Account(id).Depart(ctx)
		if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Corrupt) {
			err = departMended(ctx, st.Account(id), id, d, err, opt)
		}
		if err != nil {
			return failed, err
		}
	}
	return failed, d.Depart(ctx)
}

func counting(tell func(Problem), n *int64) func(Problem) {
	return func(p Problem) {
		*n++
		if tell != nil {
			tell(p)
		}
	}
}

func departMended(ctx context.Context, a *store.Account, id mail.AccountID, d *directory.Directory, why error, opt RestoreOptions) error {
	of := fmt.Sprintf("account %d", id)
	who, err := d.AccountByID(ctx, id)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil // in the making, or being removed, when the snapshot was made
	case err == nil:
		of = who.Address.String()
	case !fault.Is(err, fault.Corrupt):
		return err
	}
	opt.problem(of + " cannot be opened, and is mended: " + fault.Say(why))
	err = a.Repair(ctx, func(m store.Mended) {
		opt.problem(mendedIn(of, m))
	})
	if err == nil {
		err = a.Depart(ctx)
	}
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Corrupt) {
		opt.problem(of + " cannot be mended: " + fault.Say(err))
		err = nil
	}
	return err
}

// mendedIn says what was mended in an account.
func mendedIn(of string, m store.Mended) string {
	if m.Mailbox != "" {
		of = strings.TrimPrefix(of+", "+m.Mailbox, ", ")
	}
	if m.UID != 0 {
		of += fmt.Sprintf(", UID %d", m.UID)
	}
	return strings.TrimPrefix(of+": "+m.What, ": ")
}
