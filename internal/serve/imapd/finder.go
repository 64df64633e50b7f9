package imapd

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"strings"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// finder finds what names and URLs lead to for a user, who need not have a session here.
type finder struct {
	srv  *Server
	ctx  context.Context
	acct *store.Account // of the user

	submits bool // it is this server's submission that reads, for the user
}

func (s *session) finder() *finder { return &finder{srv: s.srv, ctx: s.ctx, acct: s.acct} }

// OpenURL opens what a URL means for a user who submits a message, and tells how many
// bytes that are (RFC 4468, 3.3). A URL either carries its authorisation, or is one of
// the user's own mail on the host, which is our name. Faults: Invalid if it is no URL of
// a message, Unsupported if it is another server's, Denied if it gives the user nothing,
// NotFound if it leads to nothing.
func (srv *Server) OpenURL(ctx context.Context, user mail.AccountID, host, text string) (io.ReadCloser, int64, error) {
	f := &finder{srv: srv, ctx: ctx, acct: srv.opt.Store.Account(user).As(user), submits: true}
	u, err := imap.ParseURL(text)
	switch {
	case err != nil:
		return nil, 0, err
	case !u.Absolute:
		return nil, 0, fault.New(fault.Invalid, "the URL must be an absolute one")
	}
	var p *pointed
	if u.Access != imap.AccessNone {
		p, err = f.authorised(text)
	} else {
		p, err = f.own(&u, host)
	}
	if err != nil {
		return nil, 0, err
	}
	return p.open(ctx)
}

// own finds what a URL means that carries no authorisation: the user's own mail, and
// what others share with him.
func (s *finder) own(u *imap.URL, host string) (*pointed, error) {
	at := u.Host
	if name, _, err := net.SplitHostPort(at); err == nil {
		at = name
	}
	if !strings.EqualFold(at, host) {
		return nil, fault.New(fault.Unsupported, "URL resolution requires trust relationship")
	}
	if u.User != "" {
		switch id, err := s.userOf(u.User, u.Host); {
		case err != nil:
			return nil, err
		case id != s.acct.ID():
			return nil, errNotGiven()
		}
	}
	place, err := s.placeOf(s.acct, u.Mailbox)
	if err != nil {
		return nil, err
	}
	return follow(s.ctx, &place, u)
}

func (s *finder) newKey() ([]byte, error) {
	key := make([]byte, store.URLKeySize)
	if _, err := io.ReadFull(s.srv.opt.Random, key); err != nil {
		return nil, fault.Wrap(fault.Unavailable, "no random bytes", err)
	}
	return key, nil
}

// token returns the authorization token of a rump URL.
func token(key []byte, rump string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(rump))
	return tokenHMAC + hex.EncodeToString(mac.Sum(nil))
}

// userOf returns the account that a user name in a URL means, 0 if none: an address, or
// the local part of one at the URL's host.
func (s *finder) userOf(user, host string) (mail.AccountID, error) {
	if !strings.Contains(user, "@") {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		user += "@" + host
	}
	addr, err := mail.ParseAddress(user)
	var a directory.Account
	if err == nil {
		a, err = s.srv.opt.Directory.Lookup(s.ctx, addr)
	}
	switch {
	case err == nil:
		return a.ID, nil
	case fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid):
		return 0, nil
	}
	return 0, err
}

// authorised checks a URL and finds what it means. Faults: Denied if it gives the user
// nothing, for whatever reason, NotFound if it leads to nothing. The work that is done
// does not show which reason: a URL of a mailbox or user that is not there is checked
// against a key nobody has (RFC 4467, 6).
func (s *finder) authorised(text string) (*pointed, error) {
	u, err := imap.ParseURL(text)
	if err != nil || !u.Absolute || u.Access == imap.AccessNone || !strings.EqualFold(u.Mechanism, internalMechanism) {
		return nil, errNotGiven()
	}
	user, err := s.userOf(u.User, u.Host)
	if err != nil {
		return nil, err
	}
	signer := s.srv.opt.Store.Account(user).As(user)
	at, err := s.placeOf(signer, u.Mailbox)
	switch {
	case fault.Is(err, fault.NotFound):
		at = place{owner{acct: signer}, u.Mailbox}
	case err != nil:
		return nil, err
	}
	key, err := s.newKey()
	if err != nil {
		return nil, err
	}
	known := false
	err = at.acct.View(s.ctx, func(snap *store.Snapshot) error {
		box, err := at.lookup(snap, mail.RightRead)
		if err != nil {
			return err
		}
		k, err := snap.URLKey(box.ID, user)
		if k != nil {
			key, known = k, true
		}
		return err
	})
	if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.Denied) {
		return nil, err
	}
	genuine := hmac.Equal([]byte(token(key, u.Rump)), []byte(strings.ToLower(u.Token)))
	if !genuine || !known || !u.Expire.IsZero() && s.srv.opt.Store.Now().After(u.Expire) {
		return nil, errNotGiven()
	}
	switch may, err := s.mayUse(&u); {
	case err != nil:
		return nil, err
	case !may:
		return nil, errNotGiven()
	}
	return follow(s.ctx, &at, &u)
}

func errNotGiven() error { return fault.New(fault.Denied, "IMAP URL authorization failed") }

// mayUse tells whether the user is one that a genuine URL is for (RFC 4467, 3; RFC 4468,
// 3.3).
func (s *finder) mayUse(u *imap.URL) (bool, error) {
	switch u.Access {
	case imap.AccessAnonymous, imap.AccessAuthUser: // there are no anonymous sessions
		return true, nil
	case imap.AccessUser:
		id, err := s.userOf(u.AccessUser, u.Host)
		return id == s.acct.ID(), err
	case imap.AccessSubmit:
		if s.submits {
			id, err := s.userOf(u.AccessUser, u.Host)
			return id == s.acct.ID(), err
		}
		is := s.srv.opt.Submitter
		return is != nil && is(s.acct.ID()), nil
	}
	return false, nil
}
