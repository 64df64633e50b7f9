package queue

import "github.com/martlet-mail/martlet/internal/mail"

// expire makes a recipient that has waited for too long a failed one. What the last
// attempt said stays: it is the reason.
func (m *message) expire(r *recipient) {
	r.state = failed
	m.owe(r, owedFailure)
}

// owe notes that the sender is to be told, if he wants to know and there is one
// (RFC 3461, 4.1 and 6.2; RFC 5321, 6.1).
func (m *message) owe(r *recipient, what uint8) {
	want := false
	switch {
	case m.env.From.IsZero() || r.Notify&mail.NotifyNever != 0:
	case what == owedFailure:
		want = r.Notify == mail.NotifyDefault || r.Notify&mail.NotifyFailure != 0
	case what == owedDelay:
		want = r.Notify == mail.NotifyDefault || r.Notify&mail.NotifyDelay != 0
	case what == owedSuccess:
		want = r.Notify&mail.NotifySuccess != 0
	}
	m.note(r, what, want)
}

// oweAll notes that the sender is to be told, whether or not he asked for it.
func (m *message) oweAll(r *recipient, what uint8) { m.note(r, what, true) }

func (m *message) note(r *recipient, what uint8, want bool) {
	if what != owedDelay && r.owed != 0 { // it is too late to speak of a delay
		r.owed = 0
		m.owed--
	}
	if want && r.owed == 0 {
		r.owed = what
		m.owed++
	}
}
