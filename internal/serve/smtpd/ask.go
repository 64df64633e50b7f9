package smtpd

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// Queueing says what a listener offers of time and order.
type Queueing struct {
	MaxHold   time.Duration // FUTURERELEASE up to this, only for Submission; 0: not offered
	DeliverBy bool          // DELIVERBY
	MinBy     time.Duration // the least BY=...;R that is taken; 0: any
	Priority  bool          // MT-PRIORITY
	Policy    string        // name of its priority assignment policy; "": not said
	VERP      bool          // XVERP, only for Submission
}

// asks are the keywords of what is offered.
func (s *session) asks() (list []string) {
	if s.mayHold() { // RFC 4865, 3
		latest := s.Now().Add(s.Queueing.MaxHold).UTC().Truncate(time.Second)
		list = append(list, fmt.Sprintf("FUTURERELEASE %d %s", int64(s.Queueing.MaxHold/time.Second), latest.Format(time.RFC3339)))
	}
	if s.Queueing.DeliverBy { // RFC 2852, 2
		word := "DELIVERBY"
		if least := int64(s.Queueing.MinBy / time.Second); least > 0 {
			word += " " + strconv.FormatInt(least, 10)
		}
		list = append(list, word)
	}
	if s.Queueing.Priority { // RFC 6710, 3
		word := "MT-PRIORITY"
		if s.Queueing.Policy != "" {
			word += " " + s.Queueing.Policy
		}
		list = append(list, word)
	}
	if s.mayVERP() {
		list = append(list, "XVERP")
	}
	return list
}

func (s *session) mayHold() bool { return s.Kind == Submission && s.Queueing.MaxHold > 0 }
func (s *session) mayVERP() bool { return s.Kind == Submission && s.Queueing.VERP }

// ask takes over what MAIL asks for. lowered tells that the priority is not the one that
// was asked for: only who has logged in may raise it (RFC 6710, 4.1).
func (s *session) ask(a smtp.Ask, env *mail.Envelope) (lowered bool, bad *smtp.Reply) {
	now := s.Now()
	switch {
	case (a.HoldFor != 0 || !a.HoldUntil.IsZero()) && !s.mayHold():
		return false, notOffered("FUTURERELEASE")
	case a.By != mail.ByNone && !s.Queueing.DeliverBy:
		return false, notOffered("DELIVERBY")
	case a.HasPriority && !s.Queueing.Priority:
		return false, notOffered("MT-PRIORITY")
	case a.VERP && !s.mayVERP():
		return false, notOffered("XVERP")
	}
	if bad := s.hold(a, env, now); bad != nil {
		return false, bad
	}
	if a.By != mail.ByNone {
		env.By = mail.DeliverBy{Mode: a.By, At: now.Add(a.ByTime), Trace: a.ByTrace}
		if a.By == mail.ByReturn && a.ByTime < s.Queueing.MinBy {
			return false, smtp.NewReply(555, "5.5.4", fmt.Sprintf("BY is %d seconds at least", int64(s.Queueing.MinBy/time.Second)))
		}
		if env.ReleaseAt.After(env.By.At) { // RFC 4865, 5.2.2
			return false, smtp.NewReply(501, "5.5.4", "the time of release comes after that of BY")
		}
	}
	env.VERP = a.VERP && !env.From.IsZero()
	env.Priority = a.Priority
	if a.Priority > 0 && !s.loggedIn && s.Kind != LMTP {
		env.Priority, lowered = 0, true
	}
	return lowered, nil
}

// hold notes when the message is to be released (RFC 4865, 4.2).
func (s *session) hold(a smtp.Ask, env *mail.Envelope, now time.Time) *smtp.Reply {
	switch {
	case a.HoldFor != 0:
		env.ReleaseAt = now.Add(a.HoldFor)
		env.Release = fmt.Sprintf("for;%d", int64(a.HoldFor/time.Second))
	case !a.HoldUntil.IsZero():
		env.ReleaseAt = a.HoldUntil
		env.Release = "until;" + a.HoldUntil.UTC().Format(time.RFC3339)
		if !a.HoldUntil.After(now) {
			return smtp.NewReply(501, "5.5.4", "the time of release is past")
		}
	}
	if env.ReleaseAt.After(now.Add(s.Queueing.MaxHold + time.Second)) {
		return smtp.NewReply(501, "5.5.4", fmt.Sprintf("messages are held for %d seconds at most", int64(s.Queueing.MaxHold/time.Second)))
	}
	if env.From.IsZero() && env.Release != "" { // RFC 4865, 5.1.1
		return smtp.NewReply(501, "5.5.4", "a report is not held")
	}
	return nil
}

func notOffered(what string) *smtp.Reply {
	return smtp.NewReply(555, "5.5.4", what+" is not offered here")
}

// allowed holds a message against what its account may send. spend counts it.
func (s *session) allowed(ctx context.Context, recipients int, spend bool) *smtp.Reply {
	if s.Kind != Submission || s.Allowance == nil || !s.loggedIn {
		return nil
	}
	ask := s.Allowance.Check
	if spend {
		ask = s.Allowance.Spend
	}
	err := ask(ctx, s.account.Address.String(), recipients, s.conn.Trusted())
	switch {
	case err == nil:
		return nil
	case fault.Is(err, fault.Limited):
		return smtp.NewReply(452, "4.7.1", fault.Say(err))
	}
	return s.refusal(err)
}
