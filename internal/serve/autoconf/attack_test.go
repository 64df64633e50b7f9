package autoconf

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
)

// asked is a request as Outlook sends it.
func asked(address string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(address)) // a Builder takes everything
	return `<?xml version="1.0" encoding="utf-8"?><Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"><Request><EMailAddress>` +
		b.String() + `</EMailAddress><AcceptableResponseSchema>` + schemaOutlook + `</AcceptableResponseSchema></Request></Autodiscover>`
}

const discoverPath = "/autodiscover/autodiscover.xml"

// paths are all that is answered here.
var paths = []string{
	configPath, "/.well-known/autoconfig/mail/config-v1.1.xml", "/.well-known/user-agent-configuration.json", discoverPath, "/AutoDiscover/AutoDiscover.XML",
	"/autodiscover/autodiscover.json?Protocol=AutodiscoverV1&Email=a@here.example", "/Autodiscover.json/v1.0/a@here.example?Protocol=autodiscoverv1",
	"/account", "/account/", "/account?address=a@here.example", "/account/style.css", "/account/mail.mobileconfig?address=a@here.example", "/account/qr.svg?address=a@here.example", "/account/qr.png?address=a@here.example",
}

// Attack 80: documents with entities, of files, of hosts, of each other.
func TestAttack80Entities(t *testing.T) {
	bomb := `<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">`
	for c := 'b'; c < 'z'; c++ {
		bomb += fmt.Sprintf(`<!ENTITY %c "%s">`, c, strings.Repeat("&"+string(c-1)+";", 10))
	}
	secret := "root:x:0"
	for name, body := range map[string]string{
		"file":       `<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>` + strings.Replace(asked("x"), ">x<", ">&e;<", 1),
		"host":       `<!DOCTYPE x [<!ENTITY e SYSTEM "http://127.0.0.1/">]>` + strings.Replace(asked("x"), ">x<", ">&e;<", 1),
		"parameter":  `<!DOCTYPE x [<!ENTITY % e SYSTEM "file:///etc/passwd">%e;]>` + asked("a@here.example"),
		"no use":     `<!DOCTYPE x>` + asked("a@here.example"),
		"bomb":       bomb + `]>` + strings.Replace(asked("x"), ">x<", ">&y;<", 1),
		"undeclared": strings.Replace(asked("x"), ">x<", ">&e;<", 1),
		"inclusion":  `<Autodiscover xmlns:xi="http://www.w3.org/2001/XInclude"><Request><EMailAddress><xi:include href="file:///etc/passwd" parse="text"/></EMailAddress></Request></Autodiscover>`,
		"encoding":   strings.Replace(asked("a@here.example"), "utf-8", "utf-7", 1),
		"deep":       strings.Repeat("<a>", 2000),
		"wide":       "<a>" + strings.Repeat("<b/>", 2000) + "</a>",
		"attributes": "<a " + strings.Repeat(`b="c" `, 2000) + "/>",
		"open":       `<Autodiscover><Request><EMailAddress>a@here.example`,
		"empty":      "",
		"bytes":      "\x00\xff\xfe",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := ask(options(), "POST", "here.example", discoverPath, body)
		runtime.ReadMemStats(&after)
		got := bodyOf(t, r)
		if r.StatusCode != http.StatusOK || !strings.Contains(got, "<ErrorCode>600</ErrorCode>") || strings.Contains(got, secret) || strings.Contains(got, "<Server>") {
			t.Errorf("%s: %s %s", name, r.Status, got)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 2<<20 {
			t.Errorf("%s: %d bytes of memory", name, used)
		}
	}
	// The control: without all that there are settings.
	if got := bodyOf(t, ask(options(), "POST", "here.example", discoverPath, asked("a@here.example"))); !strings.Contains(got, "<Server>mx.host.example</Server>") {
		t.Errorf("a fair question gets %s", got)
	}
}

// Attack 80: a request without an end takes no more than its bound.
func TestAttack80Endless(t *testing.T) {
	read := 0
	endless := readerFunc(func(p []byte) (int, error) { read += len(p); return copy(p, strings.Repeat("<a>", len(p)/3+1)), nil })
	r := askBody(options(), "POST", "here.example", discoverPath, endless)
	if r.StatusCode != http.StatusRequestEntityTooLarge || read > 4*maxQuestion {
		t.Errorf("%s after %d bytes", r.Status, read)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

var _ io.Reader = readerFunc(nil)

// Attack 80: markup in an address is text wherever it is shown.
func TestAttack80Markup(t *testing.T) {
	for _, nasty := range []string{
		`"<script>alert(1)</script>"@here.example`, `"'><img src=x onerror=alert(1)>"@here.example`, `"</string><true/>"@here.example`, `"]]>"@here.example`,
		`a<b>@here.example`, `<svg/onload=alert(1)>`, `"{{.Domain}}"@here.example`, "a\r\nSet-Cookie: x=y@here.example", "a@here.example\x00", `a"b@here.example`, "a&amp;b@here.example", `javascript:alert(1)`,
	} {
		for _, path := range []string{configPath + "?emailaddress=", "/account?address=", "/account/mail.mobileconfig?address=", "/account/qr.svg?address=", "/autodiscover/autodiscover.json?Protocol=x&Email=", "/autodiscover/autodiscover.json?Protocol="} {
			harmless(t, path+nasty, ask(options(), "GET", "here.example", path+url.QueryEscape(nasty), ""))
		}
		harmless(t, "POST "+nasty, ask(options(), "POST", "here.example", discoverPath, asked(nasty)))
	}
	// The control: what is looked for is what a page without escapes would have.
	if markup("<p>"+`"<script>alert(1)</script>"@here.example`+"</p>") == "" {
		t.Error("the test finds nothing")
	}
}

func harmless(t *testing.T, what string, r *http.Response) {
	t.Helper()
	got := bodyOf(t, r)
	if found := markup(got); found != "" {
		t.Errorf("%s: %s in %s", what, found, got)
	}
	kind := r.Header.Get("Content-Type")
	if strings.Contains(kind, "xml") || strings.Contains(kind, "aspen") {
		d := xml.NewDecoder(strings.NewReader(got))
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Errorf("%s: not XML: %v\n%s", what, err, got)
				break
			}
		}
	}
	if r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Set-Cookie") != "" {
		t.Errorf("%s: %v", what, r.Header)
	}
	if strings.HasPrefix(kind, "text/html") && (!strings.HasPrefix(r.Header.Get("Content-Security-Policy"), "default-src 'none';") || strings.Contains(r.Header.Get("Content-Security-Policy"), "unsafe")) {
		t.Errorf("%s: %v", what, r.Header)
	}
}

// markup returns markup of the addresses that is not escaped, or "".
func markup(text string) string {
	for _, m := range []string{"<script", "<img src=x", "<svg/", "onerror=alert(1)>", "</string><true/>", "<b>@"} {
		if strings.Contains(text, m) {
			return m
		}
	}
	return ""
}

// Attack 80: a foreign name gets nothing, whatever address comes with it.
func TestAttack80ForeignHost(t *testing.T) {
	for _, host := range []string{"evil.example", "here.example.evil.example", "autoconfig.evil.example", "evil.example:80", "here.example@evil.example", "here.example/../evil", "", "evil.example\x00here.example"} {
		for _, path := range paths {
			for _, method := range []string{"GET", "POST"} {
				r := ask(options(), method, host, path, asked("a@here.example"))
				if got := bodyOf(t, r); r.StatusCode != http.StatusNotFound || strings.Contains(got, "mx.host.example") || strings.Contains(got, "evil") {
					t.Errorf("%s %s %s: %s %s", host, method, path, r.Status, got)
				}
			}
		}
	}
}

// Attack 80: nobody is asked for a password, sent elsewhere, or given something to run.
func TestAttack80NoPasswordNoRedirect(t *testing.T) {
	for _, path := range append(paths, "/mail//config-v1.1.xml", "/./mail/config-v1.1.xml", "/account/../account") {
		for _, method := range []string{"GET", "HEAD", "POST", "PROPFIND", "OPTIONS"} {
			r := ask(options(), method, "here.example", path, asked("a@here.example"))
			if r.StatusCode == http.StatusUnauthorized || r.StatusCode/100 == 3 || r.Header.Get("WWW-Authenticate") != "" || r.Header.Get("Location") != "" {
				t.Errorf("%s %s: %s %v", method, path, r.Status, r.Header)
			}
			if got := strings.ToLower(bodyOf(t, r)); strings.Contains(got, "<script") || strings.Contains(got, `type="password"`) || strings.Contains(got, "<redirect") || strings.Contains(got, "http-equiv") {
				t.Errorf("%s %s: %s", method, path, got)
			}
		}
	}
}

// Attack 80: whether an address exists is in no answer, as nobody is asked who could tell; the
// answers for two addresses differ in the addresses alone.
func TestAttack80SameForAll(t *testing.T) {
	for _, path := range paths {
		with := func(address string) string {
			target := strings.ReplaceAll(path, "a@here.example", address)
			got := bodyOf(t, ask(options(), "GET", "here.example", target, "")) + bodyOf(t, ask(options(), "POST", "here.example", target, asked(address)))
			return strings.ReplaceAll(strings.ReplaceAll(got, url.QueryEscape(address), "ADDRESS"), address, "ADDRESS")
		}
		if strings.Contains(path, "qr.") || strings.Contains(path, ".mobileconfig") {
			continue // made of the address
		}
		if a, b := with("known@here.example"), with("other@here.example"); a != b {
			t.Errorf("%s:\n%s\n%s", path, a, b)
		}
	}
}
