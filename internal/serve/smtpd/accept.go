package smtpd

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/martlet-mail/martlet/internal/receive"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// deliverFor is how long a delivery may take: less than clients wait for the answer
// (RFC 5321, 4.5.3.2.6: 10 minutes).
const deliverFor = 5 * time.Minute

// accept brings a message that is stored whole to its recipients and answers for
// them.
func (s *session) accept(ctx context.Context, msg *store.Parcel) *smtp.Reply {
	if bad := s.checkFrom(ctx, msg); bad != nil {
		return s.answerAll(bad)
	}
	if bad := s.allowed(ctx, len(s.tx.env.To), true); bad != nil {
		return s.answerAll(bad)
	}
	ctx, cancel := context.WithTimeout(ctx, deliverFor)
	defer cancel()
	id, env := s.messageID(), s.tx.env
	env.ID, env.TLS = id, s.tlsWords()
	if s.Store.IsShared() {
		env.Sent = sentAs(msg)
	}
	var results []receive.Result
	if s.stranger() {
		results = s.Receiver.FromOutside(ctx, env, msg, s.received())
	} else {
		results = s.Receiver.Deliver(ctx, env, msg.Prepend(s.received()))
	}
	failed := 0
	for _, r := range results {
		if r.Err != nil {
			failed++
		}
	}
	s.conn.Log().Info("message", "id", id, "from", env.From.String(), "recipients", len(env.To),
		"failed", failed, "size", msg.Size(), "message_id", msg.Message().MessageID)
	if failed < len(results) {
		s.accepted++
		s.made = tally{}
	}
	defer s.reset()
	if s.Kind == LMTP {
		return s.answerEach(results, id)
	}
	return s.answerOne(results, failed, id)
}

// sentAs names the bytes of a message as the client sent it.
func sentAs(msg *store.Parcel) (name [32]byte) {
	sum, body := sha256.New(), msg.Digest()
	sum.Write(msg.Header())
	sum.Write(body[:])
	return [32]byte(sum.Sum(nil))
}

// stranger tells whether nobody vouches for the client: mail from other hosts is checked.
func (s *session) stranger() bool {
	return s.Kind == Relay && !s.loggedIn && (s.CheckTrusted || !s.conn.Trusted())
}

// answerOne is the answer of SMTP, which has one for all recipients. Where some are
// served and others can neither be served nor wait, the client is asked to try
// again: a second copy is better than none.
func (s *session) answerOne(results []receive.Result, failed int, id string) *smtp.Reply {
	if failed == 0 {
		return smtp.NewReply(250, "2.0.0", "accepted as "+id)
	}
	var worst *smtp.Reply
	for _, r := range results {
		if r.Err == nil {
			continue
		}
		if reply := s.replyOf(r); worst == nil || reply.Temporary() && !worst.Temporary() {
			worst = reply
		}
	}
	if failed < len(results) && !worst.Temporary() {
		return smtp.NewReply(451, "4.3.0", "not all recipients could be served, try again later")
	}
	return worst
}

// answerEach writes the answer for every recipient but the last, which it returns
// (RFC 2033, 4.2).
func (s *session) answerEach(results []receive.Result, id string) *smtp.Reply {
	var reply *smtp.Reply
	for i, r := range results {
		s.send(reply)
		reply = s.replyOf(r)
		if r.Err == nil {
			reply.Lines[0] = s.tx.env.To[i].Address.String() + " has it as " + id
		}
	}
	return reply
}

// answerAll ends a message that is refused as a whole: one reply, or with LMTP the
// same for every recipient.
func (s *session) answerAll(reply *smtp.Reply) *smtp.Reply {
	n := len(s.tx.env.To)
	s.noteRefused(reply, s.tx.env.To...)
	s.conn.Log().Info("message refused", "from", s.tx.env.From.String(), "recipients", n, "reply", reply.String())
	s.reset()
	if s.Kind == LMTP {
		for range n - 1 {
			s.send(reply)
		}
	}
	return reply
}
