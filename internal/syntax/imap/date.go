package imap

import (
	"strings"
	"time"
)

// ExpectDate reads a date such as 1-Feb-1994, in quotes or not, as midnight UTC
// (RFC 9051, 9 "date").
func (d *Decoder) ExpectDate(out *time.Time) bool {
	var s string
	if c, ok := d.peek(); ok && c == '"' {
		if !d.quoted(&s) {
			return false
		}
	} else if !d.Atom(&s) {
		return d.expected("a date such as 1-Feb-1994")
	}
	t, err := time.ParseInLocation("2-Jan-2006", s, time.UTC)
	ok := err == nil && t.Year() >= 1
	if !ok && d.Old {
		t, ok = oldDate(s)
	}
	if !ok {
		return d.Fail("not a date of the form 1-Feb-1994: " + clip(s))
	}
	*out = t
	return true
}

// DateTime reads a quoted date-time with its zone, if a quote begins here (RFC
// 9051, 9 "date-time"). A day of one digit may do without its leading space.
func (d *Decoder) DateTime(out *time.Time) bool {
	c, ok := d.peek()
	var s string
	if !ok || c != '"' || !d.quoted(&s) {
		return false
	}
	t, err := time.Parse("2-Jan-2006 15:04:05 -0700", strings.TrimPrefix(s, " "))
	ok = err == nil && t.Year() >= 1
	if !ok && d.Old {
		t, ok = oldDateTime(s)
	}
	if !ok {
		return d.Fail(`not a date and time of the form " 1-Feb-1994 12:00:00 +0000": ` + clip(s))
	}
	*out = t
	return true
}

const dateLayout = "2-Jan-2006"
