// Package signintest is a small OAuth 2.0 server for tests: it signs people in by a browser
// with PKCE and by a code on a device, gives access tokens that end, and refresh tokens that
// it takes back when they are used. It checks all that RFC 6749, 7636, 8252 and 8628 have a
// server check, so that a client that leaves something out does not get in.
package signintest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server is one issuer. Its fields may be changed between requests, under Lock.
type Server struct {
	URL string // of the issuer
	sync.Mutex

	ClientID, ClientSecret string
	Now                    func() time.Time
	Lifetime               time.Duration // of access tokens
	Deny                   bool          // the person says no
	Person                 string        // e-mail address of whoever signs in
	Scope                  string
	Interval               time.Duration // of a device
	Pending                int           // questions of a device that come too early
	Down                   bool          // it answers 503

	codes    map[string]code
	refresh  map[string]bool // that hold
	access   map[string]time.Time
	devices  map[string]*device
	n        int
	browser  *http.Client
	Requests []string // to the token endpoint: kind and outcome
}

type code struct {
	challenge, redirect string
}

type device struct {
	ends, last time.Time
	every      time.Duration
}

// New starts a server that ends with the test.
func New(t testing.TB, now func() time.Time) *Server {
	s := &Server{
		ClientID: "client of the tests", ClientSecret: "s3cret/of+client", Now: now, Lifetime: time.Hour, Scope: "mail offline_access", Interval: 5 * time.Second,
		codes: map[string]code{}, refresh: map[string]bool{}, access: map[string]time.Time{}, devices: map[string]*device{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", s.metadata)
	mux.HandleFunc("GET /authorize", s.authorize)
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("POST /device", s.device)
	mux.HandleFunc("POST /introspect", s.introspect)
	h := httptest.NewServer(mux)
	t.Cleanup(h.Close)
	s.URL, s.browser = h.URL, h.Client()
	return s
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *Server) metadata(w http.ResponseWriter, _ *http.Request) {
	answer(w, 200, map[string]any{
		"issuer": s.URL, "authorization_endpoint": s.URL + "/authorize", "token_endpoint": s.URL + "/token",
		"device_authorization_endpoint": s.URL + "/device", "scopes_supported": []string{"mail", "offline_access", "calendar"},
		"code_challenge_methods_supported": []string{"S256"}, "token_endpoint_auth_methods_supported": []string{"client_secret_post"},
	})
}

func (s *Server) next(kind string) string {
	s.n++
	return fmt.Sprintf("%s-%d-of-the-tests", kind, s.n)
}

// authorize is what the browser asks; the person behind it says yes or no at once.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	s.Lock()
	defer s.Unlock()
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || q.Get("client_id") != s.ClientID || !loopback(back) { // RFC 6749, 3.1.2.4: nobody is sent there
		http.Error(w, "wrong client or redirect", 400)
		return
	}
	out := url.Values{"state": {q.Get("state")}, "iss": {s.URL}}
	switch {
	case q.Get("response_type") != "code" || q.Get("code_challenge") == "" || q.Get("code_challenge_method") != "S256":
		out.Set("error", "invalid_request")
	case s.Deny:
		out.Set("error", "access_denied")
	default:
		c := s.next("code")
		s.codes[c] = code{q.Get("code_challenge"), q.Get("redirect_uri")}
		out.Set("code", c)
	}
	back.RawQuery = out.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

// loopback is any port of this machine (RFC 8252, 7.3).
func loopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && (ip != nil && ip.IsLoopback() || u.Hostname() == "localhost") && u.Port() != ""
}

func (s *Server) refuse(w http.ResponseWriter, kind, code string) {
	s.Requests = append(s.Requests, kind+" "+code)
	answer(w, 400, map[string]string{"error": code, "error_description": "as the test wants"})
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	s.Lock()
	defer s.Unlock()
	if s.Down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	kind := r.FormValue("grant_type")
	if r.FormValue("client_id") != s.ClientID || r.FormValue("client_secret") != s.ClientSecret {
		s.refuse(w, kind, "invalid_client")
		return
	}
	switch kind {
	case "authorization_code":
		c, ok := s.codes[r.FormValue("code")]
		delete(s.codes, r.FormValue("code")) // RFC 6749, 4.1.2: once
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if !ok || base64.RawURLEncoding.EncodeToString(sum[:]) != c.challenge || r.FormValue("redirect_uri") != c.redirect {
			s.refuse(w, kind, "invalid_grant")
			return
		}
	case "refresh_token":
		if !s.refresh[r.FormValue("refresh_token")] {
			s.refuse(w, kind, "invalid_grant")
			return
		}
		delete(s.refresh, r.FormValue("refresh_token"))
	case "urn:ietf:params:oauth:grant-type:device_code":
		if code := s.poll(r.FormValue("device_code")); code != "" {
			s.refuse(w, kind, code)
			return
		}
	default:
		s.refuse(w, kind, "unsupported_grant_type")
		return
	}
	s.Requests = append(s.Requests, kind+" ok")
	a, f := s.next("access"), s.next("refresh")
	s.access[a], s.refresh[f] = s.Now().Add(s.Lifetime), true
	answer(w, 200, map[string]any{"access_token": a, "token_type": "Bearer", "expires_in": int(s.Lifetime / time.Second), "refresh_token": f, "scope": s.Scope})
}

// introspect tells a mail server whose a token is (RFC 7662, 2.2).
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) {
	s.Lock()
	defer s.Unlock()
	ends, ok := s.access[r.FormValue("token")]
	if !ok || !s.Now().Before(ends) {
		answer(w, 200, map[string]any{"active": false})
		return
	}
	answer(w, 200, map[string]any{"active": true, "iss": s.URL, "aud": "mail", "email": s.Person, "email_verified": true, "exp": ends.Unix(), "scope": s.Scope})
}

func (s *Server) device(w http.ResponseWriter, r *http.Request) {
	s.Lock()
	defer s.Unlock()
	if r.FormValue("client_id") != s.ClientID {
		s.refuse(w, "device", "invalid_client")
		return
	}
	d := s.next("device")
	s.devices[d] = &device{ends: s.Now().Add(10 * time.Minute), last: s.Now(), every: s.Interval}
	answer(w, 200, map[string]any{"device_code": d, "user_code": "WDJB-MJHT", "verification_uri": s.URL + "/go", "expires_in": 600, "interval": int(s.Interval / time.Second)})
}

// poll answers a device (RFC 8628, 3.5); "" is yes.
func (s *Server) poll(code string) string {
	d := s.devices[code]
	switch {
	case d == nil:
		return "invalid_grant"
	case s.Now().After(d.ends):
		return "expired_token"
	case s.Now().Sub(d.last) < d.every:
		d.every += 5 * time.Second
		d.last = s.Now()
		return "slow_down"
	}
	d.last = s.Now()
	if s.Deny {
		return "access_denied"
	}
	if s.Pending > 0 {
		s.Pending--
		return "authorization_pending"
	}
	delete(s.devices, code)
	return ""
}

// SlowDown makes the next question of every device one that comes too early.
func (s *Server) SlowDown() {
	s.Lock()
	defer s.Unlock()
	for _, d := range s.devices {
		d.last = d.last.Add(time.Second)
	}
}

// Revoke takes all refresh tokens back.
func (s *Server) Revoke() {
	s.Lock()
	defer s.Unlock()
	clear(s.refresh)
}

// Holds tells whether an access token is good now, as a mail server would ask.
func (s *Server) Holds(access string) bool {
	s.Lock()
	defer s.Unlock()
	ends, ok := s.access[strings.TrimPrefix(access, "Bearer ")]
	return ok && s.Now().Before(ends)
}

// Browse goes to an address as the browser of a person does, and returns the last page's status.
func (s *Server) Browse(t testing.TB, at string) int {
	resp, err := s.browser.Get(at)
	if err != nil {
		t.Error(err)
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}
