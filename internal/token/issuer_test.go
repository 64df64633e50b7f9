package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/martlet-mail/martlet/internal/fault"
)

var start = time.Unix(1_800_000_000, 0)

// world is an OpenID provider on loopback, which signs for real, and an Issuer that
// trusts it.
type world struct {
	*httptest.Server
	t *testing.T
	*Issuer

	mu     sync.Mutex
	clock  time.Time
	keys   []jose.JSONWebKey // that are published
	sealed map[string]string // answers of introspection by token
	down   bool
	hits   map[string]int // requests by path
	issuer string         // that the configuration names; "" is the true one
}

func newWorld(t *testing.T, change func(*Options)) *world {
	t.Helper()
	w := &world{t: t, clock: start, sealed: map[string]string{}, hits: map[string]int{}}
	w.Server = httptest.NewTLSServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.Close)
	roots := x509.NewCertPool()
	roots.AddCert(w.Certificate())
	opt := Options{Issuer: w.URL, Audience: []string{"mail"}, Roots: roots, Now: w.now, Dial: new(net.Dialer).DialContext}
	if change != nil {
		change(&opt)
	}
	var err error
	if w.Issuer, err = New(opt); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

func (w *world) count(path string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hits[path]
}

func (w *world) serve(rw http.ResponseWriter, req *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hits[req.URL.Path]++
	if w.down {
		rw.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	switch req.URL.Path {
	case "/.well-known/openid-configuration":
		name := w.issuer
		if name == "" {
			name = w.URL
		}
		json.NewEncoder(rw).Encode(map[string]any{"issuer": name, "jwks_uri": w.URL + "/keys", "introspection_endpoint": w.URL + "/ask"})
	case "/keys":
		var set []any
		for _, k := range w.keys {
			set = append(set, k)
		}
		set = append(set, map[string]string{"kty": "unheard-of", "kid": "strange"}, map[string]string{"kty": "oct", "kid": "secret", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"})
		json.NewEncoder(rw).Encode(map[string]any{"keys": set})
	case "/ask":
		id, secret, _ := req.BasicAuth()
		if req.Method != http.MethodPost || id != "martlet" || secret != "s%2Bcret" {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		text, ok := w.sealed[req.FormValue("token")]
		if !ok {
			text = `{"active":false}`
		}
		rw.Write([]byte(text))
	default:
		http.Redirect(rw, req, "/keys", http.StatusFound)
	}
}

// signer makes a key, publishes it if asked, and signs with it.
func (w *world) signer(alg jose.SignatureAlgorithm, id string, publish bool) func(map[string]any) string {
	w.t.Helper()
	var private crypto.Signer
	var err error
	switch alg {
	case jose.ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if publish {
		w.mu.Lock()
		w.keys = append(w.keys, jose.JSONWebKey{Key: private.Public(), KeyID: id, Use: "sig"})
		w.mu.Unlock()
	}
	return func(c map[string]any) string { return sign(w.t, alg, private, id, c) }
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, id string, c map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: id}}, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	out, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// says returns the claims of a good token, changed by pairs of name and value; nil
// takes one away.
func (w *world) says(change ...any) map[string]any {
	c := map[string]any{
		"iss": w.URL, "sub": "1", "aud": "mail", "email": "alice@example.org",
		"iat": start.Unix(), "exp": start.Add(time.Hour).Unix(),
	}
	for i := 0; i < len(change); i += 2 {
		c[change[i].(string)] = change[i+1]
		if change[i+1] == nil {
			delete(c, change[i].(string))
		}
	}
	return c
}

func (w *world) check(about, token string, want string, kind fault.Kind) {
	w.t.Helper()
	got, err := w.Check(context.Background(), token)
	switch {
	case kind == 0 && (err != nil || got != want):
		w.t.Errorf("%s: %q, %v, want %q", about, got, err, want)
	case kind != 0 && (!fault.Is(err, kind) || got != ""):
		w.t.Errorf("%s: %q, %v, want %v", about, got, err, kind)
	case err != nil && len(token) > 20 && strings.Contains(err.Error(), token[len(token)-20:]):
		w.t.Errorf("%s: the error tells the token", about)
	}
}
