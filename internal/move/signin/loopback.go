package signin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"html/template"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Loopback has a person sign in by a browser on this machine, or on one whose port leads here
// (RFC 8252, 7.3). It ends with the first answer to its own question, after ten minutes, or
// with ctx. Faults: Denied if the person, or the provider, says no.
func (o Options) Loopback(ctx context.Context, p Provider, c Client) (Grant, error) {
	a, err := o.ask(p, c)
	if err != nil {
		return Grant{}, err
	}
	ln, err := o.Listen()
	if err != nil {
		return Grant{}, fault.Wrap(fault.Unavailable, "cannot listen on this machine for the browser to come back", err)
	}
	defer ln.Close()
	at, ok := ln.Addr().(*net.TCPAddr)
	if !ok || !at.IP.IsLoopback() {
		return Grant{}, fault.Newf(fault.Invalid, "the browser would come back to %s, which others can reach", ln.Addr())
	}
	a.comesBackTo(at)
	ctx, cancel := context.WithTimeout(ctx, signInTime)
	defer cancel()
	server := &http.Server{Handler: a, ReadHeaderTimeout: requestTime, MaxHeaderBytes: maxAnswer, IdleTimeout: time.Second}
	defer server.Close()
	go func() { _ = server.Serve(ln) }() // ends with Close
	o.Show(Prompt{URL: a.url(), Expires: o.Now().Add(signInTime)})
	for {
		select {
		case <-ctx.Done():
			return Grant{}, fault.Wrap(fault.Unavailable, "nobody signed in at "+p.Name+" in time", ctx.Err())
		case text := <-o.Pasted:
			if got, ok := a.pasted(text); ok {
				return o.settle(ctx, a, got)
			}
		case <-a.interfered:
			return Grant{}, fault.New(fault.Denied, "too many answers came to another question than ours: something on this machine interferes")
		case back := <-a.answers:
			g, err := o.settle(ctx, a, back.query)
			back.done <- err
			<-back.told
			return g, err
		}
	}
}

// asking is a question to a provider that waits for its answer.
type asking struct {
	provider   Provider
	client     Client
	state      string
	verifier   string
	redirect   string
	hosts      []string // that a browser may think it has come to
	answers    chan answer
	strangers  atomic.Int64  // answers to other questions
	interfered chan struct{} // closed when these were too many
}

// answer is a browser that has come back.
type answer struct {
	query url.Values
	done  chan error    // what came of it
	told  chan struct{} // closed when the person has been told
}

func (o Options) ask(p Provider, c Client) (*asking, error) {
	if c.ID == "" {
		return nil, fault.Newf(fault.Invalid, "a client of your own is needed, as none comes with this program; register one at %s", p.where())
	}
	secrets := make([]byte, 64)
	if _, err := io.ReadFull(o.Random, secrets); err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	b64 := base64.RawURLEncoding
	return &asking{
		provider: p, client: c, state: b64.EncodeToString(secrets[:32]), verifier: b64.EncodeToString(secrets[32:]),
		answers: make(chan answer), interfered: make(chan struct{}),
	}, nil
}

func (p Provider) where() string {
	if p.Register != "" {
		return p.Register
	}
	return p.Name
}

func (a *asking) comesBackTo(at *net.TCPAddr) {
	_, port, _ := net.SplitHostPort(at.String())
	host := a.provider.Host
	if host == "" {
		host = at.IP.String()
	}
	a.redirect = "http://" + net.JoinHostPort(host, port) + "/"
	a.hosts = []string{net.JoinHostPort(at.IP.String(), port), net.JoinHostPort("localhost", port)}
}

// url is where the person goes (RFC 6749, 4.1.1; RFC 7636, 4.3).
func (a *asking) url() string {
	sum := sha256.Sum256([]byte(a.verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {a.client.ID}, "redirect_uri": {a.redirect}, "scope": {a.provider.Scope}, "state": {a.state},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	for k, v := range a.provider.Extra {
		q.Set(k, v)
	}
	sep := "?"
	if strings.Contains(a.provider.AuthURL, "?") {
		sep = "&"
	}
	return a.provider.AuthURL + sep + q.Encode()
}

// pasted reads the address that a browser was sent to.
func (a *asking) pasted(text string) (url.Values, bool) {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || !a.ours(u.Query()) {
		return nil, false
	}
	return u.Query(), true
}

func (a *asking) ours(q url.Values) bool {
	return subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(a.state)) == 1
}

// ServeHTTP takes the browser that comes back. Anybody on this machine, and any page in a
// browser of it, can come here: only who knows the state is listened to.
func (a *asking) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := false
	for _, h := range a.hosts {
		host = host || r.Host == h
	}
	if !host || r.URL.Path != "/" || r.Method != http.MethodGet {
		http.Error(w, "there is nothing here", http.StatusNotFound)
		return
	}
	q := r.URL.Query()
	if !a.ours(q) {
		say(w, http.StatusBadRequest, "This is not the answer to the sign-in that was asked for. Nothing was done.")
		if a.strangers.Add(1) == maxStrangers+1 {
			close(a.interfered)
		}
		return
	}
	back := answer{query: q, done: make(chan error, 1), told: make(chan struct{})}
	defer close(back.told)
	select {
	case a.answers <- back:
	case <-r.Context().Done():
		return
	}
	if err := <-back.done; err != nil {
		say(w, http.StatusBadRequest, "The sign-in failed: "+fault.Say(err)+".")
		return
	}
	say(w, http.StatusOK, "You are signed in. This window can be closed.")
}

var page = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Martlet</title><body style="font-family: sans-serif; max-width: 32em; margin: 4em auto"><p>{{.}}</p></body></html>
`))

func say(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	h.Set("Referrer-Policy", "no-referrer") // the code is in our address
	h.Set("Cache-Control", "no-store")
	h.Set("Connection", "close")
	w.WriteHeader(status)
	_ = page.Execute(w, text) // who left does not read it
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

// settle makes a grant of an answer (RFC 6749, 4.1.2 to 4.1.4).
func (o Options) settle(ctx context.Context, a *asking, q url.Values) (Grant, error) {
	p := a.provider
	if code := q.Get("error"); code != "" {
		r := &refusal{code, q.Get("error_description")}
		if code == "access_denied" {
			return Grant{}, fault.Wrap(fault.Denied, "the sign-in at "+p.Name+" was declined", r)
		}
		return Grant{}, fault.Wrap(fault.Denied, p.Name+" refuses the sign-in ("+r.Error()+")", r)
	}
	if iss := q.Get("iss"); iss != "" && p.Issuer != "" && iss != p.Issuer { // RFC 9207, 2.4
		return Grant{}, fault.Newf(fault.Denied, "the answer to the sign-in comes from %q and not from %s", plainText(iss), p.Issuer)
	}
	if q.Get("code") == "" {
		return Grant{}, fault.Newf(fault.Denied, "%s sent the browser back without a code", p.Name)
	}
	g := p.grant(a.client)
	form := g.form("authorization_code")
	form.Set("code", q.Get("code"))
	form.Set("redirect_uri", a.redirect)
	form.Set("code_verifier", a.verifier)
	t, err := o.token(ctx, g, form)
	if err != nil {
		return Grant{}, err
	}
	return g.with(t), nil
}

func (p Provider) grant(c Client) Grant {
	return Grant{Provider: p.Name, TokenURL: p.TokenURL, Client: c, Scope: p.Scope, Mechanism: p.Mechanism, Basic: p.Basic}
}
