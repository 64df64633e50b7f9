package smtpd

import (
	"context"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// auth logs in (RFC 4954, 4).
func (s *session) auth(ctx context.Context, arg string) *smtp.Reply {
	if s.loggedIn {
		return smtp.NewReply(503, "5.5.1", "already logged in")
	}
	mechanism, initial, bad := smtp.ParseAuth(arg)
	if bad != nil {
		return bad
	}
	if !s.conn.MayLogin() {
		return smtp.NewReply(538, "5.7.11", "login needs TLS: say STARTTLS first")
	}
	attempt := s.Directory.Attempt(ctx, s.conn)
	exchange, err := sasl.New(mechanism, s.Directory.Offer(ctx, s.conn), attempt)
	if err != nil {
		return smtp.NewReply(504, "5.5.4", fault.Say(err))
	}
	if bad := s.converse(exchange, initial); bad != nil {
		return bad
	}
	if err := s.conn.SignIn(attempt.Account().Address.String()); err != nil {
		s.conn.Log().Warn("login refused", "account", attempt.Account().Address, "err", err)
		s.closing = true
		return smtp.NewReply(421, "4.7.0", fault.Say(err))
	}
	s.account, s.loggedIn = attempt.Account(), true
	s.conn.LogWith("account", s.account.Address.String())
	s.conn.Log().Info("logged in", "mechanism", mechanism)
	return smtp.NewReply(235, "2.7.0", "logged in")
}

// converse carries an exchange to its end; nil means that it is proven who the
// client is.
func (s *session) converse(x *sasl.Exchange, initial string) *smtp.Reply {
	var response []byte
	if initial != "" {
		var err error
		if response, err = sasl.DecodeInitial([]byte(initial)); err != nil {
			return badResponse(err)
		}
	}
	for {
		challenge, done, err := x.Step(response)
		switch {
		case err != nil:
			return s.loginFailed(x, err)
		case done:
			return nil
		}
		s.send(smtp.NewReply(334, "", sasl.Encode(challenge)))
		line, err := smtp.ReadLine(s.conn.R, smtp.MaxAuth)
		if err != nil {
			return s.badLine(err)
		}
		if response, err = sasl.Decode(line); err != nil {
			return badResponse(err)
		}
	}
}

// badResponse answers a response that could not be decoded, "*" among them.
func badResponse(err error) *smtp.Reply {
	if err == sasl.ErrCancelled {
		return smtp.NewReply(501, "5.0.0", fault.Say(err))
	}
	return smtp.NewReply(501, "5.5.2", fault.Say(err))
}

// loginFailed answers a failed exchange and gives up on a client that fails often.
func (s *session) loginFailed(x *sasl.Exchange, err error) *smtp.Reply {
	s.conn.Log().Warn("login failed", "login", x.Login(), "peer", s.conn.Peer(), "err", err)
	if s.failures++; s.failures >= s.MaxFailures {
		s.closing = true
	}
	switch kind := fault.Of(err); {
	case kind == fault.Unauthenticated:
		return smtp.NewReply(535, "5.7.8", fault.Say(err))
	case kind.Temporary():
		return smtp.NewReply(454, "4.7.0", fault.Say(err))
	case kind == fault.Invalid || kind == fault.TooLarge:
		return smtp.NewReply(501, "5.5.2", fault.Say(err))
	}
	return smtp.NewReply(535, "5.7.8", fault.Say(err))
}
