package smtpd

import (
	"context"
	"fmt"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
	"github.com/martlet-mail/martlet/internal/trace"
)

// mail begins a message (RFC 5321, 4.1.1.2).
func (s *session) mail(ctx context.Context, arg string) *smtp.Reply {
	if s.Kind == Submission && !s.loggedIn {
		return s.loginNeeded()
	}
	m, bad := smtp.ParseMail(arg, s.extended)
	if bad != nil {
		return bad
	}
	if limit := s.Store.MaxMessage(); m.Size > limit { // RFC 1870, 6.1
		return smtp.NewReply(552, "5.3.4", fmt.Sprintf("message is larger than %d bytes", limit))
	}
	if _, secure := s.conn.TLS(); m.RequireTLS && !secure { // RFC 8689, 2
		return smtp.NewReply(555, "5.5.4", "REQUIRETLS is only taken over TLS")
	}
	if bad := s.maySend(ctx, m.From); bad != nil {
		return bad
	}
	if s.stranger() {
		if err := s.Guard.Begin(s.conn.Peer()); err != nil {
			return smtp.NewReply(450, "4.7.1", fault.Say(err))
		}
	}
	env := mail.Envelope{
		From: m.From, EnvID: m.EnvID, Ret: m.Ret, UTF8: m.UTF8,
		Body8Bit: m.Body == smtp.Body8Bit || m.Body == smtp.BodyBinary, Binary: m.Body == smtp.BodyBinary,
		Helo: s.helo, Protocol: s.protocol(m.UTF8), RequireTLS: m.RequireTLS,
	}
	lowered, bad := s.ask(m.Ask, &env)
	if bad != nil {
		return bad
	}
	s.tx = &transaction{env: env}
	if s.loggedIn {
		s.tx.env.Login = s.account.Address.String()
	}
	if peer := s.conn.Peer(); peer.IsValid() {
		s.tx.env.Peer = peer.String()
	}
	if lowered { // RFC 6710, 4.1
		return smtp.NewReply(250, "2.3.6", "0 is the priority: who has not logged in may only lower it")
	}
	return smtp.NewReply(250, "2.1.0", "sender accepted")
}

// loginNeeded tells the next step to take (RFC 4954, 6; RFC 3207, 4).
func (s *session) loginNeeded() *smtp.Reply {
	if !s.conn.MayLogin() {
		return smtp.NewReply(530, "5.7.0", "say STARTTLS and log in first")
	}
	return smtp.NewReply(530, "5.7.0", "log in first")
}

// maySend holds a submitted message's sender against the login (RFC 6409, 6.1).
func (s *session) maySend(ctx context.Context, from mail.Address) *smtp.Reply {
	if s.Kind != Submission {
		return nil
	}
	err := s.Directory.MaySend(ctx, s.account.ID, from)
	switch {
	case err == nil:
		return nil
	case fault.Is(err, fault.Denied):
		return smtp.NewReply(550, "5.7.1", fault.Say(err))
	}
	return s.refusal(err)
}

const tooManyRecipients = "4.5.3"

// maxEnvelope is how many bytes of recipients are kept for a stranger: 100 of them, however
// long (RFC 5321, 4.5.3.1.8), and some 350 as they usually are. The others come with the
// next message.
const (
	maxEnvelope  = 36 << 10
	perRecipient = 72
)

// rcpt adds a recipient (RFC 5321, 4.1.1.3). Whether it exists is answered here, so
// that no report has to go to a sender who may be forged.
func (s *session) rcpt(ctx context.Context, arg string) *smtp.Reply {
	to, bad := smtp.ParseRcpt(arg, s.extended, s.tx.env.UTF8)
	if bad != nil {
		return bad
	}
	to.Address.Local, to.Address.Domain = strings.Clone(to.Address.Local), strings.Clone(to.Address.Domain) // not the whole line
	size := s.tx.size + len(to.Address.Local) + len(to.Address.Domain) + len(to.ORcpt) + perRecipient
	if len(s.tx.env.To) >= s.MaxRecipients || size > maxEnvelope && !s.loggedIn && !s.conn.Trusted() {
		return smtp.NewReply(452, tooManyRecipients, "too many recipients")
	}
	local, account, err := s.Receiver.Check(ctx, s.tx.env.From, to.Address)
	switch {
	case err != nil:
		return s.noteRefused(s.refusal(err), to)
	case !local && s.keepsFor(ctx, to.Address, &err):
		if err != nil {
			return s.noteRefused(s.refusal(err), to)
		}
	case !local && s.Kind != Submission:
		return s.noteRefused(smtp.NewReply(550, "5.7.1", "no relaying: mail for "+clip(to.Address.Domain)+" is not taken here"), to)
	}
	if s.stranger() {
		if err := s.Guard.Recipient(ctx, s.conn.Peer(), s.tx.env.From, to.Address); err != nil {
			return s.noteRefused(smtp.NewReply(450, "4.7.1", fault.Say(err)), to)
		}
	}
	if s.Suppressed != nil && s.loggedIn && !local {
		if err := s.Suppressed(ctx, s.tx.env.Login, to.Address, s.tx.env.VERP); fault.Is(err, fault.NotFound) {
			return s.noteRefused(smtp.NewReply(550, "5.1.1", fault.Say(err)), to)
		} else if err != nil {
			return s.refusal(err)
		}
	}
	if bad := s.allowed(ctx, len(s.tx.env.To)+1, false); bad != nil {
		return s.noteRefused(bad, to)
	}
	if len(s.tx.env.To) == 0 {
		s.tx.party = partyOf(to.Address, account)
	}
	s.tx.env.To, s.tx.size = append(s.tx.env.To, to), size
	return smtp.NewReply(250, "2.1.5", "recipient accepted")
}

// keepsFor tells whether we are a backup of the recipient's domain; err says why its mail
// is not taken.
func (s *session) keepsFor(ctx context.Context, to mail.Address, err *error) (backup bool) {
	if s.Backup != nil && s.Kind == Relay {
		backup, *err = s.Backup(ctx, to)
	}
	return backup
}

// maxNoted bounds the refused recipients of one session that are kept in the trace.
const maxNoted = 20

// noteRefused keeps in the trace who was refused, and returns the reply.
func (s *session) noteRefused(reply *smtp.Reply, to ...mail.Recipient) *smtp.Reply {
	if s.Trace == nil || s.noted >= maxNoted {
		return reply
	}
	s.noted++
	env := &s.tx.env
	e := trace.Event{What: trace.Refused, From: env.From.String(), Login: env.Login, Peer: env.Peer, Helo: env.Helo, Protocol: env.Protocol,
		TLS: s.tlsWords(), Code: reply.Code, Enhanced: reply.Enhanced, Text: strings.Join(reply.Lines, " ")}
	if env.From.IsZero() {
		e.From = "<>"
	}
	for _, t := range to {
		e.To = append(e.To, trace.Recipient{Address: t.Address.String(), State: trace.Failed})
	}
	s.Trace.Note(e)
	return reply
}

// rset forgets the message under way (RFC 5321, 4.1.1.5).
func (s *session) rset(context.Context, string) *smtp.Reply {
	s.reset()
	return smtp.NewReply(250, "2.0.0", "forgotten")
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "..."
	}
	return s
}
