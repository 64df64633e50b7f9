package autoconf

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/discover/format"
	"github.com/martlet-mail/martlet/internal/fault"
)

// hosted are the domains of these tests.
var hosted = []string{"here.example", "sub.here.example", "xn--bcher-kva.example", "mail.named.example"}

func options() Options {
	service := func(protocol string, port int, security string) discover.Service {
		return discover.Service{Protocol: protocol, Host: "mx.host.example", Port: port, Security: security, Username: format.WholeAddress, Auth: []string{"password"}}
	}
	return Options{
		Now: func() time.Time { return time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC) }, Hostname: "mx.host.example", Web: "https://mx.host.example",
		Services: []discover.Service{
			service("imap", 993, discover.TLS), service("imap", 143, discover.StartTLS), service("pop3", 995, discover.TLS),
			service("smtp", 465, discover.TLS), service("smtp", 587, discover.StartTLS),
		},
		IsLocal: func(_ context.Context, domain string) (bool, error) {
			if domain == "broken.example" {
				return false, fault.New(fault.Unavailable, "the disk is gone")
			}
			return slices.Contains(hosted, domain), nil
		},
	}
}

// ask sends a request to a server with these options.
func ask(o Options, method, host, target, body string) *http.Response {
	return askBody(o, method, host, target, strings.NewReader(body))
}

func askBody(o Options, method, host, target string, body io.Reader) *http.Response {
	r := httptest.NewRequest(method, "http://x"+target, body)
	r.Host = host
	w := httptest.NewRecorder()
	New(o).Wrap(http.NotFoundHandler()).ServeHTTP(w, r)
	return w.Result()
}

func bodyOf(t *testing.T, r *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

const configPath = "/mail/config-v1.1.xml"

// Which domain is meant follows from the Host; where that is a name of the server itself, from
// the address.
func TestWhichDomain(t *testing.T) {
	for _, c := range []struct{ host, query, domain string }{
		{"autoconfig.here.example", "", "here.example"},
		{"AUTOCONFIG.Here.Example:443", "", "here.example"},
		{"autoconfig.here.example.", "", "here.example"},
		{"here.example", "?emailaddress=a%40here.example", "here.example"},
		{"here.example", "?emailaddress=a%40sub.here.example", "here.example"}, // the Host says it
		{"autoconfig.sub.here.example", "", "sub.here.example"},
		{"autodiscover.here.example", "", "here.example"},
		{"ua-auto-config.here.example", "", "here.example"},
		{"mail.here.example", "", "here.example"},
		{"mail.named.example", "", "mail.named.example"}, // itself a domain
		{"autoconfig.xn--bcher-kva.example", "", "xn--bcher-kva.example"},
		{"mx.host.example", "?emailaddress=a%40here.example", "here.example"},
		{"mx.host.example", "?emailaddress=a%40b%C3%BCcher.example", "xn--bcher-kva.example"},
		{"autoconfig.mx.host.example", "?emailaddress=a%40here.example", "here.example"}, // found by its MX
		{"autoconfig.host.example", "?emailaddress=a%40here.example", "here.example"},    // and by the domain of this
		{"autoconfig.host.example", "", "mx.host.example"},
		{"autoconfig.host.example", "?emailaddress=a%40elsewhere.example", "mx.host.example"},
		{"autoconfig.example", "?emailaddress=a%40here.example", ""},
		{"elsewhere.example", "?emailaddress=a%40here.example", ""},
		{"autoconfig.elsewhere.example", "", ""},
		{"192.0.2.1", "", ""}, {"[::1]:80", "", ""}, {"", "", ""}, {"[here.example]", "", ""},
		{"autoconfig.", "", ""}, {"autoconfig.<b>.example", "", ""}, {strings.Repeat("a.", 200) + "here.example", "", ""},
	} {
		r := ask(options(), "GET", c.host, configPath+c.query, "")
		if c.domain == "" {
			if r.StatusCode != http.StatusNotFound {
				t.Errorf("%s%s: %s", c.host, c.query, r.Status)
			}
			continue
		}
		var got struct {
			Provider struct {
				Domain string `xml:"domain"`
			} `xml:"emailProvider"`
		}
		if err := xml.Unmarshal([]byte(bodyOf(t, r)), &got); err != nil || got.Provider.Domain != c.domain {
			t.Errorf("%s%s: %s, domain %q, want %q; %v", c.host, c.query, r.Status, got.Provider.Domain, c.domain, err)
		}
	}
	if r := ask(options(), "GET", "broken.example", configPath, ""); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a directory that fails: %s", r.Status)
	}
}

// A try-out server answers whatever the Host.
func TestAnyHost(t *testing.T) {
	o := options()
	o.Any = "here.example"
	for _, host := range []string{"localhost:10080", "127.0.0.1", "autoconfig.elsewhere.example", ""} {
		if body := bodyOf(t, ask(o, "GET", host, configPath, "")); !strings.Contains(body, "<domain>here.example</domain>") {
			t.Errorf("%q: %s", host, body)
		}
	}
}

func TestRates(t *testing.T) {
	o := options()
	o.Allow = func(peer netip.Addr) error {
		if !peer.IsValid() {
			t.Error("no peer")
		}
		return errors.New("too many")
	}
	if r := ask(o, "GET", "here.example", configPath, ""); r.StatusCode != http.StatusTooManyRequests || r.Header.Get("Retry-After") == "" {
		t.Errorf("%s %v", r.Status, r.Header)
	}
	if r := ask(o, "GET", "here.example", "/other", ""); r.StatusCode != http.StatusNotFound {
		t.Errorf("what is not asked of us: %s", r.Status)
	}
}

func TestMethods(t *testing.T) {
	if r := ask(options(), "POST", "here.example", configPath, "x"); r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") == "" {
		t.Errorf("%s %v", r.Status, r.Header)
	}
}
