package admin

import (
	"context"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Groups are the databases of a cluster, of which each account is in one.
type Groups interface {
	Groups(ctx context.Context) ([]Group, error)
	AddGroup(ctx context.Context, name, url string) (Group, error)
	// SetFull says whether a group takes new accounts.
	SetFull(ctx context.Context, name string, full bool) error
	// Move brings an account to a group while it is in use.
	Move(ctx context.Context, id mail.AccountID, group string, tell func(GroupMove)) error
	PlanMove(ctx context.Context, id mail.AccountID, group string) (GroupMove, error)
	AbortMove(ctx context.Context, id mail.AccountID) error
	// Moves are those that are not done.
	Moves(ctx context.Context) ([]GroupMove, error)
}

// Group is a database of a cluster.
type Group struct {
	Number   int64  `json:"number"`
	Name     string `json:"name"`
	URL      string `json:"url,omitempty"` // without a password; empty: the one in the configuration
	Full     bool   `json:"full"`          // takes no new accounts
	Accounts int64  `json:"accounts"`
	Bytes    int64  `json:"bytes"`          // 0: not known
	Down     string `json:"down,omitempty"` // why it cannot be reached
}

// GroupMove is how far the move of an account to another group is.
type GroupMove struct {
	ID      mail.AccountID `json:"id"`
	Address string         `json:"address,omitempty"`
	From    string         `json:"from"`
	To      string         `json:"to"`
	Step    string         `json:"step"` // plan, copy, verify, freeze, flip, clean, undo, done

	Keys       int64   `json:"keys"` // that this step has been over
	KeysTotal  int64   `json:"keys_total"`
	Bytes      int64   `json:"bytes"`
	BytesTotal int64   `json:"bytes_total"`
	Journal    int64   `json:"journal"`   // changes made meanwhile that were carried over
	Compared   int64   `json:"compared"`  // keys that were compared once more
	FrozenMS   float64 `json:"frozen_ms"` // for how long changes had to wait
}

// groupCalls are the calls about groups: docs/cluster.md.
func (a *api) groupCalls() map[string]handler {
	return map[string]handler{
		"GET /v1/groups":                             a.listGroups,
		"POST /v1/groups":                            a.addGroup,
		"PUT /v1/groups/{group}":                     a.changeGroup,
		"GET /v1/moves":                              a.listMoves,
		"POST /v1/accounts/{address}/group/{action}": a.regroup,
	}
}

func (a *api) grouped() (Groups, error) {
	if a.Groups == nil {
		return nil, fault.New(fault.Unsupported, "the store is on one machine; groups are of [store] engine = \"postgres\"")
	}
	return a.Groups, nil
}

func (a *api) listGroups(r *request) error {
	groups, err := a.grouped()
	if err != nil {
		return err
	}
	list, err := groups.Groups(r.ctx)
	if err != nil {
		return err
	}
	for _, g := range list {
		if err := r.send(g); err != nil {
			return err
		}
	}
	return nil
}

func (a *api) addGroup(r *request) error {
	groups, err := a.grouped()
	if err != nil {
		return err
	}
	var in struct {
		Name string `json:"name"`
		URL  string `json:"url"`
	}
	if err := r.read(&in); err != nil {
		return err
	}
	g, err := groups.AddGroup(r.ctx, in.Name, in.URL)
	if err != nil {
		return err
	}
	return r.send(g)
}

func (a *api) changeGroup(r *request) error {
	groups, err := a.grouped()
	if err != nil {
		return err
	}
	var in struct {
		Full *bool `json:"full"`
	}
	if err := r.read(&in); err != nil {
		return err
	}
	if in.Full == nil {
		return fault.New(fault.Invalid, "nothing to change: full is missing")
	}
	if err := groups.SetFull(r.ctx, r.PathValue("group"), *in.Full); err != nil {
		return err
	}
	return r.send(struct {
		Name string `json:"name"`
		Full bool   `json:"full"`
	}{r.PathValue("group"), *in.Full})
}

func (a *api) listMoves(r *request) error {
	groups, err := a.grouped()
	if err != nil {
		return err
	}
	list, err := groups.Moves(r.ctx)
	if err != nil {
		return err
	}
	for _, m := range list {
		if acct, err := a.Directory.AccountByID(r.ctx, m.ID); err == nil {
			m.Address = acct.Address.String()
		} else if !fault.Is(err, fault.NotFound) {
			return err
		}
		if err := r.send(m); err != nil {
			return err
		}
	}
	return nil
}

// regroup moves an account, or tells what that would be, or undoes it. A move goes on on
// some node when the caller has gone.
func (a *api) regroup(r *request) error {
	groups, err := a.grouped()
	if err != nil {
		return err
	}
	acct, err := a.lookup(r)
	if err != nil {
		return err
	}
	var in struct {
		To string `json:"to"`
	}
	if err := r.read(&in); err != nil {
		return err
	}
	send := func(m GroupMove) error {
		m.Address = acct.Address.String()
		err := r.send(m)
		r.flush()
		return err
	}
	switch r.PathValue("action") {
	case "plan":
		m, err := groups.PlanMove(r.ctx, acct.ID, in.To)
		if err != nil {
			return err
		}
		return send(m)
	case "abort":
		if err := groups.AbortMove(r.ctx, acct.ID); err != nil {
			return err
		}
		return send(GroupMove{ID: acct.ID, Step: "done"})
	case "move":
		last := GroupMove{ID: acct.ID, To: in.To}
		err := groups.Move(r.ctx, acct.ID, in.To, func(m GroupMove) {
			last = m
			_ = send(m) // the caller may have gone: then the context ends it
		})
		if err != nil {
			return err
		}
		last.Step = "done"
		return send(last)
	}
	return fault.Newf(fault.NotFound, "%q is nothing that can be done with an account's group", r.PathValue("action"))
}
