package admin

import (
	"strconv"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/link"
	"github.com/martlet-mail/martlet/internal/move/signin"
)

// linkCalls are the calls about links: docs/links.md.
func (a *api) linkCalls() map[string]handler {
	return map[string]handler{
		"GET /v1/links":                a.listLinks,
		"POST /v1/links":               a.addLink,
		"GET /v1/links/{id}":           a.showLink,
		"DELETE /v1/links/{id}":        a.removeLink,
		"PUT /v1/links/{id}/secret":    a.setLinkSecret,
		"POST /v1/links/{id}/{action}": a.changeLink,
	}
}

// linkLine is a link as it is told of. What signs in is not in it.
type linkLine struct {
	ID       link.ID     `json:"id"`
	Account  string      `json:"account"`
	State    string      `json:"state"` // ok, running, waiting, failing, paused
	Watching bool        `json:"watching"`
	Protocol string      `json:"protocol"`
	Security string      `json:"security"`
	Host     string      `json:"host"`
	Port     uint16      `json:"port"`
	Insecure bool        `json:"insecure,omitempty"`
	User     string      `json:"user"`
	OAuth    string      `json:"oauth,omitempty"`
	Options  linkOptions `json:"options"`
	Created  time.Time   `json:"created"`
	Last     *time.Time  `json:"last_success"`
	Next     *time.Time  `json:"next_try"`
	Error    string      `json:"error,omitempty"`
	Fix      string      `json:"fix,omitempty"`
	Brought  int64       `json:"brought"`
	Refused  int64       `json:"refused,omitempty"`
	Why      string      `json:"refused_why,omitempty"`
}

// linkOptions are what a link does.
type linkOptions struct {
	Mailboxes      []string   `json:"mailboxes,omitempty"`
	Into           string     `json:"into,omitempty"`
	BothWays       bool       `json:"both_ways,omitempty"`
	FollowDeletes  bool       `json:"follow_deletes,omitempty"`
	DeleteAtSource bool       `json:"delete_at_source,omitempty"`
	Poll           int64      `json:"poll_seconds"` // 0: as the server's configuration says
	Since          *time.Time `json:"since,omitempty"`
}

// linkWish is a link to be made.
type linkWish struct {
	Account  string        `json:"account"`
	Protocol string        `json:"protocol"`
	Security string        `json:"security"`
	Host     string        `json:"host"`
	Port     uint16        `json:"port"`
	Insecure bool          `json:"insecure"`
	User     string        `json:"user"`
	Options  linkOptions   `json:"options"`
	Password string        `json:"password"`
	Grant    *signin.Grant `json:"grant"`
	Try      bool          `json:"try"` // whether to sign in first, and make nothing if that fails
}

func (a *api) links() (*link.Links, error) {
	if a.Links == nil {
		return nil, fault.New(fault.Unsupported, "there are no links here")
	}
	return a.Links, nil
}

func (a *api) linkLine(r *request, s link.Status) linkLine {
	l := linkLine{
		ID: s.ID, Account: a.nameOf(r, s.Account), State: s.State, Watching: s.Watching,
		Protocol: s.Server.Protocol, Security: s.Server.Security, Host: s.Server.Host, Port: s.Server.Port, Insecure: s.Server.Insecure,
		User: s.User, OAuth: s.OAuth, Created: s.Created, Last: timeOrNil(s.Last), Next: timeOrNil(s.Next),
		Error: s.Error, Fix: s.Fix, Brought: s.Brought, Refused: s.Refused, Why: s.Why,
		Options: linkOptions{
			Mailboxes: s.Mailboxes, Into: s.Into, BothWays: s.BothWays, FollowDeletes: s.FollowDeletes, DeleteAtSource: s.DeleteAtSource,
			Poll: int64(s.Poll / time.Second), Since: timeOrNil(s.Since),
		},
	}
	return l
}

func (a *api) listLinks(r *request) error {
	links, err := a.links()
	if err != nil {
		return err
	}
	var account mail.AccountID
	if v := r.FormValue("account"); v != "" {
		addr, err := parseAddress(v)
		if err != nil {
			return err
		}
		who, err := a.Directory.Lookup(r.ctx, addr)
		if err != nil {
			return err
		}
		account = who.ID
	}
	list, err := links.List(r.ctx, account)
	for i := 0; err == nil && i < len(list); i++ {
		err = r.send(a.linkLine(r, list[i]))
	}
	return err
}

func (a *api) addLink(r *request) error {
	links, err := a.links()
	if err != nil {
		return err
	}
	var in linkWish
	if err := r.read(&in); err != nil {
		return err
	}
	addr, err := parseAddress(in.Account)
	if err != nil {
		return err
	}
	who, err := a.Directory.Lookup(r.ctx, addr)
	if err != nil {
		return err
	}
	o := in.Options
	rule := link.Rule{
		Account: who.ID, Server: link.Server{Protocol: in.Protocol, Security: in.Security, Host: in.Host, Port: in.Port, Insecure: in.Insecure},
		User: in.User, Mailboxes: o.Mailboxes, Into: o.Into, BothWays: o.BothWays, FollowDeletes: o.FollowDeletes,
		DeleteAtSource: o.DeleteAtSource, Poll: time.Duration(o.Poll) * time.Second,
	}
	if o.Since != nil {
		rule.Since = *o.Since
	}
	secret := link.Secret{Password: in.Password, Grant: in.Grant}
	if in.Grant != nil {
		rule.OAuth, secret.Password = in.Grant.Provider, ""
	} else if in.Password == "" {
		return fault.New(fault.Invalid, "a link needs a password, or a sign-in")
	}
	if in.Try {
		if err := links.Try(r.ctx, &rule, &secret); err != nil {
			return err
		}
	}
	if rule, err = links.Add(r.ctx, rule, secret); err != nil {
		return err
	}
	return a.sendLink(r, links, rule.ID)
}

func (r *request) linkID() (link.ID, error) {
	n, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, fault.Newf(fault.Invalid, "%q is no number of a link; see: martlet link list", r.PathValue("id"))
	}
	return link.ID(n), nil
}

func (a *api) sendLink(r *request, links *link.Links, id link.ID) error {
	s, err := links.Show(r.ctx, id)
	if err != nil {
		return err
	}
	return r.send(a.linkLine(r, s))
}

// aLink answers a call about one link.
func (a *api) aLink(r *request, act func(*link.Links, link.ID) error) error {
	links, err := a.links()
	if err != nil {
		return err
	}
	id, err := r.linkID()
	if err != nil {
		return err
	}
	return act(links, id)
}

func (a *api) showLink(r *request) error {
	return a.aLink(r, func(links *link.Links, id link.ID) error { return a.sendLink(r, links, id) })
}

func (a *api) removeLink(r *request) error {
	return a.aLink(r, func(links *link.Links, id link.ID) error {
		if err := links.Remove(r.ctx, id); err != nil {
			return err
		}
		return r.send(map[string]link.ID{"removed": id})
	})
}

func (a *api) setLinkSecret(r *request) error {
	return a.aLink(r, func(links *link.Links, id link.ID) error {
		var in struct {
			Password string        `json:"password"`
			Grant    *signin.Grant `json:"grant"`
		}
		if err := r.read(&in); err != nil {
			return err
		}
		if in.Password == "" && in.Grant == nil {
			return fault.New(fault.Invalid, "a link needs a password, or a sign-in")
		}
		if err := links.SetSecret(r.ctx, id, link.Secret{Password: in.Password, Grant: in.Grant}); err != nil {
			return err
		}
		return a.sendLink(r, links, id)
	})
}

func (a *api) changeLink(r *request) error {
	return a.aLink(r, func(links *link.Links, id link.ID) error {
		switch action := r.PathValue("action"); action {
		case "pause":
			if err := links.Pause(r.ctx, id); err != nil {
				return err
			}
		case "resume":
			if err := links.Resume(r.ctx, id); err != nil {
				return err
			}
		case "run":
			report, err := links.Now(r.ctx, id)
			if err != nil {
				return err
			}
			return r.send(struct {
				ID link.ID `json:"id"`
				link.Report
			}{id, report})
		default:
			return fault.Newf(fault.NotFound, "a link cannot be told to %q", action)
		}
		return a.sendLink(r, links, id)
	})
}
