package imap

import (
	"strconv"
	"strings"
	"time"
)

// A year of two digits is one of 1969 to 2068: what RFC 2062 says, the year less 1900,
// would name none in which a client of today lives.

// oldDate reads a date with a year of two digits, or a whole date-time of RFC 1176, of
// which the day counts.
func oldDate(s string) (time.Time, bool) {
	if t, err := time.ParseInLocation("2-Jan-06", s, time.UTC); err == nil {
		return t, true
	}
	t, ok := oldDateTime(s)
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC), ok
}

// oldDateTime reads a date-time whose year has two digits or whose zone has a name, with
// a dash before it (RFC 1176, "date"; RFC 2062, "date_time_old") or a space, as the
// example of RFC 1176 shows it.
func oldDateTime(s string) (time.Time, bool) {
	day, rest, _ := strings.Cut(strings.TrimPrefix(s, " "), " ")
	if len(rest) < len("15:04:05-Z") {
		return time.Time{}, false
	}
	clock, zone := rest[:8], rest[8:]
	t, err := time.ParseInLocation("2-Jan-06 15:04:05", day+" "+clock, time.UTC)
	if err != nil {
		if t, err = time.ParseInLocation("2-Jan-2006 15:04:05", day+" "+clock, time.UTC); err != nil || t.Year() < 1 {
			return time.Time{}, false
		}
	}
	east, ok := oldZone(zone)
	if !ok {
		return time.Time{}, false
	}
	return t.Add(-east).In(time.FixedZone("", int(east/time.Second))), true
}

// zoneHours are the zones with names (RFC 2062, "zone_name").
var zoneHours = map[string]int{
	"UT": 0, "GMT": 0, "AST": -4, "EDT": -4, "EST": -5, "CDT": -5, "CST": -6, "MDT": -6, "MST": -7, "PDT": -7,
	"PST": -8, "YDT": -8, "YST": -9, "HDT": -9, "HST": -10, "BDT": -10, "BST": -11,
}

// The letters of the military zones, from +1 and from -1 on.
const (
	zonesEast = "ABCDEFGHIKLM"
	zonesWest = "NOPQRSTUVWXY"
)

// oldZone reads a zone with the dash or the space before it and returns how far east of
// Greenwich it lies. Figures have a sign of their own, which the dash may be.
func oldZone(s string) (time.Duration, bool) {
	name := strings.ToUpper(s[1:])
	if s[0] != '-' && s[0] != ' ' || name == "" {
		return 0, false
	}
	if hours, ok := zoneHours[name]; ok {
		return time.Duration(hours) * time.Hour, true
	}
	if len(name) == 1 {
		if name == "Z" {
			return 0, true
		}
		if i := strings.Index(zonesEast, name); i >= 0 {
			return time.Duration(i+1) * time.Hour, true
		}
		i := strings.Index(zonesWest, name)
		return -time.Duration(i+1) * time.Hour, i >= 0
	}
	digits := strings.TrimLeft(s, "- +")
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || len(digits) != 4 || len(s)-len(digits) > 2 || n/100 > 23 || n%100 > 59 {
		return 0, false
	}
	east := time.Duration(n/100)*time.Hour + time.Duration(n%100)*time.Minute
	if strings.Contains(s[:len(s)-4], "-") && !strings.Contains(s, "+") {
		east = -east
	}
	return east, true
}

// AppendOldDateTime appends t in quotes as RFC 1176 has it, in Universal Time.
func AppendOldDateTime(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, `"_2-Jan-06 15:04:05-GMT"`)
}
