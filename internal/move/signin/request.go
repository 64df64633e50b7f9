package signin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// tokens is the answer of a token endpoint (RFC 6749, 5.1).
type tokens struct {
	Access  string      `json:"access_token"`
	Type    string      `json:"token_type"`
	Refresh string      `json:"refresh_token"`
	Seconds json.Number `json:"expires_in"` // some send a string
	ends    time.Time
}

// refusal is the answer of an endpoint that says no (RFC 6749, 5.2).
type refusal struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

func (r *refusal) Error() string {
	text := plainText(r.Code)
	if r.Description != "" {
		text += ": " + plainText(r.Description)
	}
	return text
}

// plainText is what a provider said, fit for a terminal: short and without control characters.
func plainText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "..."
	}
	return s
}

func isRefusal(err error, code string) bool {
	var r *refusal
	return errors.As(err, &r) && r.Code == code
}

// form begins a request to the token endpoint.
func (g Grant) form(kind string) url.Values {
	f := url.Values{"grant_type": {kind}, "client_id": {g.Client.ID}}
	if g.Client.Secret != "" && !g.Basic {
		f.Set("client_secret", g.Client.Secret)
	}
	return f
}

// token asks the token endpoint.
func (o Options) token(ctx context.Context, g Grant, form url.Values) (t tokens, err error) {
	answer, err := o.post(ctx, g, g.TokenURL, form)
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(answer, &t); err != nil {
		return t, fault.Wrap(fault.Unavailable, g.Provider+" answered with no token", errors.New("not JSON as in RFC 6749, 5.1"))
	}
	if t.Access == "" || !strings.EqualFold(t.Type, "bearer") && t.Type != "" {
		return t, fault.Newf(fault.Unsupported, "%s gives a token of the type %q, and not one that mail servers take", g.Provider, plainText(t.Type))
	}
	if n, err := t.Seconds.Int64(); err == nil && n > 0 && n < 1<<31 {
		t.ends = o.Now().Add(time.Duration(n) * time.Second).UTC().Truncate(time.Second)
	}
	return t, nil
}

// post sends a form and returns the body of a good answer. What it sent, and what it got, is
// in no error.
func (o Options) post(ctx context.Context, g Grant, to string, form url.Values) ([]byte, error) {
	if err := checkURL(to); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "the address of "+g.Provider+" is none", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if g.Basic && g.Client.Secret != "" { // RFC 6749, 2.3.1: both are encoded as in a form
		req.SetBasicAuth(url.QueryEscape(g.Client.ID), url.QueryEscape(g.Client.Secret))
	}
	return o.do(req, g.Provider)
}

func (o Options) do(req *http.Request, provider string) ([]byte, error) {
	resp, err := o.HTTP.Do(req)
	if err != nil {
		var inner *url.Error // whose text has the whole address
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return nil, fault.Wrap(fault.Unavailable, "cannot reach "+provider+" for the sign-in", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil || len(body) > maxAnswer {
		return nil, fault.Wrap(fault.Unavailable, "the answer of "+provider+" to the sign-in was cut short or too long", err)
	}
	if resp.StatusCode == http.StatusOK {
		return body, nil
	}
	var r refusal
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); strings.HasSuffix(kind, "json") && json.Unmarshal(body, &r) == nil && r.Code != "" {
		kind := fault.Denied
		if resp.StatusCode >= 500 || r.Code == "temporarily_unavailable" || r.Code == "server_error" {
			kind = fault.Unavailable
		}
		return nil, fault.Wrap(kind, provider+" refuses the sign-in ("+r.Error()+")", &r)
	}
	kind := fault.Unavailable
	if resp.StatusCode == http.StatusTooManyRequests {
		kind = fault.Limited
	}
	return nil, fault.Newf(kind, "%s answers the sign-in with %d %s", provider, resp.StatusCode, http.StatusText(resp.StatusCode))
}

// checkURL wants TLS, except on this machine.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fault.Newf(fault.Invalid, "%q is no address of a sign-in", plainText(text))
	}
	host := u.Hostname()
	ip, _ := netip.ParseAddr(host) // 127.evil.example is none
	local := host == "localhost" || ip.Unmap().IsLoopback()
	if u.Scheme == "https" || u.Scheme == "http" && local {
		return nil
	}
	return fault.New(fault.Invalid, fmt.Sprintf("%s is not an https address, and a sign-in must not be read on the way", plainText(text)))
}
