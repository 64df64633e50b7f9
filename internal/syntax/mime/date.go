package mime

import (
	"strings"
	"time"
)

const (
	maxDateBytes  = 1024 // of a date field; the rest is not read
	maxDateTokens = 32
)

// ParseDate reads a Date field: RFC 5322, 3.3, the obsolete forms of 4.3 (two-digit
// years, named and military zones, comments), and what else is seen in mail: no
// weekday, asctime order, dashes in the date, a missing zone (taken as UTC). It is
// false if there is no day, month, year or time, or an impossible one, or the year
// is before 1900. The zone stays as offset.
func ParseDate(s string) (time.Time, bool) {
	var d date
	sc := scanner{s: clip(s, maxDateBytes)}
	for n := 0; n < maxDateTokens; n++ {
		sc.skipCFWS()
		if !sc.more() {
			break
		}
		tok := sc.dateToken()
		sc.eat(',')
		if tok == "" {
			continue
		}
		if !d.token(tok) {
			return time.Time{}, false
		}
	}
	return d.time()
}

// dateToken reads up to white space, a comma or a comment. Around a colon these two
// may stand inside a time (RFC 5322, A.6.3).
func (sc *scanner) dateToken() string {
	var tok string
	for {
		start := sc.i
		for sc.more() && strings.IndexByte(" \t\r\n,(", sc.s[sc.i]) < 0 {
			sc.i++
		}
		tok += sc.s[start:sc.i]
		sc.skipCFWS()
		colon := sc.peek() == ':' || strings.HasSuffix(tok, ":") && sc.peek() != ','
		if !sc.more() || !colon {
			return tok
		}
	}
}

// date is what the tokens of a date field said so far.
type date struct {
	day, month, year  int // 0 is not seen
	hour, minute, sec int
	zone              int // seconds east of UTC
	timed, zoned, pm  bool
	am                bool
}

func (d *date) token(s string) bool {
	switch {
	case d.timed && (s[0] == '+' || s[0] == '-') && len(s) > 1:
		return d.offset(s)
	case strings.IndexByte(s, ':') > 0:
		return d.clock(s)
	case s[0] >= '0' && s[0] <= '9':
		if strings.IndexByte(s, '-') > 0 { // 02-Jan-2006
			for _, part := range strings.SplitN(s, "-", 4) {
				if part != "" && !d.token(part) {
					return false
				}
			}
			return true
		}
		return d.number(s)
	default:
		return d.word(s)
	}
}

func (d *date) number(s string) bool {
	n, rest := leadingInt(s)
	if rest != "" {
		return false
	}
	switch {
	case d.day == 0 && len(s) <= 2:
		d.day = n
		return n >= 1 && n <= 31
	case d.year == 0:
		switch {
		case len(s) <= 2 && n < 50: // RFC 5322, 4.3
			n += 2000
		case len(s) <= 3:
			n += 1900
		}
		d.year = n
		return n >= 1900 && n <= 9999
	}
	return true
}

func (d *date) clock(s string) bool {
	if d.timed {
		return true
	}
	d.timed = true
	var rest string
	d.hour, rest = leadingInt(s)
	d.minute, rest = leadingInt(strings.TrimPrefix(rest, ":"))
	if strings.HasPrefix(rest, ":") {
		d.sec, rest = leadingInt(rest[1:])
	}
	if rest != "" && rest[0] == '.' {
		_, rest = leadingInt(rest[1:])
	}
	if d.hour < 0 || d.minute < 0 || d.sec < 0 || d.hour > 23 || d.minute > 59 || d.sec > 60 {
		return false
	}
	if d.sec == 60 {
		d.sec = 59 // time.Date would carry a leap second into the next day
	}
	return rest == "" || d.token(rest) // 10:00:00+0200, 10:00PM
}

// offset reads +hhmm. What is out of range is taken as UTC.
func (d *date) offset(s string) bool {
	if d.zoned {
		return true
	}
	d.zoned = true
	digits := strings.Replace(s[1:], ":", "", 1)
	n, rest := leadingInt(digits)
	if len(digits) <= 2 {
		n *= 100
	}
	if rest != "" || len(digits) > 4 || n%100 > 59 || n > 2400 {
		return true
	}
	d.zone = (n/100*60 + n%100) * 60
	if s[0] == '-' {
		d.zone = -d.zone
	}
	return true
}

const monthNames = "janfebmaraprmayjunjulaugsepoctnovdec"

// word reads a month, a zone or a weekday; others are passed over.
func (d *date) word(s string) bool {
	s = lower(s)
	if len(s) >= 3 && d.month == 0 {
		if i := strings.Index(monthNames, s[:3]); i >= 0 && i%3 == 0 {
			d.month = i/3 + 1
			return true
		}
	}
	if !d.timed {
		return true
	}
	switch s {
	case "am":
		d.am = true
		return true
	case "pm":
		d.pm = true
		return true
	}
	hours, ok := map[string]int{
		"ut": 0, "gmt": 0, "utc": 0, "z": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5,
		"mst": -7, "mdt": -6, "pst": -8, "pdt": -7, "cet": 1, "cest": 2, "met": 1, "mest": 2,
		"bst": 1, "jst": 9,
	}[s]
	// Military zones were defined with the wrong sign and mean nothing (RFC 5322, 4.3).
	if ok && !d.zoned {
		d.zoned, d.zone = true, hours*3600
	}
	// "GMT+0200"
	if i := strings.IndexAny(s, "+-"); i > 0 && len(s) > i+1 {
		return d.offset(s[i:])
	}
	return true
}

func (d *date) time() (time.Time, bool) {
	if d.day == 0 || d.month == 0 || d.year == 0 || !d.timed {
		return time.Time{}, false
	}
	switch {
	case d.pm && d.hour < 12:
		d.hour += 12
	case d.am && d.hour == 12:
		d.hour = 0
	}
	zone := time.UTC
	if d.zone != 0 {
		zone = time.FixedZone("", d.zone)
	}
	t := time.Date(d.year, time.Month(d.month), d.day, d.hour, d.minute, d.sec, 0, zone)
	if t.Day() != d.day { // 30 February becomes another day
		return time.Time{}, false
	}
	return t, true
}

// leadingInt cuts the decimal number at the start of s, at most 9 digits; -1 if
// there is none.
func leadingInt(s string) (n int, rest string) {
	i := 0
	for ; i < len(s) && i < 9 && s[i] >= '0' && s[i] <= '9'; i++ {
		n = n*10 + int(s[i]-'0')
	}
	if i == 0 {
		return -1, s
	}
	return n, s[i:]
}
