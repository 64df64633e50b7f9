package token

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	rememberFor = time.Minute // a token that was good; a shorter life of its own counts
	maxAnswers  = 10_000
	placeFresh  = time.Hour // after which the configuration is asked again for the place
)

// introspect asks the issuer about a token (RFC 7662). What it answers of a good one is
// remembered for a moment, for clients open several connections at once.
func (i *Issuer) introspect(ctx context.Context, token string) (string, error) {
	if name, ok := i.seen.get(token); ok {
		return name, nil
	}
	at, err := i.introspectionURL(ctx)
	if err != nil {
		return "", unavailable(err)
	}
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(form.Encode()))
	if err != nil {
		return "", unavailable(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if i.opt.ClientID != "" { // RFC 6749, 2.3.1: both are encoded as in a form
		req.SetBasicAuth(url.QueryEscape(i.opt.ClientID), url.QueryEscape(i.opt.ClientSecret))
	}
	text, err := i.do(req)
	if err != nil {
		i.opt.Log.Error("token issuer could not be asked", "err", err)
		return "", unavailable(err)
	}
	c, err := readClaims(text)
	switch {
	case err != nil:
		return "", unavailable(err)
	case !c.active:
		return "", invalid("the issuer says that the token is not active")
	}
	now := i.opt.Now()
	name, err := i.judge(c, now)
	if err != nil {
		return "", err
	}
	until := now.Add(rememberFor)
	if c.expires != nil && c.expires.time().Before(until) {
		until = c.expires.time()
	}
	i.seen.put(token, name, until)
	return name, nil
}

// introspectionURL returns where to ask, which the configuration says unless it was
// told.
func (i *Issuer) introspectionURL(ctx context.Context) (string, error) {
	if i.opt.IntrospectURL != "" {
		return i.opt.IntrospectURL, nil
	}
	if at := i.seen.place(); at != "" {
		return at, nil
	}
	c, err := i.discover(ctx)
	if err == nil {
		err = CheckURL(c.Introspection)
	}
	if err != nil {
		i.opt.Log.Error("configuration of the token issuer could not be fetched", "err", err)
		return "", err
	}
	i.seen.setPlace(c.Introspection)
	return c.Introspection, nil
}

// answers are what the issuer has said lately, by the hash of the token.
type answers struct {
	now func() time.Time

	mu     sync.Mutex
	said   map[[sha256.Size]byte]answer
	at     string // where to ask
	learnt time.Time
}

type answer struct {
	name  string
	until time.Time
}

func newAnswers(now func() time.Time) *answers {
	return &answers{now: now, said: map[[sha256.Size]byte]answer{}}
}

func (a *answers) get(token string) (name string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	was, ok := a.said[sha256.Sum256([]byte(token))]
	left := was.until.Sub(a.now())
	return was.name, ok && left > 0 && left <= rememberFor
}

func (a *answers) put(token, name string, until time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.said) >= maxAnswers {
		clear(a.said) // they live for a minute
	}
	a.said[sha256.Sum256([]byte(token))] = answer{name, until}
}

func (a *answers) place() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if age(a.learnt, a.now()) > placeFresh {
		return ""
	}
	return a.at
}

func (a *answers) setPlace(at string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at, a.learnt = at, a.now()
}
