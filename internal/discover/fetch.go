package discover

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Bounds on what a stranger's web server can make us do.
const (
	maxDocument  = 256 << 10
	maxHeaders   = 64 << 10
	maxRedirects = 4
)

// document is what a web server gave.
type document struct {
	body    []byte
	from    string // host of the last URL
	foreign bool   // a redirect led to another owner
}

// request is one question to a web server. It never carries a password, a cookie or anything
// else that signs in.
type request struct {
	url     string
	post    string // body; "" asks with GET
	sameWay bool   // redirects to other owners are not followed
	marked  bool   // what is found there is marked as insecure
	within  string // the host whose owner redirects are measured by; "" is that of the URL
}

// fetch asks over HTTP. Redirects keep scheme and port, and are few; the body is bounded.
func (h *hunt) fetch(ctx context.Context, r request) (d document, err error) {
	at, err := url.Parse(r.url)
	if err != nil {
		return d, err
	}
	owner := registrable(at.Hostname())
	if r.within != "" {
		owner = registrable(r.within)
	}
	for range maxRedirects + 1 {
		if err := proper(at); err != nil {
			return d, err
		}
		d.from = at.Hostname()
		d.foreign = d.foreign || registrable(d.from) != owner
		if d.foreign && r.sameWay {
			return d, fmt.Errorf("redirects to %s, of another owner; it was not followed", clip(d.from))
		}
		next, body, err := h.exchange(ctx, at, r.post)
		if err != nil {
			return d, err
		}
		if next == nil {
			d.body = body
			return d, nil
		}
		if next.Scheme != at.Scheme {
			return d, fmt.Errorf("redirects to %s://%s; only %s is followed", clip(next.Scheme), clip(next.Host), at.Scheme)
		}
		at = next
	}
	return d, fmt.Errorf("redirects more than %d times", maxRedirects)
}

// proper refuses URLs that no provider needs.
func proper(u *url.URL) error {
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%s is not spoken", clip(u.Scheme))
	case u.User != nil:
		return errors.New("a URL with a user is not asked")
	case u.Port() != "" && u.Port() != map[string]string{"https": "443", "http": "80"}[u.Scheme]:
		return fmt.Errorf("port %s is not the one of %s", clip(u.Port()), u.Scheme)
	case properHost(u.Hostname()) == "":
		return fmt.Errorf("%q is no host of a provider", clip(u.Hostname()))
	}
	return nil
}

// exchange is one request and its answer: a document, or where to go instead. It is made on a
// connection of its own, without a proxy, cookies or a login, and is over when ctx is.
func (h *hunt) exchange(ctx context.Context, at *url.URL, post string) (next *url.URL, body []byte, err error) {
	req, err := newRequest(ctx, at, post)
	if err != nil {
		return nil, nil, err
	}
	port := map[string]int{"https": 443, "http": 80}[at.Scheme]
	conn, err := h.dial(ctx, properHost(at.Hostname()), port)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = ctx.Err()
		}
		h.quietly(at.Hostname(), err)
	}()
	way := conn
	if at.Scheme == "https" {
		secured, err := h.secure(ctx, conn, properHost(at.Hostname()))
		if err != nil {
			return nil, nil, err
		}
		way = secured
	}
	if err := req.Write(way); err != nil {
		return nil, nil, err
	}
	in := bufio.NewReader(io.LimitReader(way, maxDocument+maxHeaders))
	resp, err := http.ReadResponse(in, req)
	for range 2 { // that it goes on is no answer (RFC 9110, 15.2)
		if err == nil && resp.StatusCode/100 == 1 {
			resp, err = http.ReadResponse(in, req)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	return answered(resp)
}

func newRequest(ctx context.Context, at *url.URL, post string) (*http.Request, error) {
	method, content := http.MethodGet, io.Reader(nil)
	if post != "" {
		method, content = http.MethodPost, strings.NewReader(post)
	}
	req, err := http.NewRequestWithContext(ctx, method, at.String(), content)
	if err != nil {
		return nil, err
	}
	req.Close = true
	req.Header.Set("User-Agent", "martlet")
	if post != "" {
		req.Header.Set("Content-Type", "text/xml; charset=utf-8")
	}
	return req, nil
}

// answered reads the document, or where it is.
func answered(resp *http.Response) (next *url.URL, body []byte, err error) {
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		next, err := resp.Location()
		if err != nil {
			return nil, nil, errors.New("redirects to nowhere")
		}
		return next, nil, nil
	case http.StatusUnauthorized, http.StatusProxyAuthRequired:
		return nil, nil, errors.New("wants a password; none was sent")
	default:
		return nil, nil, fmt.Errorf("answers %d", resp.StatusCode)
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if len(body) > maxDocument {
		err = fmt.Errorf("gives more than %d KB", maxDocument>>10)
	}
	return nil, body, err
}

// describe says in a few words what went wrong.
func describe(err error) string {
	var unverified *tls.CertificateVerificationError
	var name x509.HostnameError
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "not waited for"
	case errors.As(err, &name):
		return "the certificate is for another name"
	case errors.As(err, &unverified):
		return "the certificate is not valid: " + clip(unverified.Err.Error())
	}
	var f *fault.Error
	if errors.As(err, &f) {
		if f.Kind == fault.NotFound {
			return "no such record"
		}
		return clip(f.Say)
	}
	return clip(err.Error())
}

// clip bounds what a stranger said, and takes out what a terminal would obey.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most]
		for len(s) > 0 && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]) {
			s = s[:len(s)-1]
		}
	}
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp), r == utf8.RuneError:
			return ' '
		case unicode.In(r, unicode.Cf, unicode.Co, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector): // directions, tags, what is not seen
			return -1
		}
		return r
	}, s)
}
