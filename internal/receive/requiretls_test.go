package receive

import (
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
)

// "TLS-Required: No" is for mail to other hosts, and REQUIRETLS counts before it (RFC 8689,
// 4.1). It is heard only of who has logged in.
func TestTLSRequiredNo(t *testing.T) {
	for _, tc := range []struct {
		header  string
		login   string
		require bool
		want    bool
	}{
		{"TLS-Required: No\r\n", "a@here.test", false, true},
		{"tls-required:\r\n no\r\n", "a@here.test", false, true},
		{"TLS-Required: No\r\n", "a@here.test", true, false},
		{"TLS-Required: No\r\n", "", false, false},
		{"TLS-Required: yes\r\n", "a@here.test", false, false},
		{"Subject: TLS-Required: No\r\n", "a@here.test", false, false},
		{"", "a@here.test", false, false},
	} {
		w := newWorld(t)
		env := envelope("ESMTPSA", "x@elsewhere.example")
		env.RequireTLS, env.Login = tc.require, tc.login
		for _, r := range w.Deliver(t.Context(), env, w.parcel("From: a@here.test\r\n"+tc.header+"\r\nTLS-Required: No\r\n")) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		if got := w.queue.entries[0].Envelope; got.TLSOptional != tc.want || got.RequireTLS != tc.require {
			t.Errorf("%q: %+v", tc.header, got)
		}
	}
}

// A TLS report goes out whatever TLS is like (RFC 8460, 3), and says so to the queue: without
// that the policy that is broken would keep it here, and it would be counted for the next
// report. A report of another kind does not say so.
func TestReportStaysTLSOptional(t *testing.T) {
	for _, optional := range []bool{true, false} {
		w := newWorld(t)
		env := mail.Envelope{To: []mail.Recipient{{Address: addr("r@far.test"), Notify: mail.NotifyNever}}, TLSOptional: optional}
		w.must((&Local{w.Receiver}).Report(t.Context(), "feedback x", env, strings.NewReader("From: postmaster@here.test\r\n\r\n")))
		if got := w.queue.entries[0].Envelope.TLSOptional; got != optional {
			t.Errorf("TLSOptional %v has become %v", optional, got)
		}
	}
}
