package smtpd

import (
	"context"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// startTLS begins TLS; all that was said before is forgotten, for anybody could have
// said it (RFC 3207, 4).
func (s *session) startTLS(ctx context.Context, _ string) *smtp.Reply {
	if !s.conn.CanStartTLS() {
		if _, secure := s.conn.TLS(); secure {
			return smtp.NewReply(503, "5.5.1", "TLS is active already")
		}
		return smtp.NewReply(454, "4.7.0", "TLS is not available")
	}
	s.send(smtp.NewReply(220, "2.0.0", "ready to start TLS"))
	if err := s.conn.StartTLS(ctx); err != nil {
		s.closing = true
		return nil
	}
	s.reset()
	s.helo, s.extended = "", false
	s.account, s.loggedIn = directory.Account{}, false
	return nil
}
