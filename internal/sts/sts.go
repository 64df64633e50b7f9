// Package sts keeps the MTA-STS policies of other domains: which hosts take their mail,
// and that these must prove their names by certificates of the web's authorities.
//
// A policy is fetched over HTTPS when the domain's TXT record names one, kept in a shard
// of the engine for as long as the policy says (a year at most), fetched again when the
// record's id changes and once a day while mail goes there. Whoever keeps us from DNS or
// from the policy host cannot make us forget what we have. It is a cache: nothing is lost
// with it but that protection, so backups leave it out.
//
// A policy host may be slow or hostile: what it may send and how long it may take is
// bounded, addresses of our own network are not asked, and a domain whose policy does not
// come holds up no other.
//
// RFC 8461.
package sts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Shard is where policies lie.
const Shard engine.Shard = 3

// Options sets up a Cache. Resolver, Engine, Now and Dial must be given.
type Options struct {
	Resolver     dnsx.Resolver
	Engine       engine.Engine
	AllowPrivate bool           // ask policy hosts with private addresses, too
	Roots        *x509.CertPool // authorities of policy hosts; nil: those of the system
	Port         uint16         // of policy hosts; 0: 443
	FetchTime    time.Duration  // for one policy; 0: a minute (RFC 8461, 3.3)
	WaitTime     time.Duration  // that mail waits for a policy that is not here yet; 0: 20 s
	Fetches      int            // at the same time; 0: 64
	Now          func() time.Time
	Dial         func(ctx context.Context, network, address string) (net.Conn, error)
	Log          *slog.Logger // nil: discard
}

const (
	refreshAfter  = 24 * time.Hour      // a policy in use is fetched again (RFC 8461, 3.3)
	unusedAfter   = 30 * 24 * time.Hour // nothing has gone there: it is left to run out
	retryAfter    = 5 * time.Minute     // after a failure, for the same id (RFC 8461, 3.3)
	crowdedWait   = 2 * time.Second     // that mail waits for a policy while many others do:
	maxWaiting    = 16                  // these
	maxKnown      = 10_000              // domains remembered in memory,
	maxKnownBytes = 16 << 20            // with policies of as many bytes; most have 200
)

// Cache is the policies. It may be used by many goroutines.
type Cache struct {
	opt  Options
	http *http.Client

	mu      sync.Mutex
	known   map[string]*entry // by domain
	weight  int               // of all known, in bytes
	flights map[string]*flight
	waiting int
	slots   chan struct{} // fetches under way
	done    sync.WaitGroup
	stop    context.CancelFunc
	base    context.Context
}

// entry is what is known of one domain.
type entry struct {
	kept             // zero: no policy
	tried    int64   // last refresh, in ms
	failed   string  // id whose fetch failed,
	failedAt int64   // in ms,
	failure  problem // and why
	weight   int     // in Cache.weight
}

// problem is a failure as reports know it.
type problem struct {
	kind mail.TLSFault
	why  string
}

// Found is what holds for a domain now.
type Found struct {
	Policy *Policy // nil: none, or one of mode none
	ID     string
	// Failure tells of a policy that could not be had, even if an older one holds.
	Failure mail.TLSFault
	Why     string
	// Unknown: DNS could not say whether there is a policy, and none is known here.
	Unknown bool
}

// New returns the cache that lies in the engine.
func New(opt Options) *Cache {
	if opt.Port == 0 {
		opt.Port = 443
	}
	if opt.FetchTime <= 0 {
		opt.FetchTime = time.Minute
	}
	if opt.WaitTime <= 0 {
		opt.WaitTime = 20 * time.Second
	}
	if opt.Fetches <= 0 {
		opt.Fetches = 64
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	c := &Cache{opt: opt, known: map[string]*entry{}, flights: map[string]*flight{}, slots: make(chan struct{}, opt.Fetches)}
	c.base, c.stop = context.WithCancel(context.Background())
	c.http = &http.Client{
		Transport: &http.Transport{
			DialContext: c.dial, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 32 << 10,
			TLSHandshakeTimeout: min(maxConnect, opt.FetchTime), ResponseHeaderTimeout: min(maxAnswer, opt.FetchTime),
			TLSClientConfig: &tls.Config{RootCAs: opt.Roots, Time: opt.Now, MinVersion: tls.VersionTLS12},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // RFC 8461, 3.3
	}
	return c
}

// Close ends fetches under way.
func (c *Cache) Close() {
	c.stop()
	c.done.Wait()
}

// Policy returns what holds for mail to a domain. It waits for a policy that is new, but
// not for long; the error then, of kind Unavailable, says that it is still on its way and
// that mail should wait. Every other trouble is none: the policy that is known holds, or
// there is none (RFC 8461, 3.3).
func (c *Cache) Policy(ctx context.Context, domain string) (Found, error) {
	domain, err := dnsx.ASCII(domain)
	if err != nil {
		return Found{}, nil
	}
	e, err := c.entry(ctx, domain)
	if err != nil {
		return Found{}, err
	}
	texts, _, err := c.opt.Resolver.LookupTXT(ctx, "_mta-sts."+domain)
	id, ok := ParseTXT(texts)
	if err != nil || !ok {
		f := c.found(domain, e)
		f.Unknown = f.ID == "" && err != nil && !fault.Is(err, fault.NotFound)
		return f, nil
	}
	c.mu.Lock()
	now := c.now()
	holds := e.holds(now)
	current := holds && e.ID == id
	old := now-e.Fetched >= refreshAfter.Milliseconds()
	tried := e.failed == id && now-e.failedAt < retryAfter.Milliseconds() && now >= e.failedAt
	c.mu.Unlock()
	switch {
	case current && old:
		c.refresh(domain, id)
	case !current && !tried:
		if err := c.wait(ctx, c.fetch(domain, id), holds); err != nil {
			return Found{}, fault.Wrap(fault.Unavailable, "the MTA-STS policy of "+domain+" is still being fetched", err)
		}
		if e, err = c.entry(ctx, domain); err != nil {
			return Found{}, err
		}
	}
	return c.found(domain, e), nil
}

// found is what is known of a domain as of now.
func (c *Cache) found(domain string, e *entry) Found {
	c.mu.Lock()
	defer c.mu.Unlock()
	if newer := c.known[domain]; newer != nil {
		e = newer
	}
	now := c.now()
	e.Used = now
	f := Found{Failure: e.failure.kind, Why: e.failure.why}
	if e.holds(now) {
		f.ID = e.ID
		if e.Policy.Mode != None {
			p := e.Policy
			f.Policy = &p
		}
	}
	return f
}

func (c *Cache) now() int64 { return c.opt.Now().UnixMilli() }

// entry returns what is known of a domain, from the engine if need be.
func (c *Cache) entry(ctx context.Context, domain string) (*entry, error) {
	c.mu.Lock()
	e := c.known[domain]
	c.mu.Unlock()
	if e != nil {
		return e, nil
	}
	k, err := c.read(ctx, domain)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.remember(domain, &entry{kept: k}), nil
}

// remember returns what memory knows of a domain, which is e if it knew nothing. c.mu is held.
func (c *Cache) remember(domain string, e *entry) *entry {
	if known := c.known[domain]; known != nil {
		return known
	}
	c.known[domain] = e
	c.weigh(domain, e)
	return e
}

// weigh notes how much memory an entry takes, and lets others go until there is room: any
// ones, for what they have lies in the engine. c.mu is held.
func (c *Cache) weigh(domain string, e *entry) {
	c.weight -= e.weight
	e.weight = len(domain) + len(e.ID) + 500
	for _, mx := range e.Policy.MX {
		e.weight += len(mx) + 16
	}
	c.weight += e.weight
	for other, o := range c.known {
		if len(c.known) <= maxKnown && c.weight <= maxKnownBytes {
			break
		}
		if other != domain {
			c.weight -= o.weight
			o.weight = 0
			delete(c.known, other)
		}
	}
}

var errLate = errors.New("the policy host has not answered yet")

// wait waits for a fetch. With a policy that holds meanwhile nobody needs to be kept for
// long, and the error is nil.
func (c *Cache) wait(ctx context.Context, f *flight, holds bool) error {
	c.mu.Lock()
	limit := c.opt.WaitTime
	if c.waiting >= maxWaiting || holds {
		limit = min(limit, crowdedWait)
	}
	c.waiting++
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.waiting--
		c.mu.Unlock()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-f.done:
		if !f.crowded {
			return nil
		}
	case <-timer.C:
	case <-ctx.Done():
	}
	if holds {
		return nil
	}
	return errLate
}

// Run refreshes policies in use before they end, and forgets those that have, until ctx
// ends.
func (c *Cache) Run(ctx context.Context) {
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := c.Refresh(ctx); err != nil && ctx.Err() == nil {
			c.opt.Log.Warn("MTA-STS policies cannot be refreshed", "err", err)
		}
		timer.Reset(time.Hour)
	}
}

// Refresh fetches again what is due, one after another, and forgets what has run out.
func (c *Cache) Refresh(ctx context.Context) error {
	for last := ""; ; {
		some, err := c.after(ctx, last, maxStep)
		if err != nil || len(some) == 0 {
			return err
		}
		for _, r := range some {
			if err := c.refreshOne(ctx, r); err != nil {
				return err
			}
		}
		last = some[len(some)-1].domain
	}
}

func (c *Cache) refreshOne(ctx context.Context, r dated) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	now := c.now()
	c.mu.Lock()
	if e := c.known[r.domain]; e != nil {
		r.Used = max(r.Used, e.Used)
	}
	c.mu.Unlock()
	switch {
	case !r.holds(now):
		return c.forget(ctx, r.domain, r.kept)
	case now-r.Fetched < refreshAfter.Milliseconds() || now-r.Used > unusedAfter.Milliseconds():
		return nil
	}
	return c.again(ctx, r.domain)
}

// again fetches one policy again and waits for it.
func (c *Cache) again(ctx context.Context, domain string) error {
	if _, err := c.entry(ctx, domain); err != nil {
		return err
	}
	texts, _, err := c.opt.Resolver.LookupTXT(ctx, "_mta-sts."+domain)
	id, ok := ParseTXT(texts)
	if err != nil || !ok {
		c.opt.Log.Warn("the MTA-STS policy of a domain that has one cannot be found any more; the known one holds", "domain", domain, "err", err)
		return nil
	}
	if f := c.refresh(domain, id); f != nil {
		select {
		case <-f.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
