package format

import (
	"encoding/xml"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/fault"
)

// mixed is an answer whose servers for reading and sending are protected in two ways.
func mixed(in, out string) discover.Answer {
	a := answer(plain, in)
	a.Services[2].Security = out
	return a
}

// mutt has one setting for all its servers: no server loses STARTTLS because another has no
// encryption.
func TestMuttKeepsSTARTTLS(t *testing.T) {
	for _, c := range []struct{ in, out, starttls, force string }{
		{"tls", "tls", "yes", "yes"}, {"tls", "starttls", "yes", "yes"}, {"starttls", "tls", "yes", "yes"}, {"starttls", "starttls", "yes", "yes"},
		{"none", "none", "no", "no"}, {"none", "starttls", "", ""}, {"starttls", "none", "", ""},
	} {
		got, err := Write("muttrc", mixed(c.in, c.out), Options{})
		if c.starttls == "" {
			if !fault.Is(err, fault.Unsupported) {
				t.Errorf("%+v: %v\n%s", c, err, got)
			}
			continue
		}
		if err != nil || !strings.Contains(string(got), "set ssl_starttls = "+c.starttls+"\nset ssl_force_tls = "+c.force+"\n") {
			t.Errorf("%+v: %v\n%s", c, err, got)
		}
	}
}

// A way to sign in that is no password never becomes one.
func TestOtherSignInsAreNoPassword(t *testing.T) {
	for way, want := range map[string]string{
		"ntlm": "NTLM", "gssapi": "GSSAPI", "client-certificate": "TLS-client-cert", "client-address": "client-IP-address", "none": "none", "something": "", "oauth2": "OAuth2",
		"cram-md5": "password-encrypted", "password": "password-cleartext", "app-password": "password-cleartext",
	} {
		if got := strings.Join(configAuth([]string{way}), " "); got != want {
			t.Errorf("%s becomes %q, not %q", way, got, want)
		}
	}
	if got := configAuth(nil); !slices.Equal(got, []string{passwordWord}) {
		t.Error(got)
	}
	a := answer(plain, discover.TLS)
	each(&a, func(s *discover.Service) { s.Auth = []string{"gssapi"} })
	for _, form := range []string{"muttrc", "mbsync", "msmtp", "aerc", "fetchmail", "getmail", "imapsync", "offlineimap", "qr", "mobileconfig"} {
		if got, err := Write(form, a, Options{}); !fault.Is(err, fault.Unsupported) {
			t.Errorf("%s: %v\n%s", form, err, got)
		}
	}
	a.Services[0].Auth = []string{"password"} // only reading concerns it
	if _, err := Write("mbsync", a, Options{}); err != nil {
		t.Error(err)
	}
}

// A profile can say password alone.
func TestProfileNeedsAPassword(t *testing.T) {
	a := answer(plain, discover.TLS)
	each(&a, func(s *discover.Service) { s.Auth = []string{"oauth2"} })
	if got, err := Write("mobileconfig", a, Options{}); !fault.Is(err, fault.Unsupported) {
		t.Errorf("%v\n%s", err, got)
	}
	each(&a, func(s *discover.Service) { s.Auth = []string{"oauth2", "app-password"} })
	if _, err := Write("mobileconfig", a, Options{}); err != nil {
		t.Error(err)
	}
}

// Readers of the first drafts look for smtp, those of the later ones for submit.
func TestPACCHasBothNamesOfSubmission(t *testing.T) {
	got, err := PACC(answer(plain, discover.TLS), Provider{})
	if err != nil || strings.Count(string(got), `"host": "smtp.example.org"`) != 2 || !strings.Contains(string(got), `"smtp": {`) || !strings.Contains(string(got), `"submit": {`) {
		t.Errorf("%v\n%s", err, got)
	}
}

// Notes are comments, whatever is in them.
func TestNotesAreComments(t *testing.T) {
	o := Options{Notes: []string{"one --> two -- `touch x`\nset from = evil \\", "second"}}
	for _, form := range Names() {
		bare, err := Write(form, answer(plain, discover.TLS), Options{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := Write(form, answer(plain, discover.TLS), o)
		if err != nil {
			t.Fatal(err)
		}
		switch form {
		case "pacc", "qr":
			if string(got) != string(bare) {
				t.Errorf("%s has no comments:\n%s", form, got)
			}
			continue
		case "autoconfig", "mobileconfig":
			if err := xml.Unmarshal(got, new(struct{ XMLName xml.Name })); err != nil || !strings.HasPrefix(string(got), "<?xml") {
				t.Errorf("%s: %v\n%s", form, err, got)
			}
			if strings.Count(string(got), "<!-- Note: ") != 2 {
				t.Errorf("%s:\n%s", form, got)
			}
		default:
			without := strings.Replace(strings.Replace(string(got), "# Note: one --> two --  touch x  set from = evil  \n", "", 1), "# Note: second\n", "", 1)
			if without != string(bare) {
				t.Errorf("%s is more than commented:\n%s", form, got)
			}
		}
		if form == "imapsync" && !strings.HasPrefix(string(got), "#!/bin/sh\n") {
			t.Errorf("%s", got)
		}
	}
}
