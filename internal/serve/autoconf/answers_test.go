package autoconf

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"image/png"
	"net/http"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/discover/format"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Outlook is told the best service of each kind, in any letter case of the path, with the
// domain of its address wherever the question went (RFC 2782 names the server itself).
func TestAutodiscover(t *testing.T) {
	for _, path := range []string{"/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml", "/AutoDiscover/AutoDiscover.xml", "/AUTODISCOVER/AUTODISCOVER.XML"} {
		for _, host := range []string{"autodiscover.here.example", "here.example", "mx.host.example:443"} {
			r := ask(options(), "POST", host, path, asked("Some.One@HERE.example"))
			var got outlook
			if err := xml.Unmarshal([]byte(bodyOf(t, r)), &got); err != nil || got.Response.Account == nil {
				t.Fatalf("%s %s: %s, %v", host, path, r.Status, err)
			}
			var lines []string
			for _, p := range got.Response.Account.Protocol {
				lines = append(lines, fmt.Sprint(p.Type, p.Server, p.Port, p.SSL, p.Encryption, p.LoginName, p.SPA, p.AuthRequired, p.DomainRequired))
			}
			want := "IMAPmx.host.example993onSSLSome.One@here.exampleoffonoff POP3mx.host.example995onSSLSome.One@here.exampleoffonoff SMTPmx.host.example465onSSLSome.One@here.exampleoffonoff"
			if strings.ReplaceAll(strings.Join(lines, "|"), " ", "") != strings.ReplaceAll(want, " ", "|") {
				t.Errorf("%q", lines)
			}
		}
	}
}

func TestAutodiscoverErrors(t *testing.T) {
	mobile := strings.Replace(asked("a@here.example"), schemaOutlook, "http://schemas.microsoft.com/exchange/autodiscover/mobilesync/responseschema/2006", 1)
	for _, c := range []struct {
		method, body string
		code         int
	}{
		{"GET", "", codeInvalid}, {"POST", asked("a@elsewhere.example"), codeNotFound}, {"POST", asked("nobody"), codeInvalid}, {"POST", asked(""), codeInvalid},
		{"POST", mobile, codeSchema}, {"POST", asked("a@[192.0.2.1]"), codeInvalid},
	} {
		got := bodyOf(t, ask(options(), c.method, "here.example", discoverPath, c.body))
		if !strings.Contains(got, fmt.Sprintf("<ErrorCode>%d</ErrorCode>", c.code)) || !strings.Contains(got, `Time="12:00:00.0000000"`) {
			t.Errorf("%s %q: %s", c.method, c.body, got)
		}
	}
	if got := bodyOf(t, ask(options(), "GET", "here.example", discoverPath, "")); !strings.Contains(got, "https://mx.host.example/account") {
		t.Errorf("the error helps nobody: %s", got)
	}
	if r := ask(options(), "POST", "here.example", discoverPath, asked("a@broken.example")); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a directory that fails: %s", r.Status)
	}
}

func TestAutodiscoverJSON(t *testing.T) {
	for _, c := range []struct {
		target, want string
		status       int
	}{
		{"/autodiscover/autodiscover.json?Email=a@here.example&Protocol=AutodiscoverV1", `"Url":"https://mx.host.example/autodiscover/autodiscover.xml"`, 200},
		{"/Autodiscover/Autodiscover.json?email=a@here.example&protocol=autodiscoverv1", `"Protocol":"AutodiscoverV1"`, 200},
		{"/autodiscover/autodiscover.json/v1.0/a@here.example?Protocol=AUTODISCOVERV1", `"Protocol":"AutodiscoverV1"`, 200},
		{"/autodiscover.json/v1.0/a@here.example?Protocol=AutodiscoverV1", `"Protocol":"AutodiscoverV1"`, 200},
		{"/autodiscover/autodiscover.json?Protocol=ActiveSync", "InvalidProtocol", 400},
		{"/autodiscover/autodiscover.json", "MandatoryParameterMissing", 400},
		{"/autodiscover/autodiscover.json/v2/a?Protocol=AutodiscoverV1", "", 404},
	} {
		r := ask(options(), "GET", "autodiscover.here.example", c.target, "")
		got := bodyOf(t, r)
		if r.StatusCode != c.status || !strings.Contains(got, c.want) || c.status != 404 && !json.Valid([]byte(got)) {
			t.Errorf("%s: %s %s", c.target, r.Status, got)
		}
	}
}

// The bytes of this document are in the DNS as a digest: they stay what they are, and change
// if what they say does.
func TestAgentsIsStable(t *testing.T) {
	const want = `{
  "protocols": {
    "imap": {
      "host": "mx.host.example"
    },
    "pop3": {
      "host": "mx.host.example"
    },
    "smtp": {
      "host": "mx.host.example"
    },
    "submit": {
      "host": "mx.host.example"
    }
  },
  "authentication": {
    "password": true
  },
  "info": {
    "provider": {
      "name": "here.example",
      "shortName": "here.example"
    }
  }
}
`
	for range 3 {
		r := ask(options(), "GET", "ua-auto-config.here.example", "/.well-known/user-agent-configuration.json", "")
		if got := bodyOf(t, r); got != want || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Cache-Control") != "public, max-age=3600" {
			t.Fatalf("%s %v %s", r.Status, r.Header, got)
		}
	}
	o := options()
	o.Provider = format.Provider{Name: "We & Co", Help: "https://help.example/", OAuth: &format.OAuth{Issuer: "https://login.example"}}
	for i := range o.Services {
		o.Services[i].Auth = []string{"password", "oauth2"}
	}
	got, err := New(o).Agents("here.example")
	if err != nil || !bytes.Contains(got, []byte(`"name": "We & Co"`)) || !bytes.Contains(got, []byte(`"issuer": "https://login.example"`)) || !bytes.Contains(got, []byte(`"password": true`)) || !bytes.Contains(got, []byte(`"documentation": "https://help.example/"`)) {
		t.Errorf("%s %v", got, err)
	}
	o.Services = o.Services[1:2] // nothing on the ports that it can tell of
	if _, err := New(o).Agents("here.example"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

func TestPage(t *testing.T) {
	for _, c := range []struct {
		host, query string
		status      int
		has, hasNot []string
	}{
		{"here.example", "", 200, []string{"<h1>Mail settings of here.example</h1>", "<code>993</code>", "your whole e-mail address"}, []string{"mobileconfig", "qr.svg", `id="wrong"`}},
		{"mail.here.example", "?address=a@here.example", 200, []string{"<code>a@here.example</code>", "/account/mail.mobileconfig?address=a%40here.example", "read=pop3", "/account/qr.svg?address=a%40here.example"}, []string{`id="wrong"`}},
		{"here.example", "?address=a", 200, []string{"<code>a@here.example</code>"}, nil},
		{"mx.host.example", "?address=a@here.example", 200, []string{"<code>a@here.example</code>"}, nil},
		{"here.example", "?address=a@elsewhere.example", 400, []string{"of addresses at here.example only", `role="alert"`}, []string{"mobileconfig"}},
		{"here.example", "?address=a%20b", 400, []string{"not an e-mail address"}, []string{"mobileconfig"}},
		{"xn--bcher-kva.example", "?address=j%C3%B6rg@b%C3%BCcher.example", 200, []string{"jörg@xn--bcher-kva.example", "mobileconfig"}, []string{"qr.svg"}}, // the QR code takes only ASCII
	} {
		r := ask(options(), "GET", c.host, "/account"+c.query, "")
		got := bodyOf(t, r)
		if r.StatusCode != c.status || r.Header.Get("Referrer-Policy") != "no-referrer" || r.Header.Get("Content-Security-Policy") != policy {
			t.Errorf("%s%s: %s %v", c.host, c.query, r.Status, r.Header)
		}
		for _, s := range c.has {
			if !strings.Contains(got, s) {
				t.Errorf("%s%s has no %q: %s", c.host, c.query, s, got)
			}
		}
		for _, s := range c.hasNot {
			if strings.Contains(got, s) {
				t.Errorf("%s%s has %q: %s", c.host, c.query, s, got)
			}
		}
	}
}

func TestFiles(t *testing.T) {
	r := ask(options(), "GET", "here.example", "/account/mail.mobileconfig?address=a@here.example", "")
	if got := bodyOf(t, r); r.Header.Get("Content-Type") != "application/x-apple-aspen-config" || !strings.Contains(got, "EmailTypeIMAP") {
		t.Errorf("%v %s", r.Header, got)
	}
	if got := bodyOf(t, ask(options(), "GET", "here.example", "/account/mail.mobileconfig?read=pop3&address=a@here.example", "")); !strings.Contains(got, "EmailTypePOP") {
		t.Errorf("%s", got)
	}
	if _, err := png.Decode(ask(options(), "GET", "here.example", "/account/qr.png?address=a@here.example", "").Body); err != nil {
		t.Error(err)
	}
	if got := bodyOf(t, ask(options(), "GET", "here.example", "/account/qr.svg?address=a@here.example", "")); xml.Unmarshal([]byte(got), new(struct{ XMLName xml.Name })) != nil {
		t.Errorf("%s", got)
	}
	for _, path := range []string{"/account/mail.mobileconfig", "/account/qr.svg", "/account/qr.png?address=a@elsewhere.example"} {
		if r := ask(options(), "GET", "here.example", path, ""); r.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", path, r.Status)
		}
	}
}

// A profile is signed if there is something to sign it with; else it is given as it is.
func TestSignedProfile(t *testing.T) {
	o := options()
	for _, c := range []struct {
		err  error
		want string
	}{{nil, "SIGNED"}, {fault.New(fault.NotFound, "not publicly trusted"), "<?xml"}, {fault.New(fault.Internal, "broken"), "<?xml"}} {
		o.Sign = func(_ context.Context, body []byte) ([]byte, error) { return append([]byte("SIGNED"), body...), c.err }
		if got := bodyOf(t, ask(o, "GET", "here.example", "/account/mail.mobileconfig?address=a@here.example", "")); !strings.HasPrefix(got, c.want) {
			t.Errorf("%v: %.40s", c.err, got)
		}
	}
}
