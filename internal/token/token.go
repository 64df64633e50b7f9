// Package token checks OAuth access tokens (RFC 6749, 6750) of one issuer, so that
// people can log in with them instead of a password.
//
// A token is either a JWT that the issuer has signed (RFC 7519, RFC 9068): its
// signature is checked here with the issuer's keys (RFC 7517), which are fetched over
// https, kept, and fetched again when they are old or a token names one that is not
// among them. Or it is a string that only the issuer understands: then the issuer is
// asked about each one (RFC 7662). In both cases what the token says is held against
// what the operator asks for: issuer, audience, time, scope, and a claim that names
// the account.
//
// The package issues no tokens, sends nobody to log in, keeps no session and does not
// know which accounts there are. It does not ask the issuer's userinfo: that would
// tell whose a token is, but not for whom it was made, and any program a person has
// ever logged in to could read her mail.
package token

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
)

// Options of an Issuer.
type Options struct {
	// Issuer names it as the claim iss does; the place of its configuration follows
	// from it (OpenID Connect Discovery, 4). Must be given.
	Issuer string

	// Audience is what tokens for this server say in aud, one of these. Must be given
	// unless Introspect is set.
	Audience []string

	Scope  string // that tokens must have; "": any
	Claim  string // that names the account; "": email
	Domain string // added to a name without a domain; "": such names are nobody's

	// KeysURL is where the keys are (jwks_uri); "": where the configuration says.
	KeysURL string

	// Introspect asks the issuer about each token, as this client.
	Introspect             bool
	IntrospectURL          string // "": where the configuration says
	ClientID, ClientSecret string

	// Roots sign the issuer's certificate; nil: those of the system.
	Roots *x509.CertPool

	// Proxy is through what the issuer is reached; nil: it is reached directly.
	Proxy func(*http.Request) (*url.URL, error)

	Now  func() time.Time
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Log  *slog.Logger // nil: discard
}

// Issuer checks the tokens of one issuer. It may be used by many goroutines.
type Issuer struct {
	opt  Options
	http *http.Client
	keys *keyRing
	seen *answers // of introspection
}

// Limits of what is fetched from an issuer.
const (
	fetchWithin = 10 * time.Second
	maxDocument = 1 << 20 // bytes
)

// New returns an issuer. Nothing is fetched before the first token comes. Faults:
// Invalid.
func New(o Options) (*Issuer, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Claim == "" {
		o.Claim = "email"
	}
	for _, u := range []string{o.Issuer, o.KeysURL, o.IntrospectURL} {
		if u != "" || u == o.Issuer {
			if err := CheckURL(u); err != nil {
				return nil, err
			}
		}
	}
	if len(o.Audience) == 0 && !o.Introspect {
		return nil, fault.New(fault.Invalid, "an audience must be given, or tokens for any other service would be taken")
	}
	transport := &http.Transport{
		DialContext: o.Dial, Proxy: o.Proxy, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: 90 * time.Second,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots, Time: o.Now},
	}
	i := &Issuer{opt: o, seen: newAnswers(o.Now)}
	i.http = &http.Client{
		Transport: transport, Timeout: fetchWithin,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	i.keys = newKeyRing(o, i.fetchKeys)
	return i, nil
}

// CheckURL tells whether an issuer may be talked to at a URL: over https, or on this
// machine over http.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fault.Newf(fault.Invalid, "%q is not a URL", text)
	}
	host := u.Hostname()
	local := host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
	if u.Scheme != "https" && !(u.Scheme == "http" && local) {
		return fault.Newf(fault.Invalid, "%q is not an https URL", text)
	}
	return nil
}

// Hints are what a client is told whose token is refused.
func (i *Issuer) Hints() sasl.Bearer {
	return sasl.Bearer{Scope: i.opt.Scope, Configuration: i.configurationURL()}
}

func (i *Issuer) configurationURL() string {
	return strings.TrimSuffix(i.opt.Issuer, "/") + "/.well-known/openid-configuration"
}

// maxToken is how long a token may be, in bytes; sasl.MaxResponse is below it.
const maxToken = 16 << 10

// Check returns the address of the account that a token is for, as the token has it.
// Faults: Unauthenticated if it is not a good token, Denied if it is one without the
// scope, Unavailable if the issuer must be asked and does not answer. No error tells
// the token.
func (i *Issuer) Check(ctx context.Context, token string) (string, error) {
	if token == "" || len(token) > maxToken {
		return "", invalid("the token is empty or too long")
	}
	if i.opt.Introspect {
		return i.introspect(ctx, token)
	}
	c, err := i.verify(ctx, token)
	if err != nil {
		return "", err
	}
	return i.judge(c, i.opt.Now())
}

// invalid is the one answer to a token that is not good; why goes to the log.
func invalid(format string, args ...any) error {
	return fault.Wrap(fault.Unauthenticated, "authentication failed", fault.Newf(fault.Invalid, format, args...))
}
