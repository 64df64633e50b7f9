package admin

import (
	"context"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/remote"
)

// Calls by which mail is brought into an account from elsewhere: docs/import.md. The command
// reads the source, with the rights of whoever started it; here only the account is filled.

// moveCalls are their rows.
func (a *api) moveCalls() map[string]handler {
	const at = " /v1/accounts/{address}/move"
	return map[string]handler{
		"GET" + at:                 a.moveAccount,
		"GET" + at + "/mailboxes":  a.moving((*moveCall).mailboxes),
		"POST" + at + "/open":      a.moving((*moveCall).open),
		"POST" + at + "/ties":      a.moving((*moveCall).ties),
		"GET" + at + "/ties":       a.moving((*moveCall).eachTie),
		"GET" + at + "/former":     a.moving((*moveCall).former),
		"POST" + at + "/put":       a.moving((*moveCall).put),
		"POST" + at + "/change":    a.moving((*moveCall).change),
		"GET" + at + "/state":      a.moving((*moveCall).state),
		"PUT" + at + "/state":      a.moving((*moveCall).setState),
		"GET" + at + "/sources":    a.moving((*moveCall).sources),
		"DELETE" + at + "/sources": a.moving((*moveCall).forget),
	}
}

// moveCall is one call under way.
type moveCall struct {
	*request
	to   *move.Local
	work func() (context.Context, func()) // takes a turn for the account
}

func (a *api) moving(h func(*moveCall) error) handler {
	return func(r *request) error {
		acct, err := a.lookup(r)
		if err != nil {
			return err
		}
		work := func() (context.Context, func()) { return r.ctx, func() {} }
		if a.Work != nil {
			work = func() (context.Context, func()) { return a.Work(r.ctx, acct.Address.String()) }
		}
		return h(&moveCall{r, move.NewLocal(a.Store, acct.ID), work})
	}
}

// moveAccount tells of an account what whoever brings mail must know first.
func (a *api) moveAccount(r *request) error {
	if _, err := a.lookup(r); err != nil {
		return err
	}
	return r.send(remote.Account{MaxMessage: a.Store.MaxMessage()})
}

func (c *moveCall) mailboxes() error {
	list, err := c.to.Mailboxes(c.ctx)
	for i := 0; err == nil && i < len(list); i++ {
		err = c.send(list[i])
	}
	return err
}

func (c *moveCall) open() error {
	var m move.Mailbox
	if err := c.read(&m); err != nil {
		return err
	}
	box := remote.BoxOf(c.URL.Query())
	m.Source = box.Mailbox
	at, kept, err := c.to.Open(c.ctx, box.Source, m)
	if err != nil {
		return err
	}
	return c.send(remote.Opened{At: at, Kept: kept})
}

// ties tells of the ties of some keys, with a line for each.
func (c *moveCall) ties() error {
	var in remote.Keys
	if err := c.read(&in); err != nil {
		return err
	}
	if len(in.Keys) > remote.MaxKeys {
		return fault.Newf(fault.TooLarge, "more than %d ties are asked for at once", remote.MaxKeys)
	}
	box, _, prove := remote.PageQuery(c.URL.Query())
	keys := make([]string, len(in.Keys))
	for i, k := range in.Keys {
		keys[i] = string(k)
	}
	list := make([]move.Looked, len(keys))
	var err error
	switch {
	case !in.Look:
		var ties []*move.Tie
		ties, err = c.to.Ties(c.ctx, box, keys)
		for i, t := range ties {
			list[i].Tie = t
		}
	case prove:
		list, err = c.to.Look(move.Proving(c.ctx), box, keys)
	default:
		list, err = c.to.Look(c.ctx, box, keys)
	}
	return c.sendTies(list, err)
}

// eachTie tells of some ties in their order, and how their messages are now.
func (c *moveCall) eachTie() error {
	ctx, give := c.work()
	defer give()
	box, behind, prove := remote.PageQuery(c.URL.Query())
	if prove {
		ctx = move.Proving(ctx)
	}
	return c.sendTies(c.to.TiesBehind(ctx, box, behind))
}

func (c *moveCall) sendTies(list []move.Looked, err error) error {
	for i := 0; err == nil && i < len(list); i++ {
		err = c.send(remote.LookedOf(list[i].Tie, list[i].Now))
	}
	return err
}

// former tells of some ties that are of another UIDVALIDITY.
func (c *moveCall) former() error {
	q := c.URL.Query()
	list, err := c.to.Former(c.ctx, remote.BoxOf(q), q.Get("now"), q.Get("behind"))
	for i := 0; err == nil && i < len(list); i++ {
		err = c.send(remote.Former{Key: []byte(list[i].Key), Content: list[i].Content[:]})
	}
	return err
}

// put takes messages in, and tells what became of each when all of them are durable.
func (c *moveCall) put() error {
	q := c.URL.Query()
	at, err := remote.At(q)
	if err != nil {
		return err
	}
	var all []move.Outcome
	err = remote.ReadFrames(c.whole, func(list []move.Incoming) error {
		ctx, give := c.work()
		defer give()
		out, err := c.to.Put(ctx, remote.BoxOf(q), at, list)
		all = append(all, out...)
		return err
	})
	for i := 0; err == nil && i < len(all); i++ {
		err = c.send(remote.OutcomeOf(&all[i]))
	}
	return err
}

func (c *moveCall) change() error {
	var in []remote.Change
	if err := c.read(&in); err != nil {
		return err
	}
	list := make([]move.Change, len(in))
	for i := range in {
		list[i] = in[i].Move()
	}
	return c.to.Change(c.ctx, remote.BoxOf(c.URL.Query()), list)
}

func (c *moveCall) state() error {
	state, err := c.to.State(c.ctx, remote.BoxOf(c.URL.Query()))
	if err != nil {
		return err
	}
	return c.send(remote.State{State: state})
}

func (c *moveCall) setState() error {
	var in remote.State
	if err := c.read(&in); err != nil {
		return err
	}
	return c.to.SetState(c.ctx, remote.BoxOf(c.URL.Query()), in.State)
}

func (c *moveCall) sources() error {
	list, err := c.to.Sources(c.ctx)
	for i := 0; err == nil && i < len(list); i++ {
		b := list[i]
		err = c.send(remote.Brought{Source: []byte(b.Source), Mailbox: []byte(b.Mailbox), From: b.Source, Of: b.Mailbox, At: b.At})
	}
	return err
}

func (c *moveCall) forget() error {
	box := remote.BoxOf(c.URL.Query())
	return c.to.Forget(c.ctx, box.Source, box.Mailbox)
}
