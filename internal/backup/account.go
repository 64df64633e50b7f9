package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// AccountOptions are how an account, or a mailbox of it, is brought back.
type AccountOptions struct {
	RestoreOptions
	Mailbox string // only this one; "": all
	To      string // name of the mailbox that Mailbox's messages go to; "": its own
	Merge   bool   // into the mailboxes that they lay in, and not below Tree
	Plan    bool   // only tell
	// Mailboxes, if not nil, is told what is done with each mailbox.
	Each func(from, to string, missing, present int64)
}

// TreeOf is the mailbox below which the mailboxes of an account come back that is still
// there.
func TreeOf(t time.Time) string { return "Restored " + t.UTC().Format("2006-01-02 15.04.05") }

// RestoreAccount brings the mail of an account back from the repository in dir, as of a time
// (zero: the newest snapshot). Nothing that is there is removed or changed.
//
// An account that is there gets the messages that it does not have any more: those of which
// it has no copy, byte for byte, outside its trash and its deleted mail. They come into mailboxes below TreeOf,
// with Merge or Mailbox into those that they lay in. An account that is gone is made again
// as it was, with its password, UIDs and all else; on another server, or if its number has
// been given to another, as a new one with its mail.
//
// After a failure, and at any time, the call may be repeated: what has come back is there.
func (h House) RestoreAccount(ctx context.Context, dir string, at time.Time, addr mail.Address, opt AccountOptions) (Restored, error) {
	o, err := Open(h.Disk, dir, at)
	if err != nil {
		return Restored{}, err
	}
	defer o.Close()
	p, err := h.past(ctx, o)
	if err != nil {
		return Restored{}, err
	}
	defer p.close()
	was, err := p.account(ctx, addr)
	if err != nil {
		return Restored{}, err
	}
	release, err := h.Store.HoldBodies(ctx)
	if err != nil {
		return Restored{}, err
	}
	defer release()
	a := returning{house: h, past: p, was: was, opt: opt, done: Restored{Time: o.Info().Time}}
	now, err := h.Directory.Lookup(ctx, addr)
	switch {
	case fault.Is(err, fault.NotFound) && opt.Mailbox != "":
		return Restored{}, fault.Newf(fault.NotFound, "there is no account %s now; restore all of it first, without --mailbox", addr)
	case fault.Is(err, fault.NotFound):
		return a.again(ctx, addr)
	case err != nil:
		return Restored{}, err
	}
	a.now = h.Store.Account(now.ID)
	return a.missing(ctx)
}

// returning is an account that is brought back.
type returning struct {
	house House
	past  *past
	was   *store.Account
	now   *store.Account // nil as long as there is none
	opt   AccountOptions
	done  Restored

	have  inventory
	seen  map[mail.MessageID]bool   // of then that are there, by their ids of then
	fresh map[mail.MessageID]spotOf // what has come back, by its id of then
}

// spotOf is where a message is now.
type spotOf struct {
	box mail.MailboxID
	uid mail.UID
}

// again makes an account that is no more.
func (a *returning) again(ctx context.Context, addr mail.Address) (Restored, error) {
	if a.opt.Plan {
		return a.all(ctx)
	}
	anew := false
	made, err := a.house.Directory.Adopt(ctx, a.past.directory, addr, func(ctx context.Context, was, id mail.AccountID, same bool) error {
		if same {
			return a.asItWas(ctx, id)
		}
		anew = true
		return a.asNew(ctx, id)
	})
	if err != nil {
		return a.done, err
	}
	a.done.Accounts = 1
	if !anew {
		return a.done, nil
	}
	a.now = a.house.Store.Account(made.ID)
	a.opt.Merge = true
	return a.missing(ctx)
}

// asItWas brings the records themselves back.
func (a *returning) asItWas(ctx context.Context, id mail.AccountID) error {
	c := carrier{ctx: ctx, from: a.past.Opened, into: a.house.Engine, opt: a.opt.RestoreOptions, put: map[name]bool{}, spoilt: map[engine.Shard]int{}}
	err := a.house.Store.Adopt(ctx, id, func(put func(key, value []byte) error) error {
		return c.shard(store.ShardOf(id), func(key, value []byte) error {
			if key == nil {
				return nil
			}
			return put(key, value)
		}, nil)
	}, func(m store.Mended) {
		c.done.Failed++
		c.opt.problem(mendedIn("", m))
	})
	if err != nil {
		return err
	}
	counts, err := a.all(ctx)
	if fault.Is(err, fault.Corrupt) {
		a.was = a.house.Store.Account(id) // it is mended, and whole
		counts, err = a.all(ctx)
	}
	counts.Bytes, counts.Failed = c.done.Bytes, c.done.Failed
	a.done = counts
	return err
}

// asNew makes an account with the allowance of the old one.
func (a *returning) asNew(ctx context.Context, id mail.AccountID) error {
	var quota store.Quota
	err := a.was.View(ctx, func(s *store.Snapshot) error {
		quota, _ = s.Quota()
		return nil
	})
	if err != nil {
		return err
	}
	return a.house.Store.CreateAccount(ctx, id, quota)
}

// all counts what comes back of an account that is no more.
func (a *returning) all(ctx context.Context) (Restored, error) {
	done := Restored{Time: a.done.Time, Accounts: 1}
	err := a.was.View(ctx, func(s *store.Snapshot) error {
		boxes, err := s.Mailboxes()
		for _, m := range boxes {
			done.Mailboxes++
			done.Messages += int64(m.Messages)
			a.each(m.Name, m.Name, int64(m.Messages), 0)
		}
		return err
	})
	return done, err
}

func (a *returning) each(from, to string, missing, present int64) {
	if a.opt.Each != nil {
		a.opt.Each(from, to, missing, present)
	}
}

// missing brings back what is missing of an account that is there.
func (a *returning) missing(ctx context.Context) (Restored, error) {
	boxes, err := a.boxes(ctx)
	if err != nil {
		return a.done, err
	}
	if err := a.have.take(ctx, a.now); err != nil {
		return a.done, err
	}
	a.fresh, a.seen = map[mail.MessageID]spotOf{}, map[mail.MessageID]bool{}
	total := int64(0)
	for _, b := range boxes {
		total += int64(b.Messages)
	}
	for _, b := range boxes {
		before := a.done
		to := a.target(b.Name)
		err := a.mailbox(ctx, b, to, total)
		if err != nil && (a.opt.Mailbox != "" || !passable(err)) {
			return a.done, err
		}
		if err != nil {
			done := a.done.Messages + a.done.Present + a.done.Failed - before.Messages - before.Present - before.Failed
			a.done.Failed += max(1, int64(b.Messages)-done)
			a.opt.problem("not all of " + b.Name + " can be brought back: " + fault.Say(err))
		}
		a.each(b.Name, to, a.done.Messages-before.Messages, a.done.Present-before.Present)
	}
	return a.done, ctx.Err()
}

// boxes returns the mailboxes of then that are to come back: the trash last, for what lies
// there and elsewhere is not thrown away.
func (a *returning) boxes(ctx context.Context) (boxes []store.Mailbox, err error) {
	err = a.was.View(ctx, func(s *store.Snapshot) (err error) {
		if a.opt.Mailbox != "" {
			m, err := s.Mailbox(a.opt.Mailbox)
			if fault.Is(err, fault.NotFound) {
				err = fault.Newf(fault.NotFound, "the account had no mailbox %q at %s", a.opt.Mailbox, a.past.Info().Time.Format(time.RFC3339))
			}
			boxes = []store.Mailbox{m}
			return err
		}
		boxes, err = s.Mailboxes()
		boxes = slices.DeleteFunc(boxes, func(m store.Mailbox) bool { return isKept(s, &m) })
		return err
	})
	slices.SortStableFunc(boxes, func(x, y store.Mailbox) int {
		switch {
		case isTrash(&x) == isTrash(&y):
			return 0
		case isTrash(&x):
			return 1
		}
		return -1
	})
	return boxes, err
}

// isKept tells the mailbox of deleted mail: what lies there is nothing that anybody has.
func isKept(s *store.Snapshot, m *store.Mailbox) bool { return s.Accepts(m.ID) != nil }

func isTrash(m *store.Mailbox) bool { return m.Role == mail.RoleTrash }

// target is the name of the mailbox that a mailbox of then comes into.
func (a *returning) target(name string) string {
	switch {
	case a.opt.Mailbox != "" && a.opt.To != "":
		return a.opt.To
	case a.opt.Merge || a.opt.Mailbox != "":
		return name
	}
	tree := TreeOf(a.past.Info().Time)
	if whole := tree + store.Separator + name; len(whole) <= store.MaxMailboxName && strings.Count(whole, store.Separator) < store.MaxMailboxDepth {
		return whole
	}
	return tree + store.Separator + shortened(name)
}

// shortened makes one level of a name that is too long, or has too many, to go below another. It
// is that of no other name.
func shortened(name string) string {
	const most = 200 // bytes
	sum := sha256.Sum256([]byte(name))
	flat := strings.ReplaceAll(name, store.Separator, ".")
	if len(flat) > most {
		flat = strings.TrimSpace(strings.ToValidUTF8(flat[:most], ""))
	}
	return flat + " " + hex.EncodeToString(sum[:4])
}

// passable tells faults of one message or mailbox, after which others can come back still.
func passable(err error) bool {
	for _, kind := range [...]fault.Kind{fault.Corrupt, fault.Invalid, fault.Limited, fault.TooLarge, fault.NotFound} {
		if fault.Is(err, kind) {
			return true
		}
	}
	return false
}
