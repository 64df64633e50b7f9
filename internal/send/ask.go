package send

import (
	"strconv"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// deadline says why this host cannot be given a message that is to be delivered in time or
// go back (RFC 2852, 4.1.4.1), nil if it can.
func (s *session) deadline(j *job) *refusal {
	if j.env.By.Mode != mail.ByReturn {
		return nil
	}
	least, known := s.ext["DELIVERBY"]
	if !known {
		return ours(450, "4.3.3", s.t.host+" does not offer DELIVERBY, which the sender asks for")
	}
	if n, err := strconv.Atoi(least); err == nil && time.Duration(n)*time.Second > s.remaining(j) {
		return ours(450, "4.3.3", s.t.host+" promises no delivery in the time that is left for it")
	}
	return nil
}

// remaining is the time until a message's deadline.
func (s *session) remaining(j *job) time.Duration { return j.env.By.At.Sub(s.c.opt.Now()) }

// ask is what the host is told of a message's priority and deadline.
func (s *session) ask(j *job) (a smtp.Ask) {
	if j.env.Priority != 0 && s.has("MT-PRIORITY") {
		a.Priority, a.HasPriority = j.env.Priority, true
	}
	if by := j.env.By; by.Mode != mail.ByNone && s.has("DELIVERBY") {
		a.By, a.ByTrace = by.Mode, by.Trace
		a.ByTime = max(-999_999_999*time.Second, s.remaining(j))
		if by.Mode == mail.ByReturn {
			a.ByTime = max(time.Second, a.ByTime)
		}
	}
	return a
}

// notify adds the wish to hear of a delay where the host cannot know of the deadline
// (RFC 2852, 4.1.4.2).
func (s *session) notify(j *job, r mail.Recipient) mail.Notify {
	if j.env.By.Mode != mail.ByNotify || s.has("DELIVERBY") || r.Notify&mail.NotifyNever != 0 {
		return r.Notify
	}
	if r.Notify == mail.NotifyDefault {
		return mail.NotifyFailure | mail.NotifyDelay
	}
	return r.Notify | mail.NotifyDelay
}
