package smtpd

import (
	"context"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// ehlo begins or begins anew, and says what we offer (RFC 5321, 4.1.1.1; RFC 2033,
// 4.1 for LHLO).
func (s *session) ehlo(ctx context.Context, arg string) *smtp.Reply {
	name, bad := smtp.ParseHelo(arg)
	if bad != nil {
		return bad
	}
	s.reset()
	s.helo, s.extended = name, true
	return &smtp.Reply{Code: 250, Lines: append([]string{s.Hostname}, s.extensions(ctx)...)}
}

// hello is for clients that know no extension.
func (s *session) hello(_ context.Context, arg string) *smtp.Reply {
	name, bad := smtp.ParseHelo(arg)
	if bad != nil {
		return bad
	}
	s.reset()
	s.helo, s.extended = name, false
	return smtp.NewReply(250, "", s.Hostname)
}

// extensions are what works just now: STARTTLS until it is done, AUTH only where a
// password may travel.
func (s *session) extensions(ctx context.Context) []string {
	list := []string{
		"PIPELINING",
		"SIZE " + strconv.FormatInt(s.Store.MaxMessage(), 10),
		"8BITMIME",
		"SMTPUTF8",
		"CHUNKING",
		"BINARYMIME",
		"ENHANCEDSTATUSCODES",
		"DSN",
		"LIMITS RCPTMAX=" + strconv.Itoa(s.MaxRecipients), // RFC 9422, 3
	}
	if s.Kind == Submission && s.URLs != nil {
		list = append(list, s.burlKeyword())
	}
	list = append(list, s.asks()...)
	if s.conn.CanStartTLS() {
		list = append(list, "STARTTLS")
	}
	if _, secure := s.conn.TLS(); secure {
		list = append(list, "REQUIRETLS") // RFC 8689, 2
	}
	if mechanisms := s.Directory.Offer(ctx, s.conn).Mechanisms(); s.Kind == Submission && !s.loggedIn && len(mechanisms) > 0 {
		list = append(list, "AUTH "+strings.Join(mechanisms, " "))
	}
	return list
}
