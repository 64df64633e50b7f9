package smtpd

import (
	"context"

	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

func (s *session) noop(context.Context, string) *smtp.Reply {
	return smtp.NewReply(250, "2.0.0", "still here")
}

// vrfy tells nothing: who collects addresses would ask (RFC 5321, 3.5.3 and 7.3).
func (s *session) vrfy(_ context.Context, arg string) *smtp.Reply {
	if arg == "" {
		return smtp.NewReply(501, "5.5.4", "syntax: VRFY address")
	}
	return smtp.NewReply(252, "2.5.0", "send some mail, I will try my best")
}

func (s *session) expn(context.Context, string) *smtp.Reply {
	return smtp.NewReply(502, "5.5.1", "lists are not expanded here")
}

func (s *session) help(context.Context, string) *smtp.Reply {
	return smtp.NewReply(214, "2.0.0", "see RFC 5321; the id of this connection is "+s.conn.ID())
}

func (s *session) quit(context.Context, string) *smtp.Reply {
	s.closing = true
	return smtp.NewReply(221, "2.0.0", s.Hostname+" says goodbye")
}
