package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	chance "math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/move/imapsource"
	"github.com/martlet-mail/martlet/internal/move/link"
	"github.com/martlet-mail/martlet/internal/move/pop3source"
	"github.com/martlet-mail/martlet/internal/move/signin"
	"github.com/martlet-mail/martlet/internal/store"
)

// Links: accounts that are kept in step with mailboxes elsewhere.

// linkPatience is how long a source tries again by itself before the link counts as failing.
const linkPatience = 2 * time.Second

// newLinks makes what [links] says.
func (h *house) newLinks() (*link.Links, error) {
	c := h.cfg.Links
	roots, _, err := authorities(c.CA)
	if err != nil {
		return nil, misconfigured(err)
	}
	key, err := h.directory.Secret("links")
	if err != nil {
		return nil, err
	}
	dial := linkDialer(c.AllowPrivate, string(cmp.Or(h.cfg.Discover.Resolver, h.cfg.Queue.Resolver)))
	var links *link.Links
	o := link.Options{
		Engine: h.engine, Now: time.Now, Chance: chance.Float64, Random: rand.Reader, Key: key,
		Open: func(ctx context.Context, r link.Rule, s link.Secret) (move.Source, error) {
			return openLinkSource(ctx, linkSource(r, s, roots, dialer(link.Felt(ctx, link.Dial(dial))), move.NewLocal(h.store, r.Account), func() (string, error) { return links.Mark(r.Account) }), s)
		},
		Target: h.linkTarget, Store: h.store, SignIn: signInOptions(roots, dial),
		Spool:     func() (store.SpoolFile, error) { return h.spool.File() },
		Elsewhere: h.linksElsewhere,
		Off:       !c.Enabled, MaxRuns: c.Concurrency, MaxIdle: c.Connections, Poll: time.Duration(c.Poll), Log: h.log,
	}
	if c.Connections == 0 {
		o.MaxIdle = -1
	}
	links = link.New(o)
	return links, nil
}

func (h *house) linkTarget(ctx context.Context, id mail.AccountID) (move.Target, error) {
	_, err := h.directory.AccountByID(ctx, id)
	if fault.Is(err, fault.NotFound) {
		err = link.NoAccount()
	}
	if err != nil {
		return nil, err
	}
	return move.NewLocal(h.store, id), nil
}

// linksElsewhere returns the node that carries the links out, "" if it is this one or none.
func (h *house) linksElsewhere(ctx context.Context) (string, error) {
	name, here, err := h.node.Holder(ctx, "links")
	if here {
		name = ""
	}
	return name, err
}

// keepLinks carries the links out.
func (h *house) keepLinks(ctx context.Context) error { return h.links.Run(ctx) }

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// linkDialer connects to sources. The address is looked at when it is connected to, so that
// no name can lead elsewhere than it was looked up for. Names are asked of the name server that
// finds hosts; "" is that of the system.
func linkDialer(private bool, nameServer string) dialer {
	d := net.Dialer{}
	if nameServer != "" {
		d.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, nameServer)
		}}
	}
	if !private {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil || !dnsx.Public(at.Addr()) {
				return fault.Newf(fault.Denied, "%s is on this machine or in a private network, which [links] allow_private forbids", address)
			}
			return nil
		}
	}
	return d.DialContext
}

func signInOptions(roots *x509.CertPool, dial dialer) signin.Options {
	return signin.Options{
		HTTP: &http.Client{
			Transport:     &http.Transport{DialContext: dial, TLSClientConfig: clientTLS(roots), DisableKeepAlives: true, ForceAttemptHTTP2: true},
			CheckRedirect: signin.Direct,
		},
		Now: time.Now, Random: rand.Reader,
	}
}

// openLinkSource has a source sign in by a token at once: one that is refused is made anew
// by whoever opens it.
func openLinkSource(ctx context.Context, source move.Source, s link.Secret) (move.Source, error) {
	if s.Grant == nil {
		return source, nil
	}
	if _, err := source.Mailboxes(ctx); err != nil {
		_ = source.Close()
		return nil, err
	}
	return source, nil
}

// linkSource is the source of a rule. It connects when it is first asked for something.
func linkSource(r link.Rule, s link.Secret, roots *x509.CertPool, dial dialer, ties pop3source.Ties, mark func() (string, error)) move.Source {
	token, mechanism := "", ""
	if s.Grant != nil {
		token, mechanism = s.Grant.Access, s.Grant.Mechanism
	}
	if r.Server.Protocol == "pop3" {
		o := pop3source.Options{
			Host: r.Server.Host, Port: r.Server.Port, Roots: roots, Insecure: r.Server.Insecure, Dial: dial, Now: time.Now, Random: rand.Reader, User: r.User, Ties: ties,
			Security: map[string]pop3source.Security{"tls": pop3source.TLS, "starttls": pop3source.StartTLS, "offered": pop3source.OfferedTLS}[r.Server.Security],
			Credentials: func(context.Context) (pop3source.Credentials, error) {
				return pop3source.Credentials{Password: s.Password, Token: token, Mechanism: mechanism}, nil
			},
		}
		return pop3source.New(o)
	}
	o := imapsource.Options{
		IMAP: imapc.Options{
			Host: r.Server.Host, Port: r.Server.Port, Roots: roots, Insecure: r.Server.Insecure, Dial: dial, Now: time.Now, Random: rand.Reader, Version: imapVersion(), Mark: mark,
			Security: map[string]imapc.Security{"tls": imapc.TLS, "starttls": imapc.StartTLS, "offered": imapc.OfferedTLS}[r.Server.Security],
		},
		User: r.User, Patience: linkPatience, Wait: pause,
		BytesPerDay: -1, // no run waits for hours: who is told to by the server comes again later
		Credentials: func(context.Context) (imapc.Credentials, error) {
			return imapc.Credentials{User: r.User, Password: s.Password, Token: token, Mechanism: mechanism}, nil
		},
	}
	return &imapMirror{imapsource.New(o)}
}

// imapMirror is an IMAP source as links change it.
type imapMirror struct{ *imapsource.Source }

var (
	_ link.Mirror = (*imapMirror)(nil)
	_ link.Waiter = (*imapMirror)(nil)
)

// SetFlags makes one change of all that are alike: clients mark many at once.
func (m *imapMirror) SetFlags(ctx context.Context, box move.Mailbox, list []link.FlagChange) error {
	type alike struct {
		how   imapc.Storing
		flags mail.Flags
		words string
	}
	keys := map[alike][]string{}
	var order []alike
	add := func(a alike, key string) {
		if a.flags == 0 && a.words == "" {
			return
		}
		if keys[a] == nil {
			order = append(order, a)
		}
		keys[a] = append(keys[a], key)
	}
	for _, c := range list {
		add(alike{imapc.AddFlags, c.Add, strings.Join(c.AddWords, " ")}, c.Key)
		add(alike{imapc.RemoveFlags, c.Remove, strings.Join(c.RemoveWords, " ")}, c.Key)
	}
	for _, a := range order {
		if err := m.Source.SetFlags(ctx, box.Source, keys[a], a.how, a.flags, strings.Fields(a.words)); err != nil {
			return err
		}
	}
	return nil
}

// Move moves messages, and tells in order what became of them.
func (m *imapMirror) Move(ctx context.Context, from move.Mailbox, keys []string, to move.Mailbox) ([]link.Moved, error) {
	moved, err := m.Source.Move(ctx, from.Source, keys, to.Source)
	return inOrder(keys, moved, false), err
}

// Trash moves messages into the trash.
func (m *imapMirror) Trash(ctx context.Context, from move.Mailbox, keys []string) ([]link.Moved, error) {
	moved, err := m.Source.Trash(ctx, from.Source, keys)
	return inOrder(keys, moved, err == nil), err
}

// Remove deletes messages.
func (m *imapMirror) Remove(ctx context.Context, from move.Mailbox, keys []string) ([]link.Moved, error) {
	moved, err := m.Source.Remove(ctx, from.Source, keys)
	return inOrder(keys, moved, err == nil), err
}

// inOrder is what became of messages. rest: of those of which nothing is told there are none.
func inOrder(keys []string, moved map[string]imapsource.Moved, rest bool) []link.Moved {
	out := make([]link.Moved, len(keys))
	for i, k := range keys {
		m, ok := moved[k]
		out[i] = link.Moved{Done: ok || rest, Key: m.Key, Left: m.Left}
	}
	return out
}
