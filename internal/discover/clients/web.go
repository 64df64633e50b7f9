package clients

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// maxBody is how much of an answer is read, in bytes.
const maxBody = 256 << 10

// browser asks over HTTP.
type browser struct {
	client    *http.Client
	transport *http.Transport
}

// domainOf is the domain of an address, in A-labels.
func domainOf(address string) (string, error) {
	a, err := mail.ParseAddress(address)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, "that is no e-mail address", err)
	}
	return dnsx.ASCII(a.Domain)
}

func (p *player) browser() *browser {
	p.web.Do(func() {
		t := &http.Transport{
			DialContext: p.dialHTTP, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
			TLSClientConfig: &tls.Config{RootCAs: p.Roots, Time: p.Now, MinVersion: tls.VersionTLS12},
		}
		p.http = &browser{transport: t, client: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	})
	return p.http
}

func (p *player) idle() { p.browser().transport.CloseIdleConnections() }

// dialHTTP connects to where names lead, or to where all of them do.
func (p *player) dialHTTP(ctx context.Context, network, address string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	fixed := p.HTTPS
	if port == "80" {
		fixed = p.HTTP
	}
	if fixed != "" {
		return p.Dial(ctx, network, fixed)
	}
	return p.dialName(ctx, address)
}

// dialName connects to the first address of a name that takes a connection.
func (p *player) dialName(ctx context.Context, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var at []netip.Addr
	switch ip, bad := netip.ParseAddr(host); {
	case bad == nil:
		at = []netip.Addr{ip}
	case host == "localhost" && p.AllowPrivate:
		return p.Dial(ctx, "tcp", address)
	case host == "localhost":
		return nil, notPublic(host)
	default:
		if at, _, err = p.Resolver.LookupAddr(ctx, host); err != nil {
			return nil, unnamed(host, err)
		}
	}
	err = fault.Newf(fault.NotFound, "%s has no address", host)
	for _, a := range at {
		if !p.AllowPrivate && !dnsx.Public(a.Unmap()) {
			err = notPublic(host)
			continue
		}
		var conn net.Conn
		if conn, err = p.Dial(ctx, "tcp", net.JoinHostPort(a.String(), port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func notPublic(host string) error {
	return fault.Newf(fault.Denied, "%s leads to an address that is not public; it was not connected to", host)
}

// unnamed tells a name that is not there from a DNS that does not answer.
func unnamed(name string, err error) error {
	if fault.Is(err, fault.NotFound) {
		return fault.Wrap(fault.NotFound, name+" is not in the DNS", err)
	}
	return fault.Wrap(fault.Closed, "the DNS gave no answer for "+name, err)
}

// get asks for a document, or posts one.
func (p *player) get(ctx context.Context, method, url, body string) ([]byte, error) {
	if strings.HasPrefix(url, "http://") && p.HTTP == "-" {
		return nil, fault.New(fault.Closed, "nobody was asked over http")
	}
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "that is no URL", err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "text/xml; charset=utf-8")
	}
	resp, err := p.browser().client.Do(req)
	if err != nil {
		return nil, unreached(ctx, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return nil, fault.New(fault.Denied, "it asks for a password")
	case resp.StatusCode == http.StatusTooManyRequests:
		return nil, fault.New(fault.Closed, "it was asked too often, and says to ask later")
	case resp.StatusCode/100 == 3:
		return nil, fault.Newf(fault.Invalid, "it redirects to %q", resp.Header.Get("Location"))
	case resp.StatusCode != http.StatusOK:
		return nil, fault.Newf(fault.NotFound, "it answers %s", resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, unreached(ctx, err)
	case len(text) > maxBody:
		return nil, fault.Newf(fault.TooLarge, "the answer has more than %d bytes", maxBody)
	}
	return text, nil
}

// unreached says why there was no answer.
func unreached(ctx context.Context, err error) error {
	var own *fault.Error
	var op *net.OpError
	switch {
	case errors.As(err, &own):
		return own
	case ctx.Err() != nil:
		return fault.Wrap(fault.Unavailable, "there was no answer in time", err)
	case errors.As(err, &op) && op.Op == "dial":
		return fault.Wrap(fault.Unavailable, "nobody takes the connection: "+op.Err.Error(), err)
	}
	text := err.Error()
	if i := strings.LastIndex(text, "\": "); i >= 0 { // net/url puts the question in front
		text = text[i+3:]
	}
	return fault.Wrap(fault.Unavailable, text, err)
}
