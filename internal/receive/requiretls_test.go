package receive

import "testing"

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
