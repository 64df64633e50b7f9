package mail

import (
	"encoding/json"
	"testing"
	"time"
)

func TestBoundDate(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"}, // none
		{"0001-01-01T00:00:01Z", "0001-01-01T00:00:01Z"},
		{"0001-01-01T00:30:00+01:00", "0001-01-01T00:00:01Z"},
		{"0000-06-01T00:00:00Z", "0001-01-01T00:00:01Z"},
		{"1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z"},
		{"2026-11-30T12:00:00-03:30", "2026-11-30T15:30:00Z"},
		{"9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"},
		{"9999-12-31T23:59:59.9Z", "9999-12-31T23:59:59.9Z"},
		{"9999-12-31T23:59:59-00:01", "9999-12-31T23:59:59Z"},
		{"9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59Z"},
	} {
		in, err := time.Parse(time.RFC3339, c.in)
		if err != nil {
			t.Fatal(err)
		}
		if got := BoundDate(in).Format(time.RFC3339Nano); got != c.want {
			t.Errorf("%s became %s", c.in, got)
		}
	}
	for _, at := range []time.Time{
		time.Unix(1<<62, 0), time.Unix(-1<<62, 0), time.Unix(1<<63-1, 0), time.Unix(-1<<63, 0),
		time.Unix(LatestDate, 0).In(time.FixedZone("", 99*3600)),
	} {
		got := BoundDate(at)
		if _, err := json.Marshal(got); err != nil || got.Year() < 1 || got.Year() > 9999 {
			t.Errorf("%d became %v: %v", at.Unix(), got, err)
		}
	}
}
