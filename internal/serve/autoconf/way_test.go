package autoconf

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// Where there is https, nobody on the way changes what people read, install or scan: over http
// they are led there, at the same name. Programs are answered as they ask.
func TestPeopleAreLedToHTTPS(t *testing.T) {
	o := options()
	asked := func(host, target, peer string, secure bool) *http.Response {
		r := httptest.NewRequest("GET", "http://x"+target, nil)
		if r.Host = host; peer != "" {
			r.RemoteAddr = peer
		}
		if secure {
			r.TLS = &tls.ConnectionState{}
		}
		w := httptest.NewRecorder()
		New(o).Wrap(http.NotFoundHandler()).ServeHTTP(w, r)
		return w.Result()
	}
	const profile = "/account/mail.mobileconfig?address=a%40here.example"
	for _, c := range []struct {
		port               int
		host, target, peer string
		secure             bool
		code               int
		where              string
	}{
		{443, "here.example", profile, "", false, 307, "https://here.example" + profile},
		{443, "mail.here.example:80", "/account", "", false, 307, "https://mail.here.example/account"},
		{8443, "HERE.example.", "/Account/qr.png?address=a", "", false, 307, "https://here.example:8443/Account/qr.png?address=a"},
		{443, "here.example", profile, "", true, 200, ""},
		{443, "here.example", profile, "127.0.0.1:1", false, 200, ""}, // a proxy on this machine
		{0, "here.example", profile, "", false, 200, ""},              // no https
		{443, "autoconfig.here.example", configPath, "", false, 200, ""},
		{443, "other.example", profile, "", false, 404, ""}, // nobody is led to a name that is not ours
	} {
		o.Secure, o.Near = c.port, nil
		r := asked(c.host, c.target, c.peer, c.secure)
		if r.StatusCode != c.code || r.Header.Get("Location") != c.where || c.code != 200 && r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%+v: %s %v", c, r.Status, r.Header)
		}
	}
	o.Secure, o.Near = 443, func(peer netip.Addr) bool { return peer == netip.MustParseAddr("192.0.2.7") }
	if near, far := asked("here.example", profile, "192.0.2.7:1", false), asked("here.example", profile, "192.0.2.8:1", false); near.StatusCode != 200 || far.StatusCode != 307 {
		t.Errorf("a proxy elsewhere is led in a ring: %s, others: %s", near.Status, far.Status)
	}
	if r := ask(o, "POST", "autodiscover.here.example", "/autodiscover/autodiscover.xml", `<Autodiscover><Request><EMailAddress>a@here.example</EMailAddress></Request></Autodiscover>`); r.StatusCode != 200 || !strings.Contains(bodyOf(t, r), "<LoginName>") {
		t.Error(r.Status)
	}
}

// What is wrong now may be right in a minute: it is not kept for an hour.
func TestErrorsAreNotKept(t *testing.T) {
	const pox = "/autodiscover/autodiscover.xml"
	for _, c := range [][3]string{
		{"GET", pox, ""}, {"POST", pox, "<x"}, {"POST", pox, `<Autodiscover><Request><EMailAddress>a@other.example</EMailAddress></Request></Autodiscover>`},
		{"GET", "/account?address=x@other.example", ""}, {"GET", "/account?address=%22", ""}, {"GET", "/autodiscover/autodiscover.json", ""}, {"GET", "/autodiscover/autodiscover.json?Protocol=x", ""},
		{"GET", "/account/mail.mobileconfig?address=x@other.example", ""}, {"POST", configPath, ""},
	} {
		if r := ask(options(), c[0], "here.example", c[1], c[2]); r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v: %s with %q", c, r.Status, r.Header.Get("Cache-Control"))
		}
	}
	for _, target := range []string{"/account?address=a@here.example", "/autodiscover/autodiscover.json?Protocol=AutodiscoverV1", configPath} { // the control
		if r := ask(options(), "GET", "here.example", target, ""); r.StatusCode != 200 || !strings.Contains(r.Header.Get("Cache-Control"), "max-age=3600") {
			t.Errorf("%s: %s with %q", target, r.Status, r.Header.Get("Cache-Control"))
		}
	}
}
