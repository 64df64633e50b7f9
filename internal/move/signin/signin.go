// Package signin gets access to somebody's mail at a provider by OAuth 2.0, for imports and
// links: a person signs in at the provider, in a browser, and no password comes here.
//
// There are two ways. With Loopback the browser comes back to a socket of this machine that
// listens for one answer (RFC 8252, 7.3), proves by PKCE that it is the answer to the question
// asked here (RFC 7636), and is checked for its state. With Device the person types a short
// code on any device (RFC 8628). Both leave a Grant, from which Fresh makes access tokens
// until the provider ends it.
//
// No client of this program's own is registered anywhere: whoever runs the server registers
// one at the provider, and names it.
//
// The package keeps nothing, opens no browser and no socket but the ones handed to it, and does
// not speak to mail servers.
//
// RFC 6749, 6750, 7636, 8252, 8414, 8628, 9207.
package signin

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Client is a program that is registered at a provider.
type Client struct {
	ID     string
	Secret string // "" for a public one
}

// Options are what signing in needs of the world.
type Options struct {
	HTTP   *http.Client // follows no redirects: see Direct
	Now    func() time.Time
	Random io.Reader
	// Listen opens the socket that the browser comes back to; it must be of this machine
	// only. Only Loopback calls it, once.
	Listen func() (net.Listener, error)
	// Show tells the person where to go. It must not wait.
	Show func(Prompt)
	// Pasted are addresses that the browser was sent back to and could not reach, as where it
	// runs on another machine: the person copies them. May be nil.
	Pasted <-chan string
	// Wait waits between two questions of Device; nil: by a timer.
	Wait func(ctx context.Context, d time.Duration) error
}

// Direct makes a client refuse redirects: what is sent to an endpoint is for nobody else.
func Direct(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Prompt is where a person is to go to sign in.
type Prompt struct {
	URL     string
	Code    string    // to be typed there; "" with Loopback
	Expires time.Time // when it is too late
}

// Grant is what a sign-in leaves behind: enough for access tokens as long as the provider
// likes. All of it is secret.
type Grant struct {
	Provider  string    `json:"provider"` // for people
	TokenURL  string    `json:"token_url"`
	Client    Client    `json:"client"`
	Scope     string    `json:"scope"`
	Mechanism string    `json:"mechanism"` // of SASL: XOAUTH2 or OAUTHBEARER; "": whichever the server offers
	Basic     bool      `json:"basic,omitempty"`
	Refresh   string    `json:"refresh"`
	Access    string    `json:"access"`
	Expires   time.Time `json:"expires"` // of Access; zero: not known
}

const (
	signInTime   = 10 * time.Minute // a person has for Loopback
	requestTime  = 30 * time.Second // one request to a provider may take
	ahead        = 2 * time.Minute  // before its end an access token is not used any more
	maxAnswer    = 64 << 10         // bytes of an answer
	maxStrangers = 20               // answers to other questions before a sign-in is given up
)

// Fresh returns the grant with an access token that holds for some minutes still; fresh tells
// that it is not the one it was, and is to be kept before anything is done with it: the
// provider may have taken back the one before. Faults: Unauthenticated if the person must sign in again.
func (o Options) Fresh(ctx context.Context, g Grant) (now Grant, fresh bool, err error) {
	if g.Access != "" && (g.Expires.IsZero() || o.Now().Add(ahead).Before(g.Expires)) {
		return g, false, nil
	}
	return o.Renew(ctx, g)
}

// Renew is Fresh for an access token that a server has refused.
func (o Options) Renew(ctx context.Context, g Grant) (now Grant, fresh bool, err error) {
	if g.Refresh == "" {
		return g, false, fault.Newf(fault.Unauthenticated, "the sign-in at %s has run out, and it gave nothing to renew it with", g.Provider)
	}
	form := g.form("refresh_token")
	form.Set("refresh_token", g.Refresh)
	if g.Scope != "" {
		form.Set("scope", g.Scope)
	}
	t, err := o.token(ctx, g, form)
	if err != nil {
		if isRefusal(err, "invalid_grant") { // RFC 6749, 5.2: revoked, or ended
			err = fault.Wrap(fault.Unauthenticated, "the sign-in at "+g.Provider+" was taken back or has run out", err)
		}
		return g, false, err
	}
	return g.with(t), true, nil
}

// with is the grant with what a token endpoint answered.
func (g Grant) with(t tokens) Grant {
	g.Access, g.Expires = t.Access, t.ends
	if t.Refresh != "" { // RFC 6749, 6: the old one counts no more
		g.Refresh = t.Refresh
	}
	return g
}
