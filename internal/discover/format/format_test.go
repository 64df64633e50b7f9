package format

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/fault"
)

var update = flag.Bool("update", false, "rewrite the expected files in testdata")

// answer is one of a provider, with the security for all.
func answer(address, security string) discover.Answer {
	ports := map[string][3]int{discover.TLS: {993, 995, 465}, discover.StartTLS: {143, 110, 587}, "none": {143, 110, 25}}[security]
	a := discover.Answer{Address: address, Domain: "example.org", Provider: `A & B "Mail"`}
	for i, p := range []string{"imap", "pop3", "smtp"} {
		a.Services = append(a.Services, discover.Service{Protocol: p, Host: p + ".example.org", Port: ports[i], Security: security, Username: address, Auth: []string{"password"}})
	}
	return a
}

const (
	plain = "carol@example.org"
	nasty = `o'n$HOME{}~+&!x@example.org`
)

// TestGolden holds each file to what it was when it was tried with its program.
func TestGolden(t *testing.T) {
	for _, name := range Names() {
		for kind, a := range map[string]discover.Answer{"tls": answer(plain, discover.TLS), "starttls": answer(nasty, discover.StartTLS)} {
			o := Options{Name: `Carol "C" O'Neil`, Picture: true}
			if name == "aerc" {
				o.Name = "Carol O'Neil" // the form has no escapes
			}
			if kind == "starttls" {
				o = Options{Command: `secret --for "mail"`, CA: "/etc/my ca.pem"}
				if name == "aerc" {
					o.Command = "secret mail"
				}
			}
			got, err := Write(name, a, o)
			if name == "getmail" && kind == "starttls" || name == "pacc" && kind == "starttls" {
				if !fault.Is(err, fault.Unsupported) && !fault.Is(err, fault.NotFound) {
					t.Errorf("%s cannot say STARTTLS: %v", name, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s %s: %v", name, kind, err)
				continue
			}
			golden(t, name+"-"+kind, got)
		}
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is\n%s\nwant\n%s%v", name, got, want, err)
	}
}

// What would begin another line, or hide one, is refused in every form, wherever it comes from.
func TestControlCharactersAreRefused(t *testing.T) {
	for _, bad := range []string{"a\nb", "a\rb", "a\x00b", "a\x1bb", "a\u2028b", "a\u0085b", "a\xffb"} {
		for _, name := range Names() {
			if name == "autoconfig" || name == "pacc" {
				continue // written by encoders
			}
			for what, change := range map[string]func(*discover.Answer, *Options){
				"address": func(a *discover.Answer, _ *Options) { a.Address = bad + "@example.org" },
				"user":    func(a *discover.Answer, _ *Options) { each(a, func(s *discover.Service) { s.Username = bad }) },
				"host":    func(a *discover.Answer, _ *Options) { each(a, func(s *discover.Service) { s.Host = bad }) },
				"name":    func(_ *discover.Answer, o *Options) { o.Name = bad },
				"command": func(_ *discover.Answer, o *Options) { o.Command = bad },
				"ca":      func(_ *discover.Answer, o *Options) { o.CA = bad },
			} {
				if (name == "mobileconfig" || name == "qr") && (what == "command" || what == "ca") {
					continue // it has none
				}
				a, o := answer(plain, discover.TLS), Options{}
				change(&a, &o)
				if got, err := Write(name, a, o); !fault.Is(err, fault.Invalid) {
					t.Errorf("%s with %q as %s: %v\n%s", name, bad, what, err, got)
				}
			}
		}
	}
}

func each(a *discover.Answer, change func(*discover.Service)) {
	for i := range a.Services {
		change(&a.Services[i])
	}
}

// What a form cannot hold is refused, not altered.
func TestRefusals(t *testing.T) {
	only := func(protocol string) discover.Answer {
		a := answer(plain, discover.TLS)
		a.Services = services(a, protocol)
		return a
	}
	token := answer(plain, discover.TLS)
	each(&token, func(s *discover.Service) { s.Auth = []string{"oauth2"} })
	as := func(user string) discover.Answer {
		a := answer(plain, discover.TLS)
		each(&a, func(s *discover.Service) { s.Username = user })
		return a
	}
	domain := answer("", discover.TLS)
	each(&domain, func(s *discover.Service) { s.Username = WholeAddress })
	for _, c := range []struct {
		forms string
		a     discover.Answer
		o     Options
		kind  fault.Kind
	}{
		{"muttrc mbsync msmtp aerc fetchmail getmail imapsync offlineimap qr mobileconfig", domain, Options{}, fault.Invalid},
		{"mbsync aerc imapsync offlineimap fetchmail getmail qr mobileconfig autoconfig pacc", only("smtp"), Options{}, fault.NotFound},
		{"msmtp qr mobileconfig autoconfig pacc", only("imap"), Options{}, fault.NotFound},
		{"fetchmail imapsync offlineimap", token, Options{}, fault.Unsupported},
		{"muttrc", answer(plain, discover.TLS), Options{Command: "x `y`"}, fault.Invalid},
		{"muttrc", answer(plain, discover.TLS), Options{Command: `x \y`}, fault.Invalid},
		{"aerc", answer(plain, discover.TLS), Options{Command: "x # y"}, fault.Invalid},
		{"aerc", answer("a;b@example.org", discover.TLS), Options{}, fault.Invalid},
		{"msmtp", answer("a%H@example.org", discover.TLS), Options{}, fault.Invalid},
		{"msmtp getmail offlineimap", as(" carol"), Options{}, fault.Invalid},
		{"getmail", as("car{ol"), Options{}, fault.Unsupported},
		{"qr", answer("jörg@example.org", discover.TLS), Options{}, fault.Invalid},
		{"nothing", answer(plain, discover.TLS), Options{}, fault.Invalid},
	} {
		for _, form := range strings.Fields(c.forms) {
			if got, err := Write(form, c.a, c.o); !fault.Is(err, c.kind) {
				t.Errorf("%s of %s with %+v: %v, want %v\n%s", form, c.a.Address, c.o, err, c.kind, got)
			}
		}
	}
}

// Programs that can use a token say so, and where it comes from.
func TestTokens(t *testing.T) {
	a := answer(plain, discover.TLS)
	each(&a, func(s *discover.Service) { s.Auth = []string{"oauth2"} })
	for form, want := range map[string]string{
		"muttrc": `imap_oauth_refresh_command = "token"`, "mbsync": "AuthMechs XOAUTH2", "msmtp": "auth oauthbearer", "aerc": "imaps+xoauth2://", "getmail": "use_xoauth2 = true",
		"autoconfig": "<authentication>OAuth2</authentication>", "qr": "",
	} {
		got, err := Write(form, a, Options{Command: "token"})
		if err != nil || !strings.Contains(string(got), want) || strings.Contains(string(got), "password-cleartext") {
			t.Errorf("%s: %v\n%s", form, err, got)
		}
	}
	if text, _ := QR(a, ""); !strings.Contains(text, `993,3,6,`) {
		t.Error(text)
	}
}

// No form without TLS pretends to have it.
func TestWithoutTLS(t *testing.T) {
	for form, want := range map[string]string{
		"autoconfig": "<socketType>plain</socketType>", "mobileconfig": "<key>IncomingMailServerUseSSL</key><false/>", "muttrc": "set ssl_force_tls = no", "mbsync": "SSLType None",
		"msmtp": "tls off", "aerc": "imap+insecure://", "fetchmail": `sslproto ""`, "getmail": "type = SimpleIMAPRetriever", "imapsync": "--nossl1 --notls1", "offlineimap": "ssl = no\nstarttls = no",
	} {
		if got, err := Write(form, answer(plain, "none"), Options{}); err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s: %v\n%s", form, err, got)
		}
	}
}

// Placeholders stand for what the address is made of, in both directions.
func TestPlaceholders(t *testing.T) {
	for _, c := range []struct{ address, name, placeholder, user string }{
		{plain, plain, WholeAddress, plain}, {plain, "carol", LocalPart, "carol"}, {plain, "c1", "c1", "c1"}, {plain, "", WholeAddress, plain},
		{plain, LocalPart, LocalPart, "carol"}, {plain, LocalPart + "." + OnlyDomain, LocalPart + "." + OnlyDomain, "carol.example.org"}, {"", LocalPart, LocalPart, ""},
	} {
		if got := placeholder(c.address, c.name); got != c.placeholder {
			t.Errorf("%+v: %s", c, got)
		}
		if got, err := user(discover.Answer{Address: c.address}, discover.Service{Username: c.name}); got != c.user || (err != nil) != (c.user == "") {
			t.Errorf("%+v: %s %v", c, got, err)
		}
	}
}

// Documents hold what they are told, whatever the letters.
func TestDocumentsEscape(t *testing.T) {
	a := answer(`"<x>&'`+"`"+`"@example.org`, discover.TLS)
	a.Provider = `</displayName><x a="b">&amp;`
	for _, form := range []string{"autoconfig", "mobileconfig"} {
		got, err := Write(form, a, Options{Name: a.Provider})
		if err != nil || strings.Contains(string(got), "<x") || !strings.Contains(string(got), "&lt;x") {
			t.Errorf("%s: %v\n%s", form, err, got)
		}
		if err := xml.Unmarshal(got, new(struct{ XMLName xml.Name })); err != nil {
			t.Error(err)
		}
	}
	got, err := PACC(a, Provider{})
	var doc agentConfiguration
	if err != nil || json.Unmarshal(got, &doc) != nil || doc.Info.Provider.Name != a.Provider {
		t.Errorf("%v %s", err, got)
	}
	if text, err := QR(a, a.Provider); err != nil || !json.Valid([]byte(text)) || !isASCII(text) {
		t.Errorf("%v %s", err, text)
	}
}

func TestOAuthBesidePassword(t *testing.T) {
	a := answer(plain, discover.TLS)
	each(&a, func(s *discover.Service) { s.Auth = []string{"password", "oauth2"} })
	got, err := Autoconfig(a, Provider{Name: "P", Help: "https://help.example/?a&b", MX: "host.example", OAuth: &OAuth{"https://login.example", "https://login.example/a", "https://login.example/t", "mail"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<authentication>password-cleartext</authentication>\n      <authentication>OAuth2</authentication>", "<authURL>https://login.example/a</authURL>", `<domain purpose="mx">host.example</domain>`, `url="https://help.example/?a&amp;b"`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

func TestTooMuchForACode(t *testing.T) {
	if _, err := Draw(strings.Repeat("x", 4000)); !fault.Is(err, fault.TooLarge) {
		t.Error(err)
	}
}
