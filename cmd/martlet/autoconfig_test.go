package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// What programs are told follows from the listeners, TLS from the first byte first, and from
// what [autoconfig] says of the view from outside.
func TestAnnounced(t *testing.T) {
	listen := func(protocol, address, more string) string {
		return fmt.Sprintf("[[listen]]\nprotocol = %q\naddress = %q\n%s", protocol, address, more)
	}
	usual := listen("submission", ":587", "") + listen("imap", ":143", "") + listen("imaps", ":993", "") + listen("submissions", ":465", "") + listen("pop3s", ":995", "") + listen("https", ":443", "")
	const pair = "[tls]\ncertificate = \"c\"\nkey = \"k\"\n"
	for name, c := range map[string]struct{ text, want, web string }{
		"usual":          {usual + pair, "imap mx.example.org 993 tls, imap mx.example.org 143 starttls, pop3 mx.example.org 995 tls, smtp mx.example.org 465 tls, smtp mx.example.org 587 starttls", "https://mx.example.org"},
		"no certificate": {listen("imap", ":143", "") + listen("submission", ":587", ""), "", ""},
		"no TLS":         {listen("imap", ":143", "tls = \"none\"\n") + listen("imaps", ":993", "") + pair, "imap mx.example.org 993 tls", ""},
		"legacy":         {listen("imaps", ":1993", "legacy = true\n") + listen("imaps", ":993", "") + pair, "imap mx.example.org 993 tls", ""},
		"own ports":      {listen("imaps", ":1993", "") + listen("https", ":8443", "") + pair, "imap mx.example.org 1993 tls", "https://mx.example.org:8443"},
		"from outside":   {listen("imaps", ":1993", "") + listen("https", ":8443", "") + pair + "[autoconfig]\nimaps = 993\nhttps = 443\nhost = \"imap.example.net\"\n", "imap imap.example.net 993 tls", "https://imap.example.net"},
		"behind a proxy": {listen("imaps", "127.0.0.1:993", "") + pair, "imap mx.example.org 993 tls", ""},
		"any port":       {listen("imaps", ":0", "") + pair, "", ""},
	} {
		cfg, err := conf.Parse("x", []byte("hostname = \"mx.example.org\"\n"+c.text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []string
		for _, s := range announced(cfg) {
			got = append(got, fmt.Sprintf("%s %s %d %s", s.Protocol, s.Host, s.Port, s.Security))
			if s.Username != "%EMAILADDRESS%" || !slices.Equal(s.Auth, []string{"password"}) {
				t.Errorf("%s: %+v", name, s)
			}
		}
		if strings.Join(got, ", ") != c.want || webBase(cfg) != c.web {
			t.Errorf("%s: %q at %q, want %q at %q", name, got, webBase(cfg), c.want, c.web)
		}
	}
}

// A server that nobody else can reach says so: its listeners are on loopback, and its name is
// in no DNS. Then also a listener without TLS is told of, as what it is.
func TestAnnouncedOnlyHere(t *testing.T) {
	for name, want := range map[string]string{"mail.martlet.test": "localhost", "localhost": "localhost", "mx.example.org": "mx.example.org"} {
		cfg, err := conf.Parse("x", []byte("hostname = \""+name+"\"\n[[listen]]\nprotocol = \"imap\"\naddress = \"127.0.0.1:10143\"\n"))
		if err != nil {
			t.Fatal(err)
		}
		all := announced(cfg)
		if announcedHost(cfg) != want || (len(all) == 1) != (want == "localhost") || len(all) == 1 && all[0].Security != "none" {
			t.Errorf("%s: %s %+v", name, announcedHost(cfg), all)
		}
	}
}

// All are told of the same listeners, by whichever way they ask: of several the first that can be
// used from outside.
func TestAnnouncedOfSeveralListeners(t *testing.T) {
	dir := t.TempDir()
	listen := func(protocol, address, more string) string {
		return fmt.Sprintf("[[listen]]\nprotocol = %q\naddress = %q\n%s", protocol, address, more)
	}
	config := filepath.Join(dir, "martlet.toml")
	text := "hostname = \"mail.hosted.test\"\n" +
		listen("imap", "127.0.0.1:24143", "tls = \"none\"\n") + listen("imap", "192.0.2.1:25143", "tls = \"none\"\n") + listen("imaps", "127.0.0.1:24993", "") + // for programs beside it
		listen("imap", "[::]:143", "") + listen("imaps", "192.0.2.1:993", "") + listen("imaps", "192.0.2.1:25993", "") +
		listen("https", "127.0.0.1:24443", "") + listen("https", "192.0.2.1:443", "") + listen("https", "192.0.2.1:25443", "") +
		listen("submission", "127.0.0.1:24587", "tls = \"none\"\n") + listen("pop3s", "127.0.0.1:24995", "") +
		listen("submissions", "192.0.2.1:465", "") + "[tls]\ncertificate = \"c\"\nkey = \"k\"\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := command(t, "", "domain", "add", "hosted.test", "--config", config); got.code != 0 {
		t.Fatal(got)
	}
	var records []struct{ Name, Value string }
	if err := json.Unmarshal([]byte(command(t, "", "dns", "show", "hosted.test", "--json", "--config", config).out), &records); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"_imaps._tcp.hosted.test|0 1 993 ", "_imap._tcp.hosted.test|10 1 143 ", "_submissions._tcp.hosted.test|0 1 465 ", "_submission._tcp.hosted.test|0 0 0 .", "_pop3s._tcp.hosted.test|20 1 24995 ", "_autodiscover._tcp.hosted.test|0 1 443 "} {
		name, value, _ := strings.Cut(want, "|")
		for _, r := range records {
			if r.Name == name && !strings.HasPrefix(r.Value, value) {
				t.Errorf("%s is %s, want %s", name, r.Value, value)
			}
		}
	}
	_, body := askHouse(t, config, "autoconfig.hosted.test", "/mail/config-v1.1.xml")
	var ports []string
	for _, part := range strings.Split(string(body), "<port>")[1:] {
		port, _, _ := strings.Cut(part, "<")
		ports = append(ports, port)
	}
	if got := strings.Join(ports, " "); got != "993 143 24995 465" {
		t.Errorf("autoconfig tells of %s", got)
	}
	if code, body := askHouse(t, config, "autodiscover.hosted.test", "/autodiscover/autodiscover.json?Protocol=AutodiscoverV1"); !bytes.Contains(body, []byte(`"https://mail.hosted.test/autodiscover/`)) {
		t.Errorf("%d %s", code, body)
	}
	if got := command(t, "", "discover", "alice@hosted.test", "--config", config); got.code != 0 || !strings.Contains(got.out, " 993  TLS") || strings.Contains(got.out, "24993") {
		t.Errorf("%+v", got)
	}
}

// OAuth is told of only if it is asked for, and never alone.
func TestAnnouncedOAuth(t *testing.T) {
	const text = "hostname = \"mx.example.org\"\n[[listen]]\nprotocol = \"imaps\"\naddress = \":993\"\n[tls]\ncertificate = \"c\"\nkey = \"k\"\n[oauth]\nissuer = \"https://login.example.org\"\naudience = [\"mail\"]\n"
	for more, want := range map[string][]string{"": {"password"}, "[autoconfig]\noauth = true\noauth_authorization_url = \"https://login.example.org/a\"\noauth_token_url = \"https://login.example.org/t\"\n": {"password", "oauth2"}} {
		cfg, err := conf.Parse("x", []byte(text+more))
		if err != nil {
			t.Fatal(err)
		}
		if got := announced(cfg)[0].Auth; !slices.Equal(got, want) || (announcedProvider(cfg).OAuth != nil) != (more != "") {
			t.Errorf("%q: %v %+v", more, got, announcedProvider(cfg))
		}
	}
	if _, err := conf.Parse("x", []byte(text+"[autoconfig]\noauth = true\n")); err == nil {
		t.Error("it is told of without a place to sign in")
	}
}

// The settings of a domain are there over http, whoever asks how; its digest is what dns show
// prints; and they can be turned off.
func TestSettingsOverHTTP(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "martlet.toml")
	write := func(more string) {
		text := "hostname = \"mx.hosted.test\"\n[[listen]]\nprotocol = \"https\"\naddress = \"127.0.0.1:443\"\n[[listen]]\nprotocol = \"imaps\"\naddress = \"192.0.2.1:993\"\n[[listen]]\nprotocol = \"submissions\"\naddress = \"192.0.2.1:465\"\n[tls]\ncertificate = \"c\"\nkey = \"k\"\n" + more
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	for _, args := range [][]string{{"domain", "add", "hosted.test"}, {"domain", "add", "b\u00fccher.test"}, {"account", "add", "alice@hosted.test"}} {
		if got := command(t, "", append(args, "--config", config)...); got.code != 0 {
			t.Fatalf("%+v", got)
		}
	}
	shown := command(t, "", "dns", "show", "hosted.test", "--config", config)
	card := command(t, "", "account", "card", "alice@hosted.test", "--json", "--config", config)
	picture := filepath.Join(dir, "a.png")
	if got := command(t, "", "account", "card", "ALICE@hosted.test", "--qr", picture, "--config", config); got.code != 0 || !strings.Contains(got.out, "mx.hosted.test port 993, TLS") || strings.Contains(got.out, "█") {
		t.Errorf("%+v", got)
	}
	if f, err := os.Open(picture); err != nil {
		t.Error(err)
	} else if _, err := png.Decode(f); err != nil {
		t.Error(err)
	}
	var c struct{ Address, Page, QR string }
	if err := json.Unmarshal([]byte(card.out), &c); err != nil || c.Address != "alice@hosted.test" || c.Page != "https://mx.hosted.test/account?address=alice%40hosted.test" || !strings.HasPrefix(c.QR, `[1,[1,1],[0,"mx.hosted.test",993,3,1,"alice@hosted.test"]`) {
		t.Errorf("%+v %v", card, err)
	}
	if got := command(t, "", "account", "card", "nobody@hosted.test", "--config", config); got.code != 1 {
		t.Errorf("a card for nobody: %+v", got)
	}
	if got := command(t, "", "account", "card", "alice@hosted.test", "--qr", "a.gif", "--config", config); got.code != 2 {
		t.Errorf("%+v", got)
	}

	ask := func(host, path string) (int, []byte) { return askHouse(t, config, host, path) }
	code, body := ask("ua-auto-config.hosted.test", "/.well-known/user-agent-configuration.json")
	sum := sha256.Sum256(body)
	if want := "v=UAAC1; a=sha256; d=" + base64.StdEncoding.EncodeToString(sum[:]); code != http.StatusOK || !strings.Contains(shown.out, want) {
		t.Errorf("%d %s, and dns show has no %s:\n%s", code, body, want, shown.out)
	}
	if code, body := ask("autoconfig.hosted.test", "/mail/config-v1.1.xml?emailaddress=nobody@hosted.test"); code != http.StatusOK || !bytes.Contains(body, []byte("<hostname>mx.hosted.test</hostname>")) {
		t.Errorf("%d %s", code, body)
	}
	if code, body := ask("autoconfig.xn--bcher-kva.test", "/mail/config-v1.1.xml"); code != http.StatusOK || !bytes.Contains(body, []byte("<domain>xn--bcher-kva.test</domain>")) || bytes.Contains(body, []byte("\u00fc")) {
		t.Errorf("%d %s", code, body)
	}
	for _, path := range []string{"/.well-known/jmap", "/.well-known/caldav", "/.well-known/carddav"} {
		if code, _ := ask("hosted.test", path); code != http.StatusNotFound {
			t.Errorf("%s: %d, though there is none", path, code)
		}
	}
	if code, _ := ask("mx.hosted.test", "/healthz"); code != http.StatusOK {
		t.Errorf("what is not asked of settings: %d", code)
	}
	write("[autoconfig]\nenabled = false\n")
	if code, _ := ask("autoconfig.hosted.test", "/mail/config-v1.1.xml"); code != http.StatusNotFound {
		t.Errorf("turned off: %d", code)
	}
	if got := command(t, "", "dns", "show", "hosted.test", "--config", config); strings.Contains(got.out, "autoconfig") || strings.Contains(got.out, "ua-auto") || !strings.Contains(got.out, "_imaps._tcp") {
		t.Errorf("turned off, and records for it are wanted: %s", got.out)
	}
	// One that asks too much is told to wait; trusted networks are not.
	write("[autoconfig]\nrequests = 3\n")
	if got := askOften(t, config, "198.51.100.7:1234", 5); got != "200 200 200 429 429" {
		t.Error(got)
	}
	if got := askOften(t, config, "127.0.0.1:1234", 5); got != "200 200 200 200 200" {
		t.Error(got)
	}
}

// inHouse opens the house of a configuration and lets its public handler answer.
func inHouse(t *testing.T, config string, use func(http.Handler)) {
	t.Helper()
	cfg, _, err := loadConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	h, err := openHouse(t.Context(), cfg, newLog(io.Discard, cfg.Log))
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	options, err := h.sessionOptions(nil)
	if err != nil {
		t.Fatal(err)
	}
	use(h.publicHTTP(netsrv.New(options)))
}

func askHouse(t *testing.T, config, host, path string) (code int, body []byte) {
	t.Helper()
	inHouse(t, config, func(h http.Handler) {
		r := httptest.NewRequest("GET", "http://x"+path, nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		code, body = w.Code, w.Body.Bytes()
	})
	return code, body
}

// askOften asks some times from one address, and returns the codes.
func askOften(t *testing.T, config, peer string, times int) string {
	t.Helper()
	var codes []string
	inHouse(t, config, func(h http.Handler) {
		for range times {
			r := httptest.NewRequest("GET", "http://autoconfig.hosted.test/mail/config-v1.1.xml", nil)
			r.RemoteAddr = peer
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			codes = append(codes, strconv.Itoa(w.Code))
		}
	})
	return strings.Join(codes, " ")
}
