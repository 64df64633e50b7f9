package report_test

import (
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/report/tlsrpt"
)

// A TLS report is posted to whoever asks for that, and to nobody who has no business to be
// asked for it.
func TestPost(t *testing.T) {
	var got []string
	answer := http.StatusCreated
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/reports", http.StatusTemporaryRedirect)
			return
		}
		body, _ := io.ReadAll(r.Body)
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		plain, _ := io.ReadAll(z)
		back, err := tlsrpt.Parse(r.Context(), bytes.NewReader(plain), tlsrpt.Limits{})
		if err != nil || len(back.Policies) != 1 {
			t.Errorf("%v\n%s", err, plain)
		}
		got = append(got, r.Method+" "+r.URL.Path+" "+r.Header.Get("Content-Type"))
		w.WriteHeader(answer)
	}))
	defer web.Close()
	_, port, _ := net.SplitHostPort(web.Listener.Addr().String())
	zone := "example.com. A 127.0.0.1\nother.test. A 127.0.0.1\n"
	for _, d := range []struct{ domain, uri string }{
		{"ok.test", "https://example.com:" + port + "/reports"}, {"away.test", "https://example.com:" + port + "/away"},
		{"name.test", "https://other.test:" + port + "/reports"}, {"login.test", "https://a:b@example.com:" + port + "/reports"},
		{"both.test", "https://other.test:" + port + "/x, mailto:r@both.test"},
	} {
		zone += "_smtp._tls." + d.domain + ". TXT \"v=TLSRPTv1; rua=" + d.uri + "\"\n"
	}
	h := newHouse(t, zone)
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	h.opt.Roots, h.opt.Dial = roots, (&net.Dialer{}).DialContext
	for _, c := range []struct {
		domain  string
		private bool
		answer  int
		posted  bool
		state   string // "": it is tried again
	}{
		{"ok.test", true, http.StatusCreated, true, "tls ok.test sent https://example.com:" + port + "/reports"},
		{"ok.test", true, http.StatusNotFound, true, "tls ok.test dropped"},
		{"ok.test", true, http.StatusBadGateway, true, ""},
		{"ok.test", false, http.StatusOK, false, "tls ok.test dropped"}, // loopback, and another port
		{"away.test", true, http.StatusOK, false, "tls away.test dropped"},
		{"name.test", true, http.StatusOK, false, ""}, // not its certificate
		{"login.test", true, http.StatusOK, false, "tls login.test dropped"},
		{"both.test", true, http.StatusOK, false, "tls both.test sent mailto:r@both.test https://other.test"},
	} {
		got, answer = nil, c.answer
		h.eng = freshEngine(t)
		h.opt.Engine, h.opt.AllowPrivate = h.eng, c.private
		h.restart()
		h.book.Connected(session(noon, c.domain, ""))
		h.send(midnight.Add(5 * time.Hour))
		if (len(got) == 1) != c.posted || c.posted && got[0] != "POST /reports application/tlsrpt+gzip" {
			t.Errorf("%+v: %q", c, got)
		}
		if s := h.states(); !strings.HasPrefix(s, c.state) || (s == "") != (c.state == "") || (h.owed() == "") != (c.state != "") {
			t.Errorf("%+v: %q, %q", c, s, h.owed())
		}
	}
}
