package mbox

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// maxFromLine is how long a From_ line may be.
const maxFromLine = 1 << 10

var (
	weekdays = [...]string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}
	months   = [...]string{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"}
)

// zones are the names that From_ lines have had, in minutes east.
var zones = map[string]int{
	"UT": 0, "UTC": 0, "GMT": 0, "Z": 0, "WET": 0, "WEST": 60, "BST": 60, "IST": 330,
	"CET": 60, "CEST": 120, "MET": 60, "MEST": 120, "MEZ": 60, "MESZ": 120, "EET": 120, "EEST": 180, "MSK": 180,
	"EST": -300, "EDT": -240, "CST": -360, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480, "PDT": -420,
	"AKST": -540, "AKDT": -480, "HST": -600, "AST": -240, "ADT": -180, "NST": -210,
	"JST": 540, "KST": 540, "HKT": 480, "AWST": 480, "ACST": 570, "AEST": 600, "AEDT": 660, "NZST": 720, "NZDT": 780,
}

// fromLine reads a line that begins with "From " (RFC 4155, appendix A; mbox(5) of qmail). bare: it has no
// date, and nothing but perhaps a dash, as Thunderbird writes it. A date that cannot be is zero.
func fromLine(line []byte) (sender string, date time.Time, bare, ok bool) {
	if len(line) > maxFromLine {
		return "", time.Time{}, false, false
	}
	rest := strings.TrimSpace(string(line[len("From "):]))
	if rest == "" || rest == "-" {
		return rest, time.Time{}, true, true
	}
	words := strings.Fields(rest)
	for i := range words {
		if index(weekdays[:], strings.TrimSuffix(words[i], ",")) < 0 {
			continue
		}
		if date, ok = asctime(words[i:]); ok {
			if !plausible(date) { // some are of 1601, or of 1706: they separate all the same
				date = time.Time{}
			}
			return strings.Join(words[:i], " "), date, false, true
		}
	}
	return "", time.Time{}, false, false
}

// IsFromLine tells whether a line is a From_ line with a date.
func IsFromLine(line []byte) bool {
	if !bytes.HasPrefix(line, []byte("From ")) {
		return false
	}
	_, _, bare, ok := fromLine(line)
	return ok && !bare
}

// asctime reads "Mon Jan  2 15:04:05 2006" with a zone before or behind the year, or
// without seconds. A time without zone is taken for UTC (RFC 4155, appendix A).
func asctime(w []string) (time.Time, bool) {
	if strings.HasSuffix(w[0], ",") || len(w) > 1 && index(months[:], w[1]) < 0 { // Mon, 2 Jan 2006 15:04:05 +0100
		return mime.ParseDate(strings.Join(w, " "))
	}
	if len(w) < 5 {
		return time.Time{}, false
	}
	month := index(months[:], w[1])
	day, err := strconv.Atoi(w[2])
	h, m, s, ok := clock(w[3])
	if month < 0 || err != nil || day < 1 || day > 31 || !ok {
		return time.Time{}, false
	}
	year, east := 0, 0
	for _, word := range w[4:min(len(w), 8)] {
		if y, err := strconv.Atoi(word); err == nil && len(word) == 4 && word[0] != '+' && word[0] != '-' && year == 0 {
			year = y
		} else if minutes, known := zone(word); known {
			east = minutes
		} else if word == "DST" {
			east += 60
		}
	}
	if year == 0 {
		return time.Time{}, false
	}
	return time.Date(year, time.Month(month+1), day, h, m, s, 0, time.FixedZone("", east*60)), true
}

// plausible tells whether a message can have come at the date: in 1970 or later, and a year has
// four digits.
func plausible(t time.Time) bool { return t.Year() >= 1970 && t.Year() <= 9998 }

func clock(s string) (h, m, sec int, ok bool) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return 0, 0, 0, false
	}
	var n [3]int
	for i, p := range parts {
		v, err := strconv.Atoi(p)
		if err != nil || len(p) > 2 || v < 0 || v > [3]int{23, 59, 60}[i] {
			return 0, 0, 0, false
		}
		n[i] = v
	}
	return n[0], n[1], n[2], true
}

func zone(s string) (minutes int, ok bool) {
	if len(s) == 5 && (s[0] == '+' || s[0] == '-') {
		n, err := strconv.Atoi(s[1:])
		if err != nil || n < 0 || n%100 > 59 || n > 1400 {
			return 0, false
		}
		minutes = n/100*60 + n%100
		if s[0] == '-' {
			minutes = -minutes
		}
		return minutes, true
	}
	minutes, ok = zones[strings.Trim(strings.ToUpper(s), "()")]
	return minutes, ok
}

func index(list []string, s string) int {
	for i, w := range list {
		if strings.EqualFold(w, s) {
			return i
		}
	}
	return -1
}

// separates tells whether a line that begins with "From " is a From_ line, and no line of a body.
// An empty line is before it, or it begins the file; next is what comes after it, some lines of it.
//
// Writers that quote nothing leave lines of bodies that begin so. Such a line rarely has a
// date, and what comes after it is rarely a field. After a line that is not empty, where
// no From_ line belongs but files were put together badly, it has to look like one in every way.
func separates(line, next []byte, afterEmpty bool) (date time.Time, ok bool) {
	_, date, bare, ok := fromLine(line)
	if !ok {
		return date, false
	}
	first, rest, _ := bytes.Cut(next, []byte("\n"))
	first = bytes.TrimSuffix(first, []byte("\r"))
	switch {
	case !afterEmpty:
		second, _, _ := bytes.Cut(rest, []byte("\n"))
		return date, !bare && usualFirst(first) && (field(second) || len(second) > 0 && (second[0] == ' ' || second[0] == '\t'))
	case bare:
		return date, field(first)
	}
	return date, len(first) == 0 || field(first) || bytes.HasPrefix(first, []byte(">From "))
}

// field tells whether a line begins like a field of a header (RFC 5322, 2.2).
func field(line []byte) bool {
	i := bytes.IndexByte(line, ':')
	if i < 1 || i > 128 {
		return false
	}
	for _, c := range bytes.TrimRight(line[:i], " \t") {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

var firstFields = [...]string{"return-path", "received", "delivered-to", "from", "date", "message-id", "subject", "to",
	"status", "x-mozilla-status", "x-gm-thrid", "x-gmail-labels", "x-original-to", "envelope-to", "mime-version", "reply-to"}

// usualFirst tells whether a line is a field that headers in mbox files begin with.
func usualFirst(line []byte) bool {
	name, _, ok := bytes.Cut(line, []byte(":"))
	return ok && index(firstFields[:], string(name)) >= 0
}
