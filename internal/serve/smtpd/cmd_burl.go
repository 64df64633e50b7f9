package smtpd

import (
	"bufio"
	"context"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// URLs reads what IMAP URLs mean. *imapd.Server is one.
type URLs interface {
	// OpenURL opens what a URL means for an account that submits a message, and tells
	// how many bytes that are. URLs without an authorisation of their own are of the
	// account's own mail on the host. Faults: Invalid if it is no URL of a message,
	// Unsupported if it is another host's, Denied if it gives the account nothing,
	// NotFound if it leads to nothing.
	OpenURL(ctx context.Context, user mail.AccountID, host, url string) (io.ReadCloser, int64, error)
}

// burl takes what a URL means for a chunk of the message (RFC 4468, 3.2). If it cannot be
// had the message is given up.
func (s *session) burl(ctx context.Context, arg string) *smtp.Reply {
	if s.URLs == nil {
		return smtp.NewReply(502, "5.5.1", "BURL is not offered here")
	}
	url, last, bad := smtp.ParseBURL(arg)
	switch {
	case bad != nil:
		return bad
	case s.state() == mailing:
		return smtp.NewReply(554, "5.5.0", "no recipients have been specified")
	case s.state()&(addressed|chunking) == 0:
		return s.misplaced("BURL")
	}
	b := s.body(ctx)
	if b.failed {
		return s.answerAll(smtp.NewReply(503, "5.5.1", "an earlier chunk failed: begin the message anew"))
	}
	r, n, err := s.URLs.OpenURL(ctx, s.account.ID, s.Hostname, url)
	if err != nil {
		return s.answerAll(s.urlRefused(err))
	}
	defer r.Close()
	b.chunks.BeginFrom(bufio.NewReader(r), n, last)
	switch err := b.take(last); {
	case fault.Is(err, fault.TooLarge): // RFC 4468, 6
		return s.answerAll(smtp.NewReply(554, "5.3.4", fault.Say(err)))
	case fault.Is(err, fault.NotFound): // expunged meanwhile
		return s.answerAll(s.urlRefused(err))
	case err != nil:
		return s.answerAll(s.refusal(err))
	case last:
		return s.accept(ctx, b.msg)
	case n == 0:
		s.made.idle++
	}
	return smtp.NewReply(250, "2.5.0", "waiting for more by BURL or BDAT")
}

// urlRefused answers a URL that could not be read (RFC 4468, 6).
func (s *session) urlRefused(err error) *smtp.Reply {
	switch fault.Of(err) {
	case fault.Invalid:
		return smtp.NewReply(554, "5.6.6", fault.Say(err))
	case fault.Unsupported:
		return smtp.NewReply(554, "5.7.8", fault.Say(err))
	case fault.Denied:
		return smtp.NewReply(554, "5.7.0", fault.Say(err))
	case fault.NotFound:
		return smtp.NewReply(554, "5.6.6", "IMAP URL resolution failed")
	}
	return s.refusal(err)
}

// burlKeyword is how BURL is announced: without arguments before login, which is how a
// client learns that it must log in to use it (RFC 4468, 3.1).
func (s *session) burlKeyword() string {
	if !s.loggedIn {
		return "BURL"
	}
	return "BURL imap imap://" + s.Hostname
}
