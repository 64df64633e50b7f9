package sts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// flight is a fetch under way.
type flight struct {
	done    chan struct{}
	crowded bool // it had no turn: nothing is known; to be read when done is closed
}

// Bounds on the steps of a fetch, so that a host that stalls keeps its place for less than
// the whole time.
const (
	maxConnect = 15 * time.Second
	maxAnswer  = 30 * time.Second
)

// fetch begins to fetch the policy of a domain, or joins the fetch that is under way. It
// goes on when those who wait have given up.
func (c *Cache) fetch(domain, id string) *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[domain]; f != nil {
		return f
	}
	f := &flight{done: make(chan struct{})}
	c.flights[domain] = f
	c.done.Go(func() {
		defer func() {
			c.mu.Lock()
			delete(c.flights, domain)
			c.mu.Unlock()
			close(f.done)
		}()
		f.crowded = !c.land(domain, id)
	})
	return f
}

// refresh is fetch for a policy that still holds, if it was not tried lately.
func (c *Cache) refresh(domain, id string) *flight {
	c.mu.Lock()
	e := c.known[domain]
	now := c.now()
	if e == nil || now-e.tried < retryAfter.Milliseconds() && now >= e.tried {
		c.mu.Unlock()
		return nil
	}
	e.tried = now
	c.mu.Unlock()
	return c.fetch(domain, id)
}

// land fetches and notes what came of it. It returns false if nothing did: then the policy
// is as unknown as before, and whoever can crowd us with domains of his cannot make us send
// to others without theirs.
func (c *Cache) land(domain, id string) bool {
	policy, bad, tried := c.download(domain)
	if c.base.Err() != nil || !tried {
		return false
	}
	e, err := c.entry(c.base, domain) // it may have made room for others meanwhile
	if err != nil {
		c.opt.Log.Error("an MTA-STS policy cannot be compared with the one that is kept", "domain", domain, "err", err)
		return false
	}
	now := c.now()
	if bad.kind != "" {
		c.mu.Lock()
		e = c.remember(domain, e)
		e.failed, e.failedAt, e.failure = id, now, bad
		holds := e.holds(now)
		c.mu.Unlock()
		c.opt.Log.Warn("an MTA-STS policy could not be fetched", "domain", domain, "kind", string(bad.kind), "why", bad.why, "older_holds", holds)
		return true
	}
	c.mu.Lock()
	k := kept{ID: id, Fetched: now, Used: max(e.Used, now), Policy: *policy}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.base), 10*time.Second)
	defer cancel()
	// The engine has it first: memory may be asked for room at any moment.
	if err := c.write(ctx, domain, k); err != nil {
		c.opt.Log.Error("an MTA-STS policy cannot be kept", "domain", domain, "err", err)
	}
	c.mu.Lock()
	e = c.remember(domain, e)
	e.failed, e.failedAt, e.failure = "", 0, problem{}
	e.kept = k
	c.weigh(domain, e)
	c.mu.Unlock()
	c.opt.Log.Info("MTA-STS policy", "domain", domain, "mode", string(policy.Mode), "id", id, "max_age", policy.MaxAge)
	return true
}

// download asks the policy host, in its turn. tried tells whether the turn came in time.
func (c *Cache) download(domain string) (p *Policy, bad problem, tried bool) {
	turn := time.NewTimer(c.opt.FetchTime)
	defer turn.Stop()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-turn.C:
		return nil, bad, false
	case <-c.base.Done():
		return nil, bad, false
	}
	ctx, cancel := context.WithTimeout(c.base, c.opt.FetchTime)
	defer cancel()
	text, err := c.get(ctx, "mta-sts."+domain)
	if err != nil {
		return nil, problem{kindOf(err), clip(err.Error())}, true
	}
	if p, err = ParsePolicy(text); err != nil {
		return nil, problem{mail.STSPolicyInvalid, clip(fault.Say(err))}, true
	}
	return p, bad, true
}

// get asks for the policy (RFC 8461, 3.3): no redirects, plain text, bounded.
func (c *Cache) get(ctx context.Context, host string) ([]byte, error) {
	name := host
	if c.opt.Port != 443 {
		name = net.JoinHostPort(host, strconv.Itoa(int(c.opt.Port)))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+name+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/plain")
	req.Header.Set("User-Agent", "martlet")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", host, resp.Status)
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "text/plain" {
		return nil, fmt.Errorf("%s gives %.40q instead of text/plain", host, resp.Header.Get("Content-Type"))
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxPolicy+1))
	if err == nil && len(text) > maxPolicy {
		err = fmt.Errorf("%s gives more than %d bytes", host, maxPolicy)
	}
	return text, err
}

// dial connects to a policy host by addresses that may be asked.
func (c *Cache) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addrs, _, err := c.opt.Resolver.LookupAddr(ctx, host)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	last := fmt.Errorf("%s has only private addresses", host)
	tries := 0
	for _, a := range addrs {
		if a = a.Unmap(); !c.opt.AllowPrivate && !dnsx.Public(a) {
			continue
		}
		if tries++; tries > 4 {
			break
		}
		one, cancel := context.WithTimeout(ctx, min(maxConnect, c.opt.FetchTime/4))
		conn, err := c.opt.Dial(one, network, netip.AddrPortFrom(a, uint16(n)).String())
		cancel()
		if err == nil {
			return conn, nil
		}
		last = err
	}
	return nil, last
}

// kindOf tells a certificate that is not good (RFC 8460, 4.3.2.2) from all else.
func kindOf(err error) mail.TLSFault {
	var cert *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	if errors.As(err, &cert) || errors.As(err, &unknown) || errors.As(err, &name) || errors.As(err, &invalid) {
		return mail.STSWebPKIInvalid
	}
	return mail.STSFetchError
}

func clip(s string) string {
	if len(s) > 200 {
		s = strings.Clone(s[:200]) // not the rest, too
	}
	return s
}
