// Package clients plays mail programs: it asks a domain for its settings in the way and order
// in which each of them does, reads the answers as strictly as they do, and connects to the
// servers that it is told of. So whoever publishes settings sees what his users' programs
// make of them.
//
// It follows no redirect, signs in nowhere and sends no password. It does not look for what a
// provider may have meant; that is what package discover is for.
//
// What each program does was read in its source or seen by its users; see docs/autoconfig.md.
package clients

import (
	"context"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Resolver is what is asked of the DNS; a dnsx.Resolver is one.
type Resolver interface {
	LookupAddr(ctx context.Context, host string) ([]netip.Addr, dnsx.Info, error)
	LookupMX(ctx context.Context, domain string) ([]dnsx.MX, dnsx.Info, error)
	LookupSRV(ctx context.Context, name string) ([]dnsx.SRV, dnsx.Info, error)
	LookupTXT(ctx context.Context, name string) ([]string, dnsx.Info, error)
}

// Options of Play. Resolver, Dial and Now must be given.
type Options struct {
	Resolver Resolver
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	HTTPS    string         // host:port that is asked over https whatever the name; "": what the DNS says
	HTTP     string         // the same for http; "-": nobody is asked over http
	Roots    *x509.CertPool // nil: those of the system
	Now      func() time.Time

	// AllowPrivate lets it connect to addresses that are not public, too: records and documents of
	// strangers must not lead us into our own network.
	AllowPrivate bool
}

// What came of one question.
const (
	Pass    = "pass"
	Fail    = "fail"
	Skipped = "skipped" // could not be asked: the DNS gave no answer, or the server had been asked too often
)

// Try is one question that a program asks.
type Try struct {
	Mechanism string `json:"mechanism"` // one of Mechanisms
	Asked     string `json:"asked"`
	Status    string `json:"status"`
	Why       string `json:"why,omitempty"` // it is no pass
}

// Outcome is what a program has come to. Its JSON is public interface.
type Outcome struct {
	Client   string             `json:"client"`
	OK       bool               `json:"ok"`
	Unknown  bool               `json:"unknown,omitempty"` // it is not, and not everything could be asked
	Why      string             `json:"why,omitempty"`     // it is not
	Source   string             `json:"source,omitempty"`
	Services []discover.Service `json:"services"` // those that it would use
	Tries    []Try              `json:"tries"`
}

// Mechanisms are the ways in which programs ask, in the order of a table.
func Mechanisms() []string {
	return []string{"auto", "well", "http", "mx", "srv", "names", "pox", "json", "prof", "pacc"}
}

// client is a program: what it asks, in its order. It takes the first answer that it can use.
type client struct {
	name string
	asks []ask
}

type ask struct {
	mechanism string
	run       func(p *player, ctx context.Context) result
}

// result is what came of a question. A result without services and without an error is none.
type result struct {
	asked    string
	services []discover.Service
	err      error
}

// programs are the clients that are played. Some take any of several ways.
var programs = []client{
	{"Thunderbird", []ask{{"auto", (*player).autoconfig}, {"well", (*player).wellKnown}, {"http", (*player).autoconfigHTTP}, {"mx", (*player).byMX}, {"names", (*player).names}}},
	{"Thunderbird Android", []ask{{"auto", (*player).autoconfigStrict}, {"well", (*player).wellKnownStrict}, {"mx", (*player).byMXStrict}}},
	{"FairEmail", []ask{{"srv", (*player).srv}, {"auto", (*player).autoconfig}, {"pox", (*player).pox}, {"names", (*player).names}}},
	{"aerc", []ask{{"auto", (*player).autoconfig}, {"srv", (*player).srv}, {"names", (*player).names}}},
	{"Outlook (POX)", []ask{{"pox", (*player).pox}}},
	{"Outlook (JSON)", []ask{{"json", (*player).json}}},
	{"Apple Mail", []ask{{"prof", (*player).profile}, {"names", (*player).names}}},
	{"PACC", []ask{{"pacc", (*player).pacc}}},
}

// Play lets all programs ask for the settings of an address, which need not exist. It ends
// with ctx: what has no answer by then has none.
func Play(ctx context.Context, address string, o Options) ([]Outcome, error) {
	domain, err := domainOf(address)
	if err != nil {
		return nil, err
	}
	p := &player{Options: o, address: address, domain: domain, known: map[string]*once{}}
	defer p.idle()
	all := make([]Outcome, len(programs))
	var wg sync.WaitGroup
	for i, c := range programs {
		wg.Go(func() { all[i] = p.play(ctx, c) })
	}
	wg.Wait()
	return all, nil
}

func (p *player) play(ctx context.Context, c client) Outcome {
	o := Outcome{Client: c.name, Services: []discover.Service{}}
	results := make([]result, len(c.asks))
	var wg sync.WaitGroup
	for i, a := range c.asks {
		wg.Go(func() {
			if results[i] = a.run(p, ctx); results[i].err == nil {
				results[i].err = p.usable(ctx, results[i].services)
			}
		})
	}
	wg.Wait()
	for i, r := range results {
		t := Try{Mechanism: c.asks[i].mechanism, Asked: r.asked, Status: Pass}
		switch {
		case r.err != nil && fault.Is(r.err, fault.Closed):
			t.Status, t.Why = Skipped, fault.Say(r.err)
		case r.err != nil:
			t.Status, t.Why = Fail, fault.Say(r.err)
		case !o.OK:
			o.OK, o.Source, o.Services = true, t.Mechanism, r.services
		}
		o.Tries = append(o.Tries, t)
	}
	if !o.OK {
		o.Why = "it finds no settings that work"
		if o.Unknown = slices.ContainsFunc(o.Tries, func(t Try) bool { return t.Status == Skipped }); o.Unknown {
			o.Why = "it found no settings that work, and could not ask for all"
		}
	}
	return o
}

// player asks, each question once.
type player struct {
	Options
	address, domain string

	mu    sync.Mutex
	known map[string]*once
	web   sync.Once
	http  *browser
}

type once struct {
	sync.Once
	result
}

// ask returns what a question has come to, and asks it if nobody has yet.
func (p *player) ask(key string, run func() result) result {
	p.mu.Lock()
	o := p.known[key]
	if o == nil {
		o = new(once)
		p.known[key] = o
	}
	p.mu.Unlock()
	o.Do(func() { o.result = run() })
	return o.result
}

// usable tells whether there is a server to read from and one to send with, and both let
// themselves be reached with a certificate that is theirs. A program uses the first of each.
func (p *player) usable(ctx context.Context, all []discover.Service) error {
	in, out := first(all, "imap", "pop3"), first(all, "smtp")
	if in == nil || out == nil {
		return fault.New(fault.NotFound, "it names no server to read mail from, or none to send it with")
	}
	for _, s := range []*discover.Service{in, out} {
		if err := p.reach(ctx, *s); err != nil {
			return err
		}
	}
	return nil
}

func first(all []discover.Service, protocols ...string) *discover.Service {
	for _, p := range protocols {
		for i := range all {
			if all[i].Protocol == p {
				return &all[i]
			}
		}
	}
	return nil
}
