package imapd

import (
	"io"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// internalMechanism is the one mechanism there is (RFC 4467, 2.4.1).
const internalMechanism = "INTERNAL"

// tokenHMAC begins a token that is the HMAC-SHA-256 of the rump URL under the mailbox
// access key. Another algorithm would have another number (RFC 4467, 2.4.1).
const tokenHMAC = "01"

// resetKey is RESETKEY: all URLs signed for a mailbox, or for all, are void (RFC 4467,
// BASE.6.3.RESETKEY).
func (s *session) resetKey(*command) (reply, error) {
	var args imap.ResetKey
	if !s.dec.ExpectResetKey(&args) || !s.dec.ExpectCRLF() {
		return reply{}, s.dec.Err()
	}
	if args.All {
		return ok("all keys removed"), s.dropURLKeys()
	}
	key, err := s.finder().newKey()
	if err != nil {
		return reply{}, err
	}
	at, err := s.place(args.Mailbox)
	if err != nil {
		return reply{}, err
	}
	err = at.acct.Update(s.ctx, func(tx *store.Tx) error {
		box, err := at.lookup(&tx.Snapshot, mail.RightRead)
		if err != nil {
			return err
		}
		return tx.SetURLKey(box.ID, s.acct.ID(), key)
	})
	return okCode("URLMECH "+internalMechanism, "RESETKEY done"), err
}

// dropURLKeys takes all keys of the user away, those of others' mailboxes too.
func (s *session) dropURLKeys() error {
	sharers, err := s.acct.Sharers(s.ctx)
	if err != nil {
		return err
	}
	for _, id := range append(sharers[:len(sharers):len(sharers)], s.acct.ID()) {
		err := s.srv.opt.Store.Account(id).Update(s.ctx, func(tx *store.Tx) error { return tx.DropURLKeys(s.acct.ID()) })
		if err != nil && (id == s.acct.ID() || !fault.Is(err, fault.NotFound)) {
			return err
		}
	}
	return nil
}

// genURLAuth is GENURLAUTH (RFC 4467, BASE.6.3.GENURLAUTH). Users sign URLs under their
// own names only, into mailboxes that they may read; whether the names of others in them exist is not told.
func (s *session) genURLAuth(_ *command, list []imap.URLRump) (reply, error) {
	var signed []string
	for _, r := range list {
		u, err := imap.ParseURL(r.URL)
		switch {
		case err != nil:
			return bad("%s", fault.Say(err)), nil
		case r.Mechanism != internalMechanism:
			return bad("there is no mechanism %.40s", r.Mechanism), nil
		case !u.Absolute || u.User == "":
			return bad("missing owner username in supplied URL"), nil
		case u.Access == imap.AccessNone:
			return bad("missing access identifier in supplied URL"), nil
		case u.Rump != r.URL:
			return bad("the supplied URL has a token already"), nil
		}
		owner, err := s.finder().userOf(u.User, u.Host)
		if err != nil {
			return reply{}, err
		}
		if owner != s.acct.ID() {
			return bad("the URL must have your own user name"), nil
		}
		key, err := s.urlKey(u.Mailbox)
		if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) || fault.Is(err, fault.Denied) {
			return bad("no such mailbox"), nil
		}
		if err != nil {
			return reply{}, err
		}
		signed = append(signed, u.Rump+":"+strings.ToLower(internalMechanism)+":"+token(key, u.Rump))
	}
	s.enc.Raw("* GENURLAUTH")
	for _, url := range signed {
		s.enc.SP().String(url)
	}
	s.enc.CRLF()
	return ok("GENURLAUTH done"), nil
}

// urlKey returns the key of a mailbox of the session's user, made if there is none.
func (s *session) urlKey(name string) (key []byte, err error) {
	at, err := s.place(name)
	if err != nil {
		return nil, err
	}
	err = at.acct.View(s.ctx, func(snap *store.Snapshot) error {
		box, err := at.lookup(snap, mail.RightRead)
		if err == nil {
			key, err = snap.URLKey(box.ID, s.acct.ID())
		}
		return err
	})
	if err != nil || key != nil {
		return key, err
	}
	fresh, err := s.finder().newKey()
	if err != nil {
		return nil, err
	}
	err = at.acct.Update(s.ctx, func(tx *store.Tx) error {
		box, err := at.lookup(&tx.Snapshot, mail.RightRead)
		if err != nil {
			return err
		}
		if key, err = tx.URLKey(box.ID, s.acct.ID()); err != nil || key != nil {
			return err
		}
		key = fresh
		return tx.SetURLKey(box.ID, s.acct.ID(), key)
	})
	return key, err
}

// urlFetch is URLFETCH, with the items of RFC 5524 (RFC 4467, BASE.6.3.URLFETCH). Each
// URL gets a response of its own, so that what fails late spoils no other.
func (s *session) urlFetch(_ *command, list []imap.URLFetch) (reply, error) {
	for i := range list {
		p, err := s.finder().authorised(list[i].URL)
		if fault.Is(err, fault.Denied) || fault.Is(err, fault.NotFound) { // the client is not told which (RFC 4467, 6)
			p, err = nil, nil
		}
		if err == nil {
			err = s.tellURL(&list[i], p)
		}
		if err != nil {
			return reply{}, err
		}
		if err := s.flushFull(); err != nil {
			return reply{}, err
		}
	}
	return ok("URLFETCH done"), nil
}

// tellURL writes one URLFETCH response.
func (s *session) tellURL(ask *imap.URLFetch, p *pointed) error {
	e, start := s.enc, s.enc.Len()
	e.Raw("* URLFETCH ").String(ask.URL)
	if p == nil {
		e.Raw(" NIL").CRLF()
		return nil
	}
	out := urlWriter{s: s, p: p, w: fetchWriter{s: s, start: start}}
	err := out.items(ask)
	if err != nil {
		if out.announced {
			s.torn = true
			return fatal{err}
		}
		e.Truncate(start)
		if fault.Is(err, fault.NotFound) { // expunged since it was found
			return s.tellURL(ask, nil)
		}
		return err
	}
	e.CRLF()
	return nil
}

// urlWriter writes what was asked of one URL.
type urlWriter struct {
	s         *session
	p         *pointed
	w         fetchWriter // for its stream
	announced bool        // a literal: there is no taking back
}

func (o *urlWriter) items(ask *imap.URLFetch) error {
	e := o.s.enc
	var plain *decodedPart
	if ask.Binary {
		var err error
		if plain, err = o.p.decode(o.s.ctx); err != nil {
			return err
		}
	}
	// One list for all of it, where RFC 5524, 5 has one for each: so do the servers that
	// clients were made for.
	open := " ("
	if ask.Structure {
		wire := partStructure(o.p.ld.facts.BodyStructure, o.p.item.Path)
		if plain != nil && plain.known {
			wire = plain.structure(wire, o.p)
		}
		if wire != nil {
			e.Raw(open + "BODYPARTSTRUCTURE ").RawBytes(wire)
			open = " "
		}
	}
	switch {
	case !ask.Extended():
		e.SP()
		return o.body()
	case ask.Body:
		e.Raw(open + "BODY ")
		if err := o.body(); err != nil {
			return err
		}
		open = " "
	case ask.Binary:
		e.Raw(open + "BINARY ")
		if err := o.binary(plain); err != nil {
			return err
		}
		open = " "
	}
	if open == " (" { // nothing is known of it
		e.Raw(" NIL")
	} else {
		e.Raw(")")
	}
	return nil
}

func (o *urlWriter) body() error {
	r, n, err := o.p.open(o.s.ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	return o.literal(r, n, false)
}

func (o *urlWriter) binary(plain *decodedPart) error {
	if !plain.known { // RFC 5524, 3.2
		o.s.enc.Raw("NIL")
		return nil
	}
	r, err := o.p.plain(o.s.ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	skip, n := o.p.cut(0, plain.whole)
	if _, err := io.CopyN(io.Discard, r, skip); err != nil {
		return err
	}
	return o.literal(r, n, plain.nul)
}

func (o *urlWriter) literal(r io.Reader, n int64, eight bool) error {
	if n == 0 {
		o.s.enc.Raw(`""`)
		return nil
	}
	o.announced = true
	o.s.enc.LiteralHeader(n, eight)
	return o.w.stream(io.LimitReader(r, n), n)
}
