package admin

import (
	"strings"
	"testing"
)

// What is asked for wrongly is told; without reports the answer is empty.
func TestReportsCall(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		call string
		code int
		want string
	}{
		{"GET /v1/reports", 200, ""},
		{"GET /v1/reports?sent=true&domain=gr%C3%BCn.test&kind=tls&since=2026-01-31T12:00:00Z", 200, ""},
		{"GET /v1/reports?kind=spam", 400, "neither dmarc nor tls"},
		{"GET /v1/reports?since=yesterday", 400, "is not a time"},
		{"GET /v1/reports?domain=a..b", 400, "bad label"},
	} {
		if code, got := w.call(t, c.call); code != c.code || !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %d %s", c.call, code, got)
		}
	}
}
