package pop3d

import (
	"context"
	"fmt"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// capa lists what can be done now (RFC 2449, 5). Of what a client may use before
// login all is named after it too, but for STLS.
func (s *session) capa(ctx context.Context, _ []string) error {
	s.ok("capabilities follow")
	lines := []string{"TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", "UTF8 USER", "LANG"}
	if s.conn.MayLogin() {
		lines = append(lines, "USER", "SASL "+strings.Join(s.offer(ctx).Mechanisms(), " "))
	}
	if s.state() == authorization && s.conn.CanStartTLS() {
		lines = append(lines, "STLS")
	}
	lines = append(lines, "IMPLEMENTATION Martlet", ".")
	for _, l := range lines {
		fmt.Fprintf(s.conn.W, "%s\r\n", l)
	}
	return nil
}

// stls begins TLS (RFC 2595, 4). Nothing that was said before counts after it.
func (s *session) stls(ctx context.Context, _ []string) error {
	switch {
	case !s.conn.CanStartTLS():
		return fault.New(fault.Invalid, "TLS is not available or has begun already")
	case s.utf8: // RFC 6856, 2.1
		return fault.New(fault.Invalid, "STLS must come before UTF8")
	case s.conn.R.Buffered() > 0:
		s.over = true
		return fault.New(fault.Invalid, "nothing may be sent before the answer to STLS")
	}
	s.ok("begin TLS")
	if err := s.conn.StartTLS(ctx); err != nil {
		s.over = true
	}
	s.user = ""
	return nil
}

// userName notes the login name; whether there is such an account shows at PASS.
func (s *session) userName(_ context.Context, args []string) error {
	if !s.conn.MayLogin() {
		return needTLS()
	}
	s.user = args[0]
	s.ok("now the password")
	return nil
}

// pass logs in with the name of USER (RFC 1939, 7).
func (s *session) pass(ctx context.Context, args []string) error {
	user := s.user
	s.user = ""
	switch {
	case !s.conn.MayLogin():
		return needTLS()
	case user == "":
		return fault.New(fault.Invalid, "USER comes before PASS")
	}
	account, err := s.srv.opt.Directory.Authenticate(ctx, user, args[0], s.conn.Peer())
	if err != nil {
		return s.loginFailed(user, err)
	}
	return s.enter(ctx, account, "PASS")
}

// apop is refused: its digest can only be checked by who has the password itself.
func (s *session) apop(context.Context, []string) error {
	return fault.New(fault.Unsupported, "APOP would need passwords stored in the plain; use AUTH or PASS under TLS")
}

// auth logs in by SASL (RFC 5034, 4). Without an argument it lists the mechanisms, as
// clients older than CAPA expect.
func (s *session) auth(ctx context.Context, args []string) error {
	if len(args) == 0 {
		s.ok("mechanisms follow")
		for _, name := range append(s.offer(ctx).Mechanisms(), ".") {
			fmt.Fprintf(s.conn.W, "%s\r\n", name)
		}
		return nil
	}
	if !s.conn.MayLogin() {
		return needTLS()
	}
	attempt := s.srv.opt.Directory.Attempt(ctx, s.conn)
	x, err := sasl.New(args[0], s.offer(ctx), attempt)
	if err != nil {
		return err
	}
	var response []byte
	if len(args) > 1 {
		if response, err = sasl.DecodeInitial([]byte(args[1])); err != nil {
			return err
		}
	}
	for {
		challenge, done, err := x.Step(response)
		switch {
		case err != nil:
			return s.loginFailed(x.Login(), err)
		case done:
			return s.enter(ctx, attempt.Account(), strings.ToUpper(args[0]))
		}
		fmt.Fprintf(s.conn.W, "+ %s\r\n", sasl.Encode(challenge))
		line, err := smtp.ReadLine(s.conn.R, sasl.MaxLine+2)
		if err != nil {
			if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
				s.over = true
				err = fault.Wrap(fault.Closed, "connection is closed", err)
			}
			return err
		}
		if response, err = sasl.Decode(line); err != nil {
			return err
		}
	}
}

func (s *session) offer(ctx context.Context) sasl.Offer {
	return s.srv.opt.Directory.Offer(ctx, s.conn)
}

func needTLS() error {
	return fault.New(fault.Unsupported, "login needs TLS: say STLS first")
}

// loginFailed gives up on a client that fails often.
func (s *session) loginFailed(login string, err error) error {
	s.conn.Log().Warn("login failed", "login", login, "peer", s.conn.Peer(), "err", err)
	if s.failures++; s.failures >= s.srv.opt.MaxFailures {
		s.over = true
	}
	return err
}

// utf8Mode is RFC 6856, 2.1. Messages are sent as they are in either mode.
func (s *session) utf8Mode(context.Context, []string) error {
	s.utf8 = true
	s.ok("UTF8 it is")
	return nil
}

// lang chooses the language of answers (RFC 6856, 3): there is one.
func (s *session) lang(_ context.Context, args []string) error {
	if len(args) == 0 {
		s.ok("languages follow")
		fmt.Fprint(s.conn.W, "en English\r\n.\r\n")
		return nil
	}
	switch strings.ToLower(args[0]) {
	case "*", "en", "i-default":
		s.ok("en answers are in English")
		return nil
	}
	return fault.New(fault.NotFound, "en this language is not available")
}
