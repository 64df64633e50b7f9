package token

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/martlet-mail/martlet/internal/fault"
)

// configuration is what is used of an issuer's (OpenID Connect Discovery, 3; RFC 8414,
// 2).
type configuration struct {
	Issuer        string `json:"issuer"`
	Keys          string `json:"jwks_uri"`
	Introspection string `json:"introspection_endpoint"`
}

// discover fetches the issuer's configuration. It must be of the issuer itself, and
// send nobody to a place where there is no TLS.
func (i *Issuer) discover(ctx context.Context) (configuration, error) {
	var c configuration
	text, err := i.get(ctx, i.configurationURL())
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	if c.Issuer != i.opt.Issuer {
		return c, fmt.Errorf("the configuration is of the issuer %.100q", c.Issuer)
	}
	return c, nil
}

// fetchKeys fetches the key set, from where the configuration says unless told.
func (i *Issuer) fetchKeys(ctx context.Context) ([]byte, error) {
	at := i.opt.KeysURL
	if at == "" {
		c, err := i.discover(ctx)
		if err != nil {
			return nil, err
		}
		at = c.Keys
	}
	return i.get(ctx, at)
}

func (i *Issuer) get(ctx context.Context, at string) ([]byte, error) {
	if err := CheckURL(at); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	return i.do(req)
}

// do sends a request and returns the document that answers it.
func (i *Issuer) do(req *http.Request) ([]byte, error) {
	req.Header.Set("Accept", "application/json")
	resp, err := i.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", req.URL.Redacted(), resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if len(text) > maxDocument {
		return nil, fault.Newf(fault.TooLarge, "%s answers more than %d bytes", req.URL.Redacted(), maxDocument)
	}
	return text, err
}
