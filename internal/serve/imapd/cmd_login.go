package imapd

import (
	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
)

// startTLS is STARTTLS (RFC 9051, 6.2.1). The tagged answer goes out in plain text;
// nothing the client sent before the handshake is used after it.
func (s *session) startTLS(cmd *command) (reply, error) {
	if !s.c.CanStartTLS() {
		return bad("STARTTLS is not offered here"), nil
	}
	if s.c.R.Buffered() > 0 { // commands smuggled in before the handshake
		return reply{}, fatal{fault.New(fault.Limited, "nothing may follow STARTTLS before the handshake")}
	}
	s.answer(cmd.tag, ok("begin TLS now"))
	if err := s.flush(); err != nil {
		return reply{}, err
	}
	if err := s.c.StartTLS(s.ctx); err != nil {
		return reply{}, fatal{err}
	}
	return reply{sent: true}, nil
}

// offer says which mechanisms this connection may use.
func (s *session) offer() sasl.Offer {
	return s.srv.opt.Directory.Offer(s.ctx, s.c)
}

// loginCommand is LOGIN (RFC 9051, 6.2.3).
func (s *session) loginCommand(*command) (reply, error) {
	var user, password string
	d := s.dec
	if !d.ExpectSP() || !d.ExpectAString(&user) || !d.ExpectSP() || !d.ExpectAString(&password) || !d.ExpectCRLF() {
		return reply{}, d.Err()
	}
	return s.login(user, password)
}

func (s *session) login(user, password string) (reply, error) {
	if !s.c.MayLogin() {
		return no("PRIVACYREQUIRED", "LOGIN is possible under TLS only"), nil
	}
	account, err := s.srv.opt.Directory.Authenticate(s.ctx, user, password, s.c.Peer())
	return s.signIn(account, user, err)
}

// authenticate is AUTHENTICATE (RFC 9051, 6.2.2; RFC 4959 for the initial response).
func (s *session) authenticate(*command) (reply, error) {
	var name, initial string
	d := s.dec
	if !d.ExpectSP() || !d.ExpectAtom(&name) {
		return reply{}, d.Err()
	}
	hasInitial := d.SP()
	if hasInitial && !d.ExpectAString(&initial) || !d.ExpectCRLF() {
		return reply{}, d.Err()
	}
	attempt := s.srv.opt.Directory.Attempt(s.ctx, s.c)
	x, err := sasl.New(name, s.offer(), attempt)
	switch {
	case fault.Is(err, fault.Denied):
		return reply{}, coded("PRIVACYREQUIRED", err)
	case err != nil:
		return reply{}, err
	}
	var response []byte
	if hasInitial {
		if response, err = sasl.DecodeInitial([]byte(initial)); err != nil {
			return bad("%s", fault.Say(err)), nil
		}
	}
	for {
		challenge, done, err := x.Step(response)
		switch {
		case fault.Is(err, fault.Invalid): // not a response of this mechanism
			err = misuse(err)
		case fault.Is(err, fault.Denied): // RFC 5530, 3
			err = coded("AUTHORIZATIONFAILED", err)
		}
		if done || err != nil {
			return s.signIn(attempt.Account(), x.Login(), err)
		}
		if response, err = s.challenge(challenge); err != nil {
			if d.Err() == nil { // "*" or bad base64: the command is over, not the session
				return bad("%s", fault.Say(err)), nil
			}
			return reply{}, err
		}
	}
}

// challenge sends a challenge and reads the response.
func (s *session) challenge(challenge []byte) ([]byte, error) {
	if err := s.ask(sasl.Encode(challenge)); err != nil {
		return nil, err
	}
	line, err := s.dec.Line()
	if err != nil {
		return nil, err
	}
	return sasl.Decode([]byte(line))
}

// signIn ends a sign-in: with err, as a failure that does not say what was wrong, or
// with LIMIT if the account has too many connections.
func (s *session) signIn(account directory.Account, login string, err error) (reply, error) {
	if err == nil {
		err = s.c.SignIn(account.Address.String())
	}
	if err != nil {
		s.failures++
		s.c.Log().Info("login failed", "login", login, "peer", s.c.Peer(), "err", err)
		return reply{}, err
	}
	s.acct, s.state, s.bad = s.srv.opt.Store.Account(account.ID).As(account.ID), signedIn, 0
	s.failures = 0
	s.admin = s.srv.opt.Administrator != nil && s.srv.opt.Administrator(account.ID)
	s.c.LogWith("account", account.Address.String())
	s.c.SetIdle(s.srv.opt.Idle)
	s.dec.SetLimits(imap.DefaultLimits)
	s.c.Log().Info("login", "peer", s.c.Peer())
	return okCode("CAPABILITY "+s.capabilities(), "welcome"), nil
}
