package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"log/slog"
	chance "math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/send"
	"github.com/martlet-mail/martlet/internal/sts"
)

// newPolicies is what keeps the MTA-STS policies of other domains, or nil if they do not
// count.
func newPolicies(cfg *conf.Config, resolver dnsx.Resolver, eng engine.Engine, log *slog.Logger) (*sts.Cache, error) {
	if !cfg.Queue.MTASTS {
		return nil, nil
	}
	roots, _, err := authorities(cfg.Queue.CA)
	if err != nil {
		return nil, misconfigured(err)
	}
	return sts.New(sts.Options{
		Resolver: resolver, Engine: eng, AllowPrivate: cfg.Queue.AllowPrivate, Roots: roots,
		Now: time.Now, Dial: new(net.Dialer).DialContext, Log: log,
	}), nil
}

func newCourier(cfg *conf.Config, resolver dnsx.Resolver, policies *sts.Cache, observed func(send.TLSObservation)) (*send.Courier, error) {
	q := &cfg.Queue
	roots, _, err := authorities(q.CA)
	if err != nil {
		return nil, misconfigured(err)
	}
	o := send.Options{
		Observed: observed,
		Now:      time.Now, Shuffle: chance.Shuffle, Random: rand.Reader, Dial: new(net.Dialer).DialContext, DialFrom: dialFrom,
		Hostname: string(cfg.Hostname), Resolver: resolver, Port: uint16(q.Port),
		AllowPrivate: q.AllowPrivate, IsSelf: isSelf(cfg.Listen), TLS: &tls.Config{RootCAs: roots, Time: time.Now},
		Sources: q.SourceAddresses, Reuse: send.Reuse{Idle: time.Duration(q.ConnectionIdle), Messages: q.ConnectionMessages, Kept: q.Concurrency},
	}
	if q.ConnectionIdle == 0 {
		o.Reuse.Idle = -1
	}
	if policies != nil {
		o.STS = policies.Policy
	}
	for _, r := range q.Route {
		o.Routes = append(o.Routes, send.Route{Domain: r.Domain, Host: r.Host, Port: uint16(r.Port), TLS: routeTLS[r.TLS], Sources: r.SourceAddresses})
	}
	if host := q.Smarthost; host.Host != "" {
		via, err := smarthost(host)
		if err != nil {
			return nil, misconfigured(err)
		}
		o.Smarthost = via
	}
	c, err := send.New(o)
	return c, misconfigured(err)
}

var routeTLS = map[string]send.TLSMode{
	"auto": send.TLSAuto, "opportunistic": send.TLSOpportunistic, "required": send.TLSRequired,
	"verified": send.TLSVerified, "dane": send.TLSDANE,
}

// dialFrom connects from one of our addresses.
func dialFrom(ctx context.Context, source netip.Addr, network, address string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))}
	return d.DialContext(ctx, network, address)
}

func smarthost(c conf.Smarthost) (*send.Smarthost, error) {
	password, err := c.Secret(files)
	if err != nil {
		return nil, err
	}
	mode := map[conf.TLSMode]send.SmarthostMode{
		conf.StartTLS: send.SmarthostStartTLS, conf.Implicit: send.SmarthostTLS, conf.NoTLS: send.SmarthostPlain,
	}[c.TLS]
	return &send.Smarthost{Host: c.Host, Port: uint16(c.Port), TLS: mode, Login: c.Username, Password: password}, nil
}

// remote is the courier as the queue sees it.
type remote struct{ *send.Courier }

func (r remote) Deliver(ctx context.Context, job queue.Job) []queue.Result {
	found := r.Send(ctx, job.Envelope, send.Message(job.Message), func(who []int, found send.Result) {
		if job.Settled != nil {
			job.Settled(who, queue.Result(found))
		}
	})
	results := make([]queue.Result, len(found))
	for i := range found {
		results[i] = queue.Result(found[i])
	}
	return results
}
