package check

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/check/arc"
	"github.com/martlet-mail/martlet/internal/check/dkim"
	"github.com/martlet-mail/martlet/internal/check/dmarc"
	"github.com/martlet-mail/martlet/internal/check/dnsbl"
	"github.com/martlet-mail/martlet/internal/check/spf"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Options of New. Resolver, Hostname and Now must be given.
type Options struct {
	Resolver dnsx.Resolver
	Hostname string        // ours, for explanations
	Deadline time.Duration // for all checks of one message together; 0: 20 s (RFC 7208, 4.6.4)

	Zones         []dnsbl.Zone // asked about every client
	ReverseWeight int          // of an address whose names do not lead back to it, or that has none
	HeloWeight    int          // of a name in HELO that does not lead to the client
	JunkScore     int          // sum of weights from which on a message goes into Junk; 0: never
	RejectScore   int          // sum of weights from which on it is refused; 0: never

	// Trusted are domains of lists and forwarders whose word is taken: what they send on
	// is not refused, and what they say in ARC to have passed DMARC has passed. In
	// A-labels; names below them count, too.
	Trusted []string

	// SPFFail is what becomes of a message whose client must not use the sender's domain,
	// if DMARC says nothing against or for it.
	SPFFail Disposition

	Now func() time.Time
}

// Checker checks messages. It may be used by many goroutines.
type Checker struct{ opt Options }

// New returns a Checker.
func New(o Options) *Checker {
	if o.Deadline <= 0 {
		o.Deadline = 20 * time.Second
	}
	return &Checker{opt: o}
}

// Check finds out what there is to find out about a message, within the deadline. It has no
// error: what could not be found out has the result temperror.
func (c *Checker) Check(ctx context.Context, peer Peer, env mail.Envelope, msg Message) *Verdict {
	start := c.opt.Now()
	whole, cancel := context.WithTimeout(ctx, c.opt.Deadline)
	defer cancel()
	// A stranger's name service may use up no more than its part of the time: DMARC comes last.
	ctx, cancelFirst := context.WithTimeout(whole, c.opt.Deadline*3/4)
	defer cancelFirst()
	v := &Verdict{Peer: peer, Envelope: env, Cut: msg.Cut}
	v.begin()
	authors, problem := dmarc.Authors(msg.Header)
	if msg.Cut && problem == "" {
		problem = "the header is too long to be read whole"
	}
	for _, a := range authors {
		v.Authors = append(v.Authors, canonical(a))
	}
	r := &run{v: v}
	r.start("SPF", func() {
		v.SPF = spf.Check(ctx, c.opt.Resolver, c.query(peer, env.From))
	})
	r.start("SPF of HELO", func() {
		v.SPFHelo = spf.Check(ctx, c.opt.Resolver, c.query(peer, mail.Address{}))
	})
	r.start("DKIM", func() { c.signatures(ctx, v, msg) })
	r.start("iprev", func() { v.Reverse = c.reverse(ctx, peer) })
	r.start("HELO", func() { v.Name = c.name(ctx, peer) })
	r.start("lists", func() { v.Lists = dnsbl.Ask(ctx, c.opt.Resolver, peer.Addr, c.opt.Zones) })
	policies := dmarc.NewPolicies(c.opt.Resolver)
	r.start("DMARC", func() { policies.Prepare(ctx, authors) })
	r.wait()
	r.start("DMARC", func() { v.DMARC = policies.Evaluate(whole, v.evidence(authors, problem)) })
	r.wait()
	r.start("forwarders", func() {
		v.Relayed = v.relayed(msg.Header)
		v.Trusted = c.trusted(v)
	})
	r.wait()
	v.Took = c.opt.Now().Sub(start)
	return v
}

func (c *Checker) query(peer Peer, from mail.Address) spf.Query {
	return spf.Query{Addr: peer.Addr, Helo: peer.Helo, From: from, Receiver: c.opt.Hostname, Now: c.opt.Now()}
}

const failed = "the check failed"

// begin fills in what holds of checks that do not come to their end.
func (v *Verdict) begin() {
	v.SPF = spf.Result{Status: spf.TempError, Reason: failed}
	v.SPFHelo = v.SPF
	v.DMARC = dmarc.Result{Status: dmarc.TempError, Reason: failed}
	v.Reverse.Status = temperror
	v.Name = NameCheck{temperror, failed}
	v.ARC.Status = arc.None
}

// signatures verifies DKIM and ARC, with one reading of the body.
func (c *Checker) signatures(ctx context.Context, v *Verdict, msg Message) {
	m := dkim.NewMessage(msg.Header, msg.Body)
	keys := dkim.NewKeys(c.opt.Resolver)
	v.DKIM = m.Verify(ctx, keys, dkim.VerifyOptions{Now: c.opt.Now()})
	v.ARC = arc.Verify(ctx, m, keys, c.opt.Now())
}

// evidence is what DMARC goes by. A signature with l= or the like is no pass (package dkim).
func (v *Verdict) evidence(authors []string, problem string) dmarc.Message {
	m := dmarc.Message{Authors: authors, Problem: problem}
	if len(v.Faults) > 0 {
		m.Open = failed
	}
	if v.SPF.Domain != "" {
		m.SPF = dmarc.Identifier{Domain: v.SPF.Domain, Pass: v.SPF.Status == spf.Pass, Temp: v.SPF.Status == spf.TempError}
	}
	for _, s := range v.DKIM { // without a domain, too: that there is one is worth telling
		m.DKIM = append(m.DKIM, dmarc.Identifier{Domain: s.Domain, Pass: s.Status == dkim.Pass, Temp: s.Status == dkim.TempError})
	}
	return m
}

// run is checks at the same time. One that panics is one that found nothing.
type run struct {
	v  *Verdict
	wg sync.WaitGroup
	mu sync.Mutex
}

func (r *run) start(name string, check func()) {
	r.wg.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.v.Faults = append(r.v.Faults, fmt.Sprintf("panic in %s: %v\n%s", name, p, debug.Stack()))
			}
		}()
		check()
	})
}

func (r *run) wait() { r.wg.Wait() }
