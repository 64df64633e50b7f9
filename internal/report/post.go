package report

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// post gives a TLS report to a web server (RFC 8460, 5.4). The address is a stranger's: only
// hosts of the public network are asked, on port 443, with a valid certificate, and nobody is
// followed to elsewhere.
func (b *Book) post(ctx context.Context, uri string, packed []byte) error {
	u, err := url.Parse(uri)
	if err != nil || u.Hostname() == "" || u.User != nil {
		return fault.New(fault.Invalid, "the address for reports is no https address")
	}
	if b.opt.Dial == nil {
		return fault.New(fault.Unsupported, "reports are not posted over https here")
	}
	if p := u.Port(); p != "" && p != "443" && !b.opt.AllowPrivate {
		return fault.New(fault.Denied, "reports are posted to port 443 only")
	}
	client := &http.Client{
		Transport: &http.Transport{
			DialContext: b.dialWeb, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
			TLSClientConfig: &tls.Config{RootCAs: b.opt.Roots, Time: b.opt.Now, MinVersion: tls.VersionTLS12},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(packed))
	if err != nil {
		return fault.Wrap(fault.Invalid, "the address for reports is no https address", err)
	}
	req.Header.Set("Content-Type", "application/tlsrpt+gzip")
	req.Header.Set("User-Agent", "martlet")
	resp, err := client.Do(req)
	if err != nil {
		return fault.Wrap(fault.Unavailable, "the web server for reports cannot be reached", err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
	switch {
	case resp.StatusCode/100 == 2:
		return nil
	case resp.StatusCode/100 == 5, resp.StatusCode == http.StatusTooManyRequests:
		return fault.Newf(fault.Unavailable, "the web server for reports answers %d", resp.StatusCode)
	}
	return fault.Newf(fault.Denied, "the web server for reports answers %d", resp.StatusCode)
}

// dialWeb connects by addresses that may be asked.
func (b *Book) dialWeb(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	addrs, _, err := b.opt.Resolver.LookupAddr(ctx, host)
	if err != nil {
		return nil, err
	}
	last := error(fault.Newf(fault.Denied, "%s has only private addresses", host))
	for _, a := range addrs[:min(len(addrs), 4)] {
		if a = a.Unmap(); !b.opt.AllowPrivate && !dnsx.Public(a) {
			continue
		}
		conn, err := b.opt.Dial(ctx, network, netip.AddrPortFrom(a, uint16(n)).String())
		if err == nil {
			return conn, nil
		}
		last = err
	}
	return nil, last
}
