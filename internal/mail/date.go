package mail

import "time"

// The earliest and the latest internal date, seconds since 1970: years have four digits in IMAP
// (RFC 9051, 9: date-year) and in RFC 3339, and the first second of the year 1 is Go's for none.
const (
	EarliestDate = -62135596799 // 1 January of the year 1, 00:00:01 UTC
	LatestDate   = 253402300799 // 31 December 9999, 23:59:59 UTC
)

// BoundDate returns an internal date in UTC and within what can be told: one beyond is the last
// that can. That of no date is none.
func BoundDate(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	if s := BoundSeconds(t.Unix()); s != t.Unix() {
		return time.Unix(s, 0).UTC()
	}
	return t.UTC()
}

// BoundSeconds is BoundDate of seconds since 1970.
func BoundSeconds(s int64) int64 { return min(max(s, EarliestDate), LatestDate) }
