package queue

import (
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Times that a sender has asked for: of release (RFC 4865) and of delivery (RFC 2852).

// release is when a message may first be tried; 0: at once.
func (m *message) release() int64 {
	if m.env.ReleaseAt.IsZero() {
		return 0
	}
	return m.env.ReleaseAt.UnixMilli()
}

// deadline is when the sender wants a message to be delivered; 0: whenever.
func (m *message) deadline() int64 {
	if m.env.By.Mode == mail.ByNone {
		return 0
	}
	return max(m.env.By.At.UnixMilli(), 1)
}

// returns tells whether a message goes back at its deadline.
func (m *message) returns() bool { return m.env.By.Mode == mail.ByReturn }

// times sets when a message is given up and when its sender is told of a delay. No alarm
// is further away than it is for mail without wishes: strike sets it again.
func (m *message) times(r Rules, delayAfter time.Duration) {
	begin := max(m.created, m.release())
	m.expires = begin + r.Lifetime.Milliseconds()
	m.expiryAt = m.created + r.Lifetime.Milliseconds()
	if delayAfter > 0 {
		m.delayAt = m.created + delayAfter.Milliseconds()
	}
	switch by := m.deadline(); {
	case by == 0:
	case m.returns():
		m.expires = min(m.expires, by)
		m.expiryAt = min(m.expiryAt, by)
	case by > m.created && by < m.expiryAt: // past, it was told of where that happened
		m.delayAt = by
	}
}

// early returns when an alarm is to ring instead, that is there only because the message
// was not to be released yet, or its domain was held; 0 if it rings rightly.
func (q *Queue) early(m *message, kind int, now int64) int64 {
	wait := int64(0)
	switch release := m.release(); {
	case kind == alarmExpiry:
		wait = m.expires - now
	case release == 0:
		return 0
	case m.env.By.Mode != mail.ByNotify:
		wait = release + q.opt.DelayAfter.Milliseconds() - now
	}
	if wait <= 0 {
		return 0
	}
	return now + min(wait, q.opt.Lifetime.Milliseconds())
}

// verp returns the sender that a recipient's copy has: local+bob=example.net@domain.
func verp(from, to mail.Address) mail.Address {
	if from.IsZero() || to.Domain == "" {
		return from
	}
	local := from.Local + "+" + strings.ReplaceAll(to.Local, "@", "=") + "=" + to.Domain
	if len(local) > 64 { // RFC 5321, 4.5.3.1.1
		return from
	}
	return mail.Address{Local: local, Domain: from.Domain}
}

// sender is who is told of a recipient.
func (m *message) sender(to mail.Address) mail.Address {
	if m.env.VERP {
		return verp(m.env.From, to)
	}
	return m.env.From
}

// relays tells whether the sender is to hear that a host took a message over, although he
// did not ask for reports of success: his deadline is out of our hands (RFC 2852, 4.1.4).
func (m *message) relays(r *recipient, res Result, now int64) bool {
	by := m.env.By
	if by.Mode == mail.ByNone || res.Host == "" || r.Notify&mail.NotifyNever != 0 || m.env.From.IsZero() {
		return false
	}
	return by.Trace || by.Mode == mail.ByNotify && !res.InTime && now < m.deadline()
}

// late is what comes of an attempt after a deadline that nothing may come after.
var late = Result{Code: 554, Enhanced: "5.4.7", Text: "the time in which it was to be delivered is over"}
