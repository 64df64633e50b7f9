package peers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// provider is an OpenID provider on loopback, under TLS, which signs for real.
type provider struct {
	*httptest.Server
	t   *testing.T
	key *ecdsa.PrivateKey
	ca  string // file
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{t: t}
	var err error
	if p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]string{"issuer": p.URL, "jwks_uri": p.URL + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: "1", Algorithm: "ES256", Use: "sig"}}})
	})
	p.Server = httptest.NewTLSServer(mux)
	t.Cleanup(p.Close)
	p.ca = write(t, t.TempDir(), "issuer.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})))
	return p
}

// token issues one for an address, for a time from now.
func (p *provider) token(address string, life time.Duration) string {
	p.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.key, KeyID: "1"}}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	claims, _ := json.Marshal(map[string]any{
		"iss": p.URL, "aud": "martlet", "scope": "openid mail", "email": address, "email_verified": true, "exp": time.Now().Add(life).Unix(),
	})
	signed, err := signer.Sign(claims)
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

// configured starts a server with more configuration.
func configured(t *testing.T, text string, set map[string]string, accounts ...string) *subject {
	t.Helper()
	if against() == "dovecot" {
		t.Skip("of our own server alone")
	}
	s := start(t, martlet.Options{Accounts: accounts})
	for key, value := range set {
		if err := s.Set(key, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(s.Config)
	if err == nil {
		err = os.WriteFile(s.Config, append(old, text...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(); err != nil {
		t.Fatalf("%v\n%s", err, s.LogTail(10))
	}
	return s
}

// ways are how curl reaches a mailbox and submission.
func (s *subject) ways() map[string][]string {
	return map[string][]string{
		"imap":        {"imap://" + s.addr("imap") + "/INBOX", "--request", "NOOP"},
		"imaps":       {"imaps://" + s.addr("imaps") + "/INBOX", "--request", "NOOP"},
		"pop3":        {"--ssl-reqd", "pop3://" + s.addr("pop3")},
		"pop3s":       {"pop3s://" + s.addr("pop3s")},
		"submission":  {"--ssl-reqd", "smtp://" + s.addr("submission"), "--request", "NOOP"},
		"submissions": {"smtps://" + s.addr("submissions"), "--request", "NOOP"},
	}
}

const loginDenied = 67 // what curl ends with

// curl logs in with an access token over every protocol.
func TestTokens(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	s := configured(t, fmt.Sprintf("\n[oauth]\nissuer = %q\naudience = [\"martlet\"]\nscope = \"mail\"\nca = %q\n", p.URL, p.ca), nil)
	alice, bob := s.account(t, "alice").Address, s.account(t, "bob").Address
	other := newProvider(t)
	other.URL = p.URL
	for way, at := range s.ways() {
		for _, c := range []struct {
			about, mech, user, token string
			only                     string // the ways to try; failures are answered late
		}{
			{"OAUTHBEARER", "OAUTHBEARER", alice, p.token(alice, time.Hour), ""},
			{"XOAUTH2", "XOAUTH2", alice, p.token(alice, time.Hour), ""},
			{"whatever curl likes", "*", alice, p.token(alice, time.Hour), ""},
			{"expired", "OAUTHBEARER", alice, p.token(alice, -time.Hour), "imaps pop3 submission"},
			{"expired", "XOAUTH2", bob, p.token(bob, -time.Hour), "imap pop3s submissions"},
			{"of bob", "OAUTHBEARER", alice, p.token(bob, time.Hour), "imap"},
			{"signed by another", "XOAUTH2", bob, other.token(bob, time.Hour), "imaps"},
		} {
			code := 0
			if c.only != "" && !slices.Contains(strings.Fields(c.only), way) {
				continue
			} else if c.only != "" {
				code = loginDenied
			}
			args := append([]string{"--silent", "--show-error", "--max-time", "30", "--cacert", s.CA, "--login-options", "AUTH=" + c.mech,
				"--user", c.user + ":", "--oauth2-bearer", c.token}, at...)
			if r := (program{name: "curl", args: args}).run(t); r.code != code {
				t.Errorf("%s, %s, %s: curl ends with code %d, not %d: %s", way, c.about, c.mech, r.code, code, r.err)
			}
			if log, _ := os.ReadFile(s.log); strings.Contains(string(log), c.token[len(c.token)-40:]) {
				t.Errorf("%s, %s, %s: the log has the token", way, c.about, c.mech)
			}
		}
	}
	refusal(t, s, p)
}

// refusal plays the failed exchange of RFC 7628, 4.3.
func refusal(t *testing.T, s *subject, p *provider) {
	w := dial(t, s.addr("imap"))
	if l := w.line(); !strings.Contains(l, "AUTH=OAUTHBEARER AUTH=XOAUTH2") {
		t.Errorf("greeting %q", l)
	}
	w.send("t1 AUTHENTICATE OAUTHBEARER %s\r\n", base64.StdEncoding.EncodeToString([]byte("n,a=alice@martlet.test,\x01host=localhost\x01port=143\x01auth=\x01\x01")))
	challenge, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(w.line(), "+ "))
	want := fmt.Sprintf(`{"status":"invalid_token","scope":"mail","openid-configuration":"%s/.well-known/openid-configuration"}`, p.URL)
	if err != nil || string(challenge) != want {
		t.Errorf("challenge %q, %v", challenge, err)
	}
	w.send("AQ==\r\n")
	if l := w.line(); !strings.HasPrefix(l, "t1 NO [AUTHENTICATIONFAILED]") {
		t.Errorf("answer %q", l)
	}
}

// openssl makes an authority and certificates of it.
type authority struct {
	t   *testing.T
	dir string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t, t.TempDir()}
	a.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
		"-subj", "/CN=People", "-keyout", "ca.key", "-out", "ca.pem")
	return a
}

func (a *authority) openssl(args ...string) {
	a.t.Helper()
	program{name: "openssl", args: args, home: a.dir}.succeed(a.t)
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// issue makes name.pem and name.key for a subject and, if there is one, an address.
func (a *authority) issue(name, subject, address string) {
	a.t.Helper()
	ext := "extendedKeyUsage=clientAuth\n"
	if address != "" {
		ext += "subjectAltName=email:" + address + "\n"
	}
	write(a.t, a.dir, name+".ext", ext)
	a.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject, "-keyout", name+".key", "-out", name+".csr")
	a.openssl("x509", "-req", "-in", name+".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile", name+".ext", "-out", name+".pem")
}

// curl logs in with a certificate over every protocol.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue("alice", "/CN=Alice", "alice@martlet.test")
	a.issue("robert", "/O=Example/CN=robert", "")
	a.issue("ghost", "/CN=Ghost", "ghost@martlet.test")
	s := configured(t, "\n[[tls.client]]\nsubject = \"CN=robert,O=Example\"\naccount = \"bob@martlet.test\"\n",
		map[string]string{"tls.client_ca": fmt.Sprintf("%q", a.file("ca.pem"))})
	for way, at := range s.ways() {
		if way == "imap" {
			at = append([]string{"--ssl-reqd"}, at...)
		}
		for _, c := range []struct {
			cert, user string
			good       bool
		}{
			{"alice", "alice@martlet.test", true}, {"robert", "bob@martlet.test", true},
			{"alice", "bob@martlet.test", false}, {"ghost", "ghost@martlet.test", false}, {"", "alice@martlet.test", false},
		} {
			args := append([]string{"--silent", "--show-error", "--max-time", "30", "--cacert", s.CA, "--login-options", "AUTH=EXTERNAL", "--user", c.user + ":"}, at...)
			if c.cert != "" {
				args = append(args, "--cert", a.file(c.cert+".pem"), "--key", a.file(c.cert+".key"))
			}
			if r := (program{name: "curl", args: args}).run(t); (r.code == 0) != c.good {
				t.Errorf("%s as %s with %q: curl ends with code %d: %s", way, c.user, c.cert, r.code, r.err)
			}
		}
	}
}

// neomutt takes a mechanism with channel binding as soon as there is one, and cannot do
// it. The day the first half fails, the row in docs/quirks.md can go.
func TestNeomuttPicks(t *testing.T) {
	t.Parallel()
	for binding, good := range map[string]bool{"true": false, "false": true} {
		s := configured(t, "", map[string]string{"tls.channel_binding": binding})
		a := s.account(t, "alice")
		home := t.TempDir()
		smtp := strings.Replace("smtps://USER@localhost:"+strings.Split(s.addr("submissions"), ":")[1], "USER", strings.ReplaceAll(a.Address, "@", "%40"), 1)
		rc := fmt.Sprintf(muttRC, a.Address, a.Password, smtp, "imap://"+s.addr("imap"), s.CA)
		rc = strings.Replace(rc, `set smtp_authenticators = "plain"`, "", 1)
		p := program{name: "neomutt", args: []string{"-F", write(t, home, "rc", rc), "-s", "picked", "--", a.Address}, home: home, in: "The text.\n",
			env: []string{"TMPDIR=" + home}} // what could not be sent is left there
		if r := p.run(t); (r.code == 0) != good {
			t.Errorf("channel_binding = %s: neomutt ends with code %d\n%s%s", binding, r.code, tail(r.out), tail(r.err))
		}
	}
}
