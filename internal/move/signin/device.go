package signin

import (
	"context"
	"encoding/json"
	"net/url"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// deviceCode is the answer of a device authorization endpoint (RFC 8628, 3.2).
type deviceCode struct {
	Device   string      `json:"device_code"`
	User     string      `json:"user_code"`
	URL      string      `json:"verification_uri"`
	Old      string      `json:"verification_url"` // as some called it before the RFC
	Expires  json.Number `json:"expires_in"`
	Interval json.Number `json:"interval"`
}

const (
	usualInterval = 5 * time.Second // RFC 8628, 3.2, and how much slow_down adds (3.5)
	codeTime      = 15 * time.Minute
)

// Device has a person sign in by a code typed on any device (RFC 8628). Faults: Unsupported
// if the provider does not have it, Denied if the person says no, Unavailable if nobody came
// in time.
func (o Options) Device(ctx context.Context, p Provider, c Client) (Grant, error) {
	if p.DeviceURL == "" {
		return Grant{}, fault.Newf(fault.Unsupported, "%s; sign in by a browser instead, without --device", p.NoDevice)
	}
	if c.ID == "" {
		return Grant{}, fault.Newf(fault.Invalid, "a client of your own is needed, as none comes with this program; register one at %s", p.where())
	}
	g := p.grant(c)
	answer, err := o.post(ctx, g, p.DeviceURL, url.Values{"client_id": {c.ID}, "scope": {p.Scope}})
	if err != nil {
		return Grant{}, err
	}
	var d deviceCode
	if json.Unmarshal(answer, &d) != nil || d.Device == "" || d.User == "" {
		return Grant{}, fault.Newf(fault.Unavailable, "%s answered with no code", p.Name)
	}
	if d.URL == "" {
		d.URL = d.Old
	}
	if err := checkURL(d.URL); err != nil {
		return Grant{}, err
	}
	ends := o.Now().Add(seconds(d.Expires, codeTime))
	o.Show(Prompt{URL: d.URL, Code: plainText(d.User), Expires: ends})
	return o.poll(ctx, g, d, ends)
}

// poll asks for the tokens until the person has signed in (RFC 8628, 3.4 and 3.5).
func (o Options) poll(ctx context.Context, g Grant, d deviceCode, ends time.Time) (Grant, error) {
	wait := o.Wait
	if wait == nil {
		wait = pause
	}
	every := seconds(d.Interval, usualInterval)
	for {
		if err := wait(ctx, every); err != nil {
			return Grant{}, err
		}
		if o.Now().After(ends) {
			return Grant{}, fault.Newf(fault.Unavailable, "nobody signed in at %s before the code ran out", g.Provider)
		}
		form := g.form("urn:ietf:params:oauth:grant-type:device_code")
		form.Set("device_code", d.Device)
		t, err := o.token(ctx, g, form)
		switch {
		case err == nil:
			return g.with(t), nil
		case isRefusal(err, "authorization_pending"):
		case isRefusal(err, "slow_down"):
			every += usualInterval
		case isRefusal(err, "access_denied"), isRefusal(err, "authorization_declined"): // the latter is Microsoft's
			return Grant{}, fault.Wrap(fault.Denied, "the sign-in at "+g.Provider+" was declined", err)
		case isRefusal(err, "expired_token"):
			return Grant{}, fault.Wrap(fault.Unavailable, "nobody signed in at "+g.Provider+" before the code ran out", err)
		case fault.Is(err, fault.Unavailable) && ctx.Err() == nil:
			every = min(2*every, time.Minute) // RFC 8628, 3.5: after a failure of the line, less often
		default:
			return Grant{}, err
		}
	}
}

// seconds reads a number of seconds within reason.
func seconds(n json.Number, usual time.Duration) time.Duration {
	if v, err := n.Int64(); err == nil && v > 0 {
		return time.Duration(min(v, 3600)) * time.Second
	}
	return usual
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
