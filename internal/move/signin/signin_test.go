package signin

import (
	"context"
	"crypto/rand"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move/signin/signintest"
)

// world is a sign-in with a clock of its own.
type world struct {
	*signintest.Server
	Options
	now      time.Time
	provider Provider
	client   Client
	waits    []time.Duration
}

func newWorld(t *testing.T, show func(w *world, p Prompt)) *world {
	w := &world{now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	now := func() time.Time { return w.now }
	w.Server = signintest.New(t, now)
	w.Options = Options{
		HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: Direct}, Now: now, Random: rand.Reader,
		Listen: func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") },
		Show:   func(p Prompt) { show(w, p) },
		Wait: func(_ context.Context, d time.Duration) error {
			w.Lock()
			defer w.Unlock()
			w.waits = append(w.waits, d)
			w.now = w.now.Add(d)
			return nil
		},
	}
	w.client = Client{w.ClientID, w.ClientSecret}
	p, err := w.Issuer(t.Context(), w.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	w.provider = p
	return w
}

func browse(t *testing.T) func(*world, Prompt) {
	return func(w *world, p Prompt) { go w.Browse(t, p.URL) }
}

func TestLoopback(t *testing.T) {
	w := newWorld(t, browse(t))
	g, err := w.Loopback(t.Context(), w.provider, w.client)
	if err != nil {
		t.Fatal(err)
	}
	if !w.Holds(g.Access) || g.Refresh == "" || g.Mechanism != "" || !g.Expires.Equal(w.now.Add(time.Hour)) {
		t.Errorf("%+v", g)
	}
	if w.provider.Scope != "mail offline_access" {
		t.Errorf("scope %q", w.provider.Scope)
	}
	if same, fresh, err := w.Fresh(t.Context(), g); err != nil || fresh || same != g {
		t.Errorf("a token that holds is renewed: %v %v", fresh, err)
	}
}

// The provider that checks PKCE is what the other tests rely on: without it a code alone
// would do.
func TestCodeWithoutVerifierIsWorthNothing(t *testing.T) {
	var stolen url.Values
	w := newWorld(t, func(w *world, p Prompt) {
		resp, err := (&http.Client{CheckRedirect: Direct, Transport: http.DefaultTransport}).Get(p.URL)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
		back, _ := url.Parse(resp.Header.Get("Location"))
		stolen = back.Query()
	})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	if _, err := w.Loopback(ctx, w.provider, w.client); err == nil {
		t.Fatal("signed in by nobody")
	}
	a, err := w.ask(w.provider, w.client) // who has another verifier
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.settle(t.Context(), a, stolen); err == nil {
		t.Error("a stolen code was taken without its verifier")
	}
}

func TestLoopbackRefusals(t *testing.T) {
	// with changes the answer's query on its way back.
	with := func(change func(url.Values)) func(*world, Prompt) {
		return func(w *world, p Prompt) {
			go func() {
				c := http.Client{Transport: http.DefaultTransport, CheckRedirect: Direct}
				resp, err := c.Get(p.URL)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				back, _ := url.Parse(resp.Header.Get("Location"))
				q := back.Query()
				change(q)
				back.RawQuery = q.Encode()
				for range maxStrangers + 1 { // more than once: one who does not know the state may ask on
					if w.Browse(t, back.String()) != 400 || q.Get("state") != "forged" {
						return
					}
				}
			}()
		}
	}
	for _, c := range []struct {
		name string
		show func(*world, Prompt)
		deny bool
		says string
	}{
		{"denied", browse(t), true, "declined"},
		{"another state", with(func(q url.Values) { q.Set("state", "forged") }), false, "too many answers"},
		{"another issuer", with(func(q url.Values) { q.Set("iss", "https://evil.example") }), false, "evil.example"},
		{"no code", with(func(q url.Values) { q.Del("code") }), false, "without a code"},
		{"another code", with(func(q url.Values) { q.Set("code", "guessed") }), false, "invalid_grant"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.show)
			w.Deny = c.deny
			g, err := w.Loopback(t.Context(), w.provider, w.client)
			if !fault.Is(err, fault.Denied) || !strings.Contains(fault.Say(err), c.says) || g != (Grant{}) {
				t.Errorf("%v %+v", err, g)
			}
			if slices.Contains(w.Requests, "authorization_code ok") {
				t.Error("the code was taken all the same")
			}
		})
	}
}

// A page of another site cannot reach the listener by a name of its own, and what is asked
// besides is not there.
func TestLoopbackAnswersNobodyElse(t *testing.T) {
	w := newWorld(t, func(w *world, p Prompt) {
		u, _ := url.Parse(p.URL)
		at := u.Query().Get("redirect_uri")
		go func() {
			for _, c := range []struct{ method, path, host string }{
				{"GET", "?state=x", "rebound.example"}, {"GET", "favicon.ico", ""}, {"POST", "", ""},
			} {
				req, _ := http.NewRequest(c.method, at+c.path, nil)
				req.Host = c.host
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Error(err)
					continue
				}
				if resp.Body.Close(); resp.StatusCode != 404 {
					t.Errorf("%+v: %d", c, resp.StatusCode)
				}
			}
			w.Browse(t, p.URL)
		}()
	})
	if _, err := w.Loopback(t.Context(), w.provider, w.client); err != nil {
		t.Fatal(err)
	}
}

// The address that the browser could not reach is as good.
func TestPasted(t *testing.T) {
	pasted := make(chan string, 2)
	w := newWorld(t, func(w *world, p Prompt) {
		resp, err := (&http.Client{CheckRedirect: Direct, Transport: http.DefaultTransport}).Get(p.URL)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
		pasted <- "http://127.0.0.1/?code=x&state=y"
		pasted <- resp.Header.Get("Location") + "\n"
	})
	w.Pasted = pasted
	if g, err := w.Loopback(t.Context(), w.provider, w.client); err != nil || !w.Holds(g.Access) {
		t.Fatalf("%v", err)
	}
}

func TestListenerMustBeOfThisMachine(t *testing.T) {
	w := newWorld(t, browse(t))
	w.Listen = func() (net.Listener, error) { return net.Listen("tcp", ":0") }
	if _, err := w.Loopback(t.Context(), w.provider, w.client); !fault.Is(err, fault.Invalid) {
		t.Errorf("%v", err)
	}
}

func TestDevice(t *testing.T) {
	var shown Prompt
	w := newWorld(t, func(w *world, p Prompt) { shown = p })
	w.Pending = 2
	w.Show = func(p Prompt) { shown = p; w.SlowDown() } // the first question comes too early
	g, err := w.Device(t.Context(), w.provider, w.client)
	if err != nil || !w.Holds(g.Access) || shown.Code != "WDJB-MJHT" || shown.URL != w.URL+"/go" {
		t.Fatalf("%v %+v", err, shown)
	}
	if want := []time.Duration{5 * time.Second, 10 * time.Second, 10 * time.Second, 10 * time.Second}; !slices.Equal(w.waits, want) {
		t.Errorf("waited %v", w.waits)
	}
	if !slices.ContainsFunc(w.Requests, func(s string) bool { return strings.HasSuffix(s, "slow_down") }) {
		t.Errorf("%q", w.Requests)
	}
}

func TestDeviceRefusals(t *testing.T) {
	w := newWorld(t, func(*world, Prompt) {})
	w.Deny = true
	if _, err := w.Device(t.Context(), w.provider, w.client); !fault.Is(err, fault.Denied) {
		t.Errorf("denied: %v", err)
	}
	w = newWorld(t, func(*world, Prompt) {})
	w.Pending = 1 << 30
	if _, err := w.Device(t.Context(), w.provider, w.client); !fault.Is(err, fault.Unavailable) || len(w.waits) > 121 {
		t.Errorf("expired: %v after %d", err, len(w.waits))
	}
	w = newWorld(t, func(*world, Prompt) {})
	w.Down = true
	if _, err := w.Device(t.Context(), w.provider, w.client); !fault.Is(err, fault.Unavailable) || len(w.waits) > 20 {
		t.Errorf("down: %v after %d", err, len(w.waits))
	}
	google, _ := Find("google")
	if _, err := w.Device(t.Context(), google, w.client); !fault.Is(err, fault.Unsupported) || !strings.Contains(fault.Say(err), "Google does not allow") {
		t.Errorf("google: %v", err)
	}
}

func TestRefresh(t *testing.T) {
	w := newWorld(t, browse(t))
	g, err := w.Loopback(t.Context(), w.provider, w.client)
	if err != nil {
		t.Fatal(err)
	}
	first := g
	for range 3 { // each refresh token is good once, and a new one comes with the answer
		w.now = w.now.Add(59 * time.Minute)
		was := g
		var fresh bool
		if g, fresh, err = w.Fresh(t.Context(), g); err != nil || !fresh || g.Refresh == was.Refresh || !w.Holds(g.Access) {
			t.Fatalf("%v %v", fresh, err)
		}
	}
	if _, _, err := w.Renew(t.Context(), first); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a refresh token that was used is good still: %v", err)
	}
	w.Revoke()
	_, _, err = w.Renew(t.Context(), g)
	if !fault.Is(err, fault.Unauthenticated) || strings.Contains(err.Error(), g.Refresh) {
		t.Errorf("revoked: %v", err)
	}
	w.Down = true
	if _, _, err := w.Renew(t.Context(), g); !fault.Is(err, fault.Unavailable) {
		t.Errorf("down: %v", err)
	}
	g.Refresh = ""
	if _, _, err := w.Renew(t.Context(), g); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("nothing to renew with: %v", err)
	}
}

func TestIssuer(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct {
		issuer string
		kind   fault.Kind
	}{
		{w.URL + "/", fault.Invalid}, // it calls itself otherwise
		{"http://example.org", fault.Invalid},
		{"https://user@example.org", fault.Invalid},
		{"http://127.0.0.1:1", fault.Unavailable},
	} {
		if _, err := w.Issuer(t.Context(), c.issuer, ""); !fault.Is(err, c.kind) {
			t.Errorf("%s: %v", c.issuer, err)
		}
	}
	if got := wellKnown("https://example.org/tenant/"); got[0] != "https://example.org/.well-known/oauth-authorization-server/tenant" || got[1] != "https://example.org/tenant/.well-known/openid-configuration" {
		t.Errorf("%q", got)
	}
}

// What is sent to a token endpoint goes nowhere else.
func TestNoRedirectIsFollowed(t *testing.T) {
	w := newWorld(t, nil)
	hits := 0
	mux := http.NewServeMux()
	mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { hits++ })
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: mux}
	defer s.Close()
	go s.Serve(ln)
	g := Grant{Provider: "x", TokenURL: "http://" + ln.Addr().String() + "/token", Refresh: "r"}
	if _, _, err := w.Renew(t.Context(), g); err == nil || hits > 0 {
		t.Errorf("%v, %d hits", err, hits)
	}
}

func TestProviders(t *testing.T) {
	for _, p := range Providers() {
		for _, at := range []string{p.AuthURL, p.TokenURL} {
			if err := checkURL(at); err != nil || !strings.HasPrefix(at, "https://") {
				t.Errorf("%s: %q", p.Name, at)
			}
		}
		if p.Scope == "" || p.Mechanism == "" || len(p.Domains) == 0 || p.Register == "" || p.DeviceURL == "" && p.NoDevice == "" {
			t.Errorf("%+v", p)
		}
		if got, ok := Of("imap." + p.Domains[0]); !ok || got.Name != p.Name {
			t.Errorf("%s: %+v", p.Name, got)
		}
	}
	if _, ok := Of("notgmail.com"); ok {
		t.Error("notgmail.com is Google's")
	}
	if _, err := Find("nobody"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	w := newWorld(t, nil)
	if _, err := w.Loopback(t.Context(), w.provider, Client{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("without a client: %v", err)
	}
}

// Only this machine itself may be asked without TLS, and no name that looks like it.
func TestAttackNamesLikeThisMachine(t *testing.T) {
	for url, fine := range map[string]bool{
		"http://127.0.0.1:8080/t": true, "http://127.9.9.9/t": true, "http://[::1]/t": true, "http://localhost:1/t": true, "https://id.example/t": true,
		"http://127.evil.example/t": false, "http://127.0.0.1.evil.example/t": false, "http://localhost.evil.example/t": false, "http://id.example/t": false,
		"http://[fe80::1]/t": false, "ftp://127.0.0.1/t": false, "http://127.1/t": false,
	} {
		if err := checkURL(url); (err == nil) != fine {
			t.Errorf("%s: %v", url, err)
		}
	}
}
