package smtp

import (
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Ask is what MAIL asks for in time and order. What is relative is as the client said it:
// the server adds its clock.
type Ask struct {
	Priority    int // MT-PRIORITY, -9 to 9 (RFC 6710)
	HasPriority bool

	HoldFor   time.Duration // HOLDFOR (RFC 4865); 0: not given
	HoldUntil time.Time     // HOLDUNTIL

	By      mail.ByMode   // BY (RFC 2852); ByNone: not given
	ByTime  time.Duration // until the deadline; not positive with ByNotify: it is past
	ByTrace bool

	VERP bool // XVERP
}

// set takes one parameter. known is false if it is not one of these.
func (a *Ask) set(name, value string) (known, ok bool) {
	switch name {
	case "MT-PRIORITY": // RFC 6710, 7
		a.Priority, ok = parsePriority(value)
		a.HasPriority = true
	case "HOLDFOR": // RFC 4865, 3
		var seconds int64
		seconds, ok = parseNumber(value)
		ok = ok && a.HoldUntil.IsZero() && value[0] != '0' && len(value) <= 9
		a.HoldFor = time.Duration(seconds) * time.Second
	case "HOLDUNTIL":
		var err error
		a.HoldUntil, err = time.Parse(time.RFC3339, value)
		ok = err == nil && a.HoldFor == 0 && strings.HasSuffix(value, "Z")
	case "BY":
		ok = a.setBy(value)
	case "XVERP":
		a.VERP, ok = true, value == "" || value == "+="
	default:
		return false, false
	}
	return true, ok
}

// parsePriority reads a priority-value: no plus sign, no -0, one digit.
func parsePriority(s string) (n int, ok bool) {
	digits := strings.TrimPrefix(s, "-")
	if len(digits) != 1 || digits[0] < '0' || digits[0] > '9' || s == "-0" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// setBy reads a by-value (RFC 2852, 4): seconds, mode, trace.
func (a *Ask) setBy(value string) bool {
	seconds, mode, found := strings.Cut(value, ";")
	mode, trace := strings.CutSuffix(strings.ToUpper(mode), "T")
	digits := strings.TrimLeft(seconds, "+-")
	if !found || len(seconds)-len(digits) > 1 || len(digits) > 9 {
		return false
	}
	n, ok := parseNumber(digits)
	if !ok {
		return false
	}
	if seconds[0] == '-' {
		n = -n
	}
	switch mode {
	case "N":
		a.By = mail.ByNotify
	case "R":
		a.By = mail.ByReturn
		ok = n > 0
	default:
		return false
	}
	a.ByTime, a.ByTrace = time.Duration(n)*time.Second, trace
	return ok
}

// append appends what another server is told: it holds nothing back for us, and knows
// senders as they are.
func (a Ask) append(b []byte) []byte {
	if a.HasPriority {
		b = strconv.AppendInt(append(b, " MT-PRIORITY="...), int64(a.Priority), 10)
	}
	if a.By != mail.ByNone {
		b = strconv.AppendInt(append(b, " BY="...), int64(a.ByTime/time.Second), 10)
		b = append(b, ';', "?NR"[a.By])
		if a.ByTrace {
			b = append(b, 'T')
		}
	}
	return b
}
