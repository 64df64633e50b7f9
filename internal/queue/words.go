package queue

import (
	"fmt"
	"strings"
	"time"
)

// reasonOf says in words why a group waits after an attempt.
func reasonOf(results []Result) string {
	for _, r := range results {
		if r.Code/100 == 4 {
			return sentence(r)
		}
	}
	return ""
}

// sentence says what came of a recipient: "mx1.example.org answered 451 4.7.1
// Greylisted", or our own words.
func sentence(r Result) string {
	if r.Host == "" {
		return r.Text
	}
	return r.Host + " answered " + diagnostic(r)
}

// diagnostic is a host's answer on one line.
func diagnostic(r Result) string {
	s := fmt.Sprintf("%d", r.Code)
	for _, w := range [2]string{r.Enhanced, r.Text} {
		if w != "" {
			s += " " + w
		}
	}
	return s
}

// why is the reason a person is shown for a group that waits, with what comes next.
func why(g *group, l *lane, m *message, flying bool, now int64) string {
	reason := g.reason
	if reason == "" {
		reason = "not tried yet"
	}
	next := g.next
	if l != nil && l.notBefore > next {
		next = l.notBefore
		if (g.reason == "" || l.fails == 0) && l.reason != "" {
			reason = l.reason
		}
	}
	switch {
	case m.heldAt != 0:
		return reason + "; held, nothing is tried until it is released"
	case g.attempts == 0 && m.release() > now:
		return "its sender wants it released in " + span(time.Duration(m.release()-now)*time.Millisecond)
	case flying:
		return reason + "; being tried now"
	case next <= now:
		return reason + "; next try as soon as there is room"
	}
	return reason + "; next try in " + span(time.Duration(next-now)*time.Millisecond)
}

// span says how long something takes, as people say it.
func span(d time.Duration) string {
	switch {
	case d < 90*time.Second:
		return fmt.Sprintf("%d s", max(1, int(d.Round(time.Second).Seconds())))
	case d < 90*time.Minute:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute).Minutes()))
	case d < 36*time.Hour:
		return fmt.Sprintf("%d h", int(d.Round(time.Hour).Hours()))
	}
	return fmt.Sprintf("%d days", int((d+12*time.Hour).Hours()/24))
}

// status is the enhanced code for a report: the host's, or one made of the class of
// its answer (RFC 3464, 2.3.4).
func status(r Result) string {
	if r.Enhanced != "" {
		return r.Enhanced
	}
	return fmt.Sprintf("%d.0.0", r.Code/100)
}

// advice says what the sender of a failed message can do, by status (RFC 3463).
func advice(status string) string {
	_, kind, _ := strings.Cut(status, ".")
	for _, a := range [...]struct{ kind, say string }{
		{"1.10", "The domain takes no mail at all. Ask the recipient for another address."},
		{"1.2", "Check the part after the @ for typing mistakes."},
		{"1.", "Check the address for typing mistakes, or ask the recipient for the right one."},
		{"2.2", "The mailbox is full. Try again later, or reach the recipient another way."},
		{"2.", "The mailbox cannot take mail now. Reach the recipient another way."},
		{"3.4", "The message is too large. Send it with fewer or smaller attachments."},
		{"4.7", "The other side could not be reached for days. Try again later, or reach the recipient another way."},
		{"4.6", "The domain's mail is routed in a circle. Its administrator has to change that."},
		{"4.", "The other side cannot be reached as it is set up. Reach the recipient another way, and let them tell their administrator."},
		{"6.7", "The other side cannot take addresses with letters beyond a-z. Ask for a plain address."},
		{"6.", "The other side cannot take the message in this form. Send it as plain text or without attachments."},
		{"7.", "The other side refuses the message by its rules. Reach the recipient another way, and show them its answer."},
	} {
		if strings.HasPrefix(kind, a.kind) && (strings.HasSuffix(a.kind, ".") || kind == a.kind) {
			return a.say
		}
	}
	return "Reach the recipient another way, and show them or your administrator this report."
}
