package link

import (
	"encoding/json"
	"testing"
	"time"
)

// Whatever day was given since which mail is wanted, a link can be listed.
func TestMomentsCanBeTold(t *testing.T) {
	absurd := time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -14*3600))
	for _, at := range []time.Time{absurd, {}, time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(1e9, 0)} {
		got := moment(seconds(at))
		if b, err := json.Marshal(got); err != nil || got.IsZero() != at.IsZero() {
			t.Errorf("%v became %v: %s %v", at, got, b, err)
		}
	}
}
