package token

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/test/memory"
)

const bad = fault.Unauthenticated

func TestAttack50Signatures(t *testing.T) {
	w := newWorld(t, nil)
	for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.ES384, jose.EdDSA} {
		w.pass(fetchGap)
		issue := w.signer(alg, string(alg), true)
		good := issue(w.says())
		w.check(string(alg), good, "alice@example.org", 0)
		head, rest, _ := strings.Cut(good, ".")
		body, signature, _ := strings.Cut(rest, ".")
		forged, _ := json.Marshal(w.says("email", "bob@example.org"))
		for about, token := range map[string]string{
			"other claims":  head + "." + encode(forged) + "." + signature,
			"no signature":  head + "." + body + ".",
			"cut":           good[:len(good)-10],
			"two parts":     head + "." + body,
			"none":          encode([]byte(`{"alg":"none","kid":"`+string(alg)+`"}`)) + "." + body + ".",
			"other head":    encode([]byte(`{"alg":"HS256","kid":"`+string(alg)+`"}`)) + "." + body + "." + signature,
			"critical":      encode([]byte(`{"alg":"`+string(alg)+`","kid":"`+string(alg)+`","crit":["x"],"x":1}`)) + "." + body + "." + signature,
			"another's key": w.signer(alg, string(alg), false)(w.says()),
		} {
			w.check(string(alg)+", "+about, token, "", bad)
		}
	}
	w.check("the published secret", sign(t, jose.HS256, []byte("secretsecretsecretsecretsecretsecret"), "secret", w.says()), "", bad)
	w.check("empty", "", "", bad)
	w.check("endless", strings.Repeat("x", maxToken+1), "", bad)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func TestAttack50Claims(t *testing.T) {
	w := newWorld(t, nil)
	issue := w.signer(jose.ES256, "1", true)
	const alice = "alice@example.org"
	for _, c := range []struct {
		about  string
		change []any
		want   string
		kind   fault.Kind
	}{
		{"good", nil, alice, 0},
		{"audience among others", []any{"aud", []string{"web", "mail"}}, alice, 0},
		{"other audience", []any{"aud", []string{"web"}}, "", bad},
		{"no audience", []any{"aud", nil}, "", bad},
		{"audience by another name", []any{"aud", nil, "AUD", "mail"}, "", bad},
		{"other issuer", []any{"iss", w.URL + "/"}, "", bad},
		{"no issuer", []any{"iss", nil}, "", bad},
		{"over", []any{"exp", start.Add(-61 * time.Second).Unix()}, "", bad},
		{"over, by our clock", []any{"exp", start.Add(-59 * time.Second).Unix()}, alice, 0},
		{"a fraction", []any{"exp", float64(start.Unix()) + 0.5}, alice, 0},
		{"no end", []any{"exp", nil}, "", bad},
		{"an end that is none", []any{"exp", "tomorrow"}, "", bad},
		{"not yet", []any{"nbf", start.Add(61 * time.Second).Unix()}, "", bad},
		{"just now", []any{"nbf", start.Add(59 * time.Second).Unix()}, alice, 0},
		{"verified", []any{"email_verified", true}, alice, 0},
		{"verified, in words", []any{"email_verified", "true"}, alice, 0},
		{"not verified", []any{"email_verified", false}, "", bad},
		{"not verified, in words", []any{"email_verified", "no"}, "", bad},
		{"no name", []any{"email", nil}, "", bad},
		{"a name that is none", []any{"email", 7}, "", bad},
		{"active is for others to say", []any{"active", false}, alice, 0},
	} {
		w.check(c.about, issue(w.says(c.change...)), c.want, c.kind)
	}
	w.pass(2 * time.Hour)
	w.check("two hours later", issue(w.says()), "", bad)
}

func TestScopeAndOtherClaims(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Scope, o.Claim, o.Domain = "mail.read", "preferred_username", "example.org" })
	issue := w.signer(jose.ES256, "1", true)
	for _, c := range []struct {
		about  string
		change []any
		want   string
		kind   fault.Kind
	}{
		{"no scope", nil, "", fault.Denied},
		{"another", []any{"scope", "openid mail.readers"}, "", fault.Denied},
		{"among others", []any{"scope", "openid mail.read"}, "bob@example.org", 0},
		{"in a list", []any{"scope", []string{"openid", "mail.read"}}, "bob@example.org", 0},
		{"by the other name", []any{"scp", "mail.read"}, "bob@example.org", 0},
		{"an address", []any{"scp", []string{"mail.read"}, "preferred_username", "carol@elsewhere.test"}, "carol@elsewhere.test", 0},
		{"over, and no scope", []any{"exp", start.Add(-time.Hour).Unix()}, "", bad},
	} {
		w.check(c.about, issue(w.says(append([]any{"preferred_username", "bob", "email_verified", false}, c.change...)...)), c.want, c.kind)
	}
	if h := w.Hints(); h.Scope != "mail.read" || h.Configuration != w.URL+"/.well-known/openid-configuration" {
		t.Errorf("%+v", h)
	}
}

// New keys are found, and nobody can make us ask for them all the time.
func TestRotation(t *testing.T) {
	w := newWorld(t, nil)
	first := w.signer(jose.ES256, "1", true)
	var crowd sync.WaitGroup
	for range 20 {
		crowd.Go(func() { w.check("together", first(w.says()), "alice@example.org", 0) })
	}
	crowd.Wait()
	if n := w.count("/keys"); n != 1 {
		t.Errorf("a crowd fetched the keys %d times", n)
	}
	ghost := w.signer(jose.ES256, "ghost", false)
	for range 50 {
		w.check("invented key", ghost(w.says()), "", bad)
	}
	if n := w.count("/keys"); n != 1 {
		t.Errorf("invented keys had the set fetched %d times so soon", n-1)
	}
	w.pass(fetchGap)
	for range 50 {
		w.check("invented key", ghost(w.says()), "", bad)
	}
	if n := w.count("/keys"); n != 2 {
		t.Errorf("the set was fetched %d times, want 2", n)
	}
	second := w.signer(jose.ES256, "2", true)
	w.pass(fetchGap)
	w.check("new key", second(w.says()), "alice@example.org", 0)
	w.mu.Lock()
	w.keys = w.keys[1:]
	w.mu.Unlock()
	w.pass(keysFresh - time.Minute)
	w.check("withdrawn key, not known yet", first(w.says("exp", start.Add(48*time.Hour).Unix())), "alice@example.org", 0)
	w.pass(2 * time.Minute)
	w.check("withdrawn key", first(w.says("exp", start.Add(48*time.Hour).Unix())), "", bad)
}

// While the issuer is down its old keys do, for a day.
func TestIssuerDown(t *testing.T) {
	w := newWorld(t, nil)
	w.down = true
	issue := w.signer(jose.ES256, "1", true)
	long := issue(w.says("exp", start.Add(1000*time.Hour).Unix()))
	w.check("down", long, "", fault.Unavailable)
	w.mu.Lock()
	w.down = false
	w.mu.Unlock()
	w.check("up, too soon to ask", long, "", fault.Unavailable)
	w.pass(fetchGap)
	w.check("up", long, "alice@example.org", 0)
	w.mu.Lock()
	w.down = true
	w.mu.Unlock()
	w.pass(keysStale - time.Minute)
	w.check("down for long", long, "alice@example.org", 0)
	w.check("a key not known", w.signer(jose.ES256, "2", true)(w.says("exp", start.Add(1000*time.Hour).Unix())), "", fault.Unavailable)
	w.pass(2 * time.Minute)
	w.check("down for too long", long, "", fault.Unavailable)
}

// What was learnt while the clock was ahead does not count for years.
func TestClockSetBack(t *testing.T) {
	const ahead = 10 * 365 * 24 * time.Hour
	w := newWorld(t, nil)
	first := w.signer(jose.ES256, "1", true)
	w.pass(ahead)
	w.check("ahead", first(w.says("exp", start.Add(2*ahead).Unix())), "alice@example.org", 0)
	w.mu.Lock()
	w.keys = w.keys[1:]
	w.mu.Unlock()
	w.pass(-ahead)
	w.check("withdrawn key", first(w.says()), "", bad)
	w.check("new key", w.signer(jose.ES256, "2", true)(w.says()), "", bad) // too soon to ask
	w.pass(fetchGap)
	w.check("new key", w.signer(jose.ES256, "3", true)(w.says()), "alice@example.org", 0)

	said := newAnswers(w.now)
	w.pass(ahead)
	said.put("token", "alice", w.now().Add(rememberFor))
	said.setPlace("https://issuer.test/ask")
	w.pass(-ahead)
	if _, ok := said.get("token"); ok || said.place() != "" {
		t.Error("an answer of later counts now")
	}
}

func TestConfigurationOfAnother(t *testing.T) {
	w := newWorld(t, nil)
	w.issuer = "https://elsewhere.test"
	w.check("configuration of another", w.signer(jose.ES256, "1", true)(w.says()), "", fault.Unavailable)
	if w.count("/keys") != 0 {
		t.Error("the keys were fetched all the same")
	}
	moved := newWorld(t, func(o *Options) { o.KeysURL = o.Issuer + "/moved" })
	moved.check("redirected", moved.signer(jose.ES256, "1", true)(moved.says()), "", fault.Unavailable)
	stranger := newWorld(t, func(o *Options) { o.Roots = x509.NewCertPool() })
	stranger.check("certificate of nobody we know", stranger.signer(jose.ES256, "1", true)(stranger.says()), "", fault.Unavailable)
	told := newWorld(t, func(o *Options) { o.KeysURL = o.Issuer + "/keys" })
	told.issuer = "https://elsewhere.test"
	told.check("told where the keys are", told.signer(jose.ES256, "1", true)(told.says()), "alice@example.org", 0)
}

func TestIntrospection(t *testing.T) {
	change := func(o *Options) { o.Introspect, o.ClientID, o.ClientSecret = true, "martlet", "s+cret" }
	w := newWorld(t, change)
	say := func(change ...any) string {
		text, _ := json.Marshal(w.says(append([]any{"active", true}, change...)...))
		return string(text)
	}
	w.sealed = map[string]string{
		"good": say(), "bare": `{"active":true,"aud":"mail","email":"alice@example.org"}`, "idle": say("active", false), "foreign": say("iss", "https://x.test"),
		"web": say("aud", "web"), "over": say("exp", start.Add(-time.Hour).Unix()), "short": say("exp", start.Add(10*time.Second).Unix()),
		"broken": `{"active":`, "nobody": `{"active":true,"aud":"mail"}`,
	}
	for token, kind := range map[string]fault.Kind{
		"good": 0, "bare": 0, "idle": bad, "foreign": bad, "web": bad, "over": bad, "unknown": bad, "broken": fault.Unavailable, "nobody": bad,
	} {
		w.check(token, token, "alice@example.org", kind)
	}
	asked := w.count("/ask")
	w.check("again", "good", "alice@example.org", 0)
	w.check("again", "unknown", "", bad)
	if n := w.count("/ask"); n != asked+1 {
		t.Errorf("asked %d times, want once: about the bad one", n-asked)
	}
	w.check("short", "short", "alice@example.org", 0)
	w.pass(11 * time.Second)
	w.sealed["short"], w.sealed["good"] = `{"active":false}`, `{"active":false}`
	w.check("a short life", "short", "", bad)
	w.check("remembered", "good", "alice@example.org", 0)
	w.pass(rememberFor)
	w.check("withdrawn", "good", "", bad)
	w.down = true
	w.check("down", "bare", "", fault.Unavailable)

	wrong := newWorld(t, func(o *Options) { change(o); o.ClientSecret = "other" })
	wrong.check("we are not let in", "good", "", fault.Unavailable)
}

func TestNewRefuses(t *testing.T) {
	for about, o := range map[string]Options{
		"no issuer":         {Audience: []string{"mail"}},
		"no audience":       {Issuer: "https://issuer.test"},
		"in the clear":      {Issuer: "http://issuer.test", Audience: []string{"mail"}},
		"keys in the clear": {Issuer: "https://issuer.test", KeysURL: "http://issuer.test/keys", Audience: []string{"mail"}},
		"asks in the clear": {Issuer: "https://issuer.test", Introspect: true, IntrospectURL: "http://issuer.test/ask"},
		"a password":        {Issuer: "https://user:secret@issuer.test", Audience: []string{"mail"}},
		"not a URL":         {Issuer: "issuer.test", Audience: []string{"mail"}},
	} {
		if _, err := New(o); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", about, err)
		}
	}
	for _, good := range []string{"https://issuer.test", "http://localhost:8080/realm", "http://127.0.0.1:1", "http://[::1]:2"} {
		if _, err := New(Options{Issuer: good, Audience: []string{"mail"}}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}

// FuzzCheck: nothing but what the issuer signed is ever taken.
func FuzzCheck(f *testing.F) {
	ring := newKeyRing(Options{Now: func() time.Time { return start }, Log: slog.New(slog.DiscardHandler)}, func(context.Context) ([]byte, error) {
		return []byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`), nil
	})
	i := &Issuer{opt: Options{Issuer: "https://issuer.test", Audience: []string{"mail"}, Claim: "email", Now: ring.now}, keys: ring}
	f.Add(encode([]byte(`{"alg":"ES256","kid":"1"}`)) + "." + encode([]byte(`{"iss":"https://issuer.test","aud":"mail","exp":1900000000,"email":"a@b.test"}`)) + "." + strings.Repeat("A", 86))
	f.Add(encode([]byte(`{"alg":"none"}`)) + ".e30.")
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		if name, err := i.Check(context.Background(), token); err == nil || name != "" {
			t.Fatalf("%q is taken for %q", token, name)
		}
	})
}

func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"iss":"https://issuer.test","aud":["mail"],"exp":1900000000,"email":"a@b.test","scope":"x y"}`))
	f.Add([]byte(`{"iss":"https://issuer.test","aud":"mail","exp":1e300,"nbf":null,"email":"a@b.test"}`))
	f.Add([]byte(`{"ISS":"https://issuer.test","aud":null,"exp":1.5}`))
	i := &Issuer{opt: Options{Issuer: "https://issuer.test", Audience: []string{"mail"}, Claim: "email"}}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := readClaims(text)
		if err != nil {
			return
		}
		name, err := i.judge(c, start)
		if err != nil {
			return
		}
		var all map[string]any
		if json.Unmarshal(text, &all) != nil || all["iss"] != "https://issuer.test" || all["email"] != name {
			t.Fatalf("%s is taken for %q", text, name)
		}
		if end, ok := all["exp"].(float64); !ok || end < float64(start.Unix()-61) {
			t.Fatalf("%s has no end that is to come", text)
		}
	})
}

// FuzzKeys: of a key set only public keys for signatures are taken, strong ones and not too
// many, and they are the same when they are written again.
func FuzzKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"},{},7]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var keys []jose.JSONWebKey
		var err error
		memory.Bounded(t, 2000*len(text), func() { keys, err = readKeys(text) })
		if err != nil {
			return
		}
		if len(keys) > maxKeys {
			t.Fatalf("%d keys", len(keys))
		}
		for _, k := range keys {
			if !k.IsPublic() || k.Use != "" && k.Use != "sig" {
				t.Fatalf("%T is taken for signatures of %q", k.Key, k.Use)
			}
		}
		written, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		again, err := readKeys(written)
		if err != nil || len(again) != len(keys) {
			t.Fatalf("%d keys, written anew %d, %v", len(keys), len(again), err)
		}
		for i := range keys {
			if again[i].KeyID != keys[i].KeyID || again[i].Algorithm != keys[i].Algorithm || !again[i].Key.(interface{ Equal(crypto.PublicKey) bool }).Equal(keys[i].Key) {
				t.Fatalf("%+v became %+v", keys[i], again[i])
			}
		}
	})
}
