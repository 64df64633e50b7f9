package receive

import (
	"context"
	"strings"

	"github.com/martlet-mail/martlet/internal/check"
	"github.com/martlet-mail/martlet/internal/check/dkim"
	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// Signers says which keys sign the mail of a domain: none if it is not here.
// *directory.Directory is one.
type Signers interface {
	Signers(ctx context.Context, domain string) ([]directory.SigningKey, error)
}

// signed returns a message of somebody here with the signatures of its author's domain in
// front (docs/decisions/0029-signing.md). It comes after all other changes: what is signed is what
// is sent, so a message that leaves is brought into 7 bits first where it can be, and env
// then says so.
//
// A message that cannot be signed goes as it is, and the log says why. The error is for one
// that cannot be read: it cannot be delivered either.
func (r *Receiver) signed(ctx context.Context, env *mail.Envelope, p *plan, msg *store.Parcel, own bool) (*store.Parcel, error) {
	if r.opt.Signers == nil || p.refused || !own && env.Login == "" {
		return msg, nil
	}
	keys, err := r.keysFor(ctx, env, msg, own)
	if err == nil && len(keys) > 0 {
		keys = forRoad(keys, len(p.remote) > 0)
		msg, err = r.sign(ctx, env, p, msg, keys)
	}
	if unread, ok := err.(*unreadable); ok {
		return msg, fault.Wrap(fault.Unavailable, "the message could not be read, try again later", unread.error)
	}
	if err != nil {
		p.signed = "no: " + fault.Say(err)
		r.opt.Log.Warn("message not signed", "id", env.ID, "message_id", msg.Message().MessageID, "login", env.Login, "reason", fault.Say(err), "err", err)
	}
	return msg, nil
}

// unreadable is the failure to read the message itself.
type unreadable struct{ error }

func (r *Receiver) sign(ctx context.Context, env *mail.Envelope, p *plan, msg *store.Parcel, keys []dkim.Key) (*store.Parcel, error) {
	if len(p.remote) > 0 {
		if plain, err := msg.SevenBit(ctx); err == nil && plain != msg {
			msg, env.Body8Bit, env.Binary = plain, false, false
		} else if err != nil && !fault.Is(err, fault.Unsupported) { // of PGP or S/MIME, say: signed as it is
			return msg, &unreadable{err}
		}
	}
	body, err := msg.Open(ctx, int64(len(msg.Header())), -1)
	if err != nil {
		return msg, &unreadable{err}
	}
	defer body.Close()
	fields, err := dkim.Sign(msg.Header(), body, keys, dkim.SignOptions{Now: r.opt.Now()})
	switch {
	case fault.Is(err, fault.Invalid) || fault.Is(err, fault.Internal):
		return msg, err
	case err != nil:
		return msg, &unreadable{err}
	}
	p.signed = signature(keys)
	return msg.Prepend(fields), nil
}

// signature tells of keys in the story of a message: "example.org (202611kwqzt-ed, 202611kwqzt-rsa)".
func signature(keys []dkim.Key) string {
	var selectors []string
	for _, k := range keys {
		selectors = append(selectors, k.Selector)
	}
	return keys[0].Domain + " (" + strings.Join(selectors, ", ") + ")"
}

// forRoad leaves out the keys that a message needs not: RSA costs some twenty times as
// much as Ed25519, and is for hosts that know nothing else.
func forRoad(keys []dkim.Key, leaves bool) []dkim.Key {
	if leaves {
		return keys
	}
	for i, k := range keys {
		if dkim.Algorithm(k.Signer) == dkim.Ed25519 {
			return keys[i : i+1]
		}
	}
	return keys
}

// keysFor returns the keys that sign for the author of a message: the domain of all the
// addresses that anybody could find in From. They must be the login's own, or anybody here could sign as anybody
// else. A report of ours (own) is from this host, whose name may lie below a domain here.
func (r *Receiver) keysFor(ctx context.Context, env *mail.Envelope, msg *store.Parcel, own bool) ([]dkim.Key, error) {
	domain := ""
	all, problem := check.Mailboxes(msg.Header())
	if problem != "" {
		return nil, fault.New(fault.Invalid, "From holds what is no address for sure: "+problem)
	}
	for _, a := range all {
		from, err := mail.ParseAddress(a)
		switch {
		case err != nil:
			return nil, fault.New(fault.Invalid, "From holds what is no address")
		case domain != "" && !strings.EqualFold(domain, from.Domain):
			return nil, fault.New(fault.Invalid, "From has authors of several domains")
		}
		domain = from.Domain
		if own {
			continue
		}
		if err := r.mayWriteAs(ctx, env.Login, from); err != nil {
			return nil, err
		}
	}
	for {
		keys, err := r.keysOf(ctx, domain)
		if _, above, ok := strings.Cut(domain, "."); err == nil && len(keys) == 0 && own && ok {
			domain = above
			continue
		}
		return keys, err
	}
}

// mayWriteAs tells whether a login may stand in From. A domain that is not here signs
// nothing here: it is nobody's business.
func (r *Receiver) mayWriteAs(ctx context.Context, login string, from mail.Address) error {
	if local, err := r.opt.Directory.IsLocal(ctx, from.Domain); err != nil || !local {
		return err
	}
	own, err := mail.ParseAddress(login)
	if err != nil {
		return fault.New(fault.Denied, "the login is no address")
	}
	found, err := r.opt.Directory.Resolve(ctx, own)
	if err != nil {
		return err
	}
	for _, t := range found.Accounts {
		if t.Address.Folded() == own.Folded() {
			return r.opt.Directory.MaySend(ctx, t.Account, from)
		}
	}
	return fault.New(fault.Denied, "the login is no account any more")
}

func (r *Receiver) keysOf(ctx context.Context, domain string) (keys []dkim.Key, err error) {
	if domain == "" {
		return nil, nil
	}
	all, err := r.opt.Signers.Signers(ctx, domain)
	for _, k := range all {
		keys = append(keys, dkim.Key{Domain: k.Domain, Selector: k.Selector, Signer: k.Signer})
	}
	return keys, err
}
