package discover

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Options are what a Finder gets from the world.
type Options struct {
	Resolver dnsx.Resolver // nil asks no network at all
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	Now      func() time.Time
	Random   io.Reader      // for the label that no domain has
	Roots    *x509.CertPool // whose certificates count; nil means those of the system

	// Deadline for everything; 0 means 8 s. After a quarter of it the answer is given if there
	// is one, and a host that has not even connected is given up.
	Deadline time.Duration

	// Database is the URL before the domain of a collection of autoconfig files; "" asks none.
	Database string

	// Overrides is text in the form of the built-in table; it goes before all that is asked.
	Overrides string

	// Own answers for domains of this server, nil for others. It may be nil.
	Own func(ctx context.Context, domain string) (*Own, error)

	AllowPrivate bool // connect to addresses that are not public, too
	Explain      bool // tell every step, and ask all of them
	Probe        bool // look at each server that was found
}

// Own is what this server says of a domain of its own. Usernames may have the placeholders
// of autoconfig, %EMAILADDRESS% and so on.
type Own struct {
	Provider string
	Services []Service
	Notes    []string
}

// DefaultDatabase is Thunderbird's (https://github.com/thunderbird/autoconfig).
const DefaultDatabase = "https://autoconfig.thunderbird.net/v1.1/"

const (
	defaultDeadline = 8 * time.Second
	quick           = 600 * time.Millisecond // how long better sources are waited for if the domain is in a table
	linger          = 400 * time.Millisecond // and for a protocol that the better ones do not have
)

// Finder finds settings. It is safe for concurrent use.
type Finder struct {
	opt       Options
	table     *table
	overrides *table
}

// New returns a Finder. The error is of kind Invalid and speaks of the overrides.
func New(opt Options) (*Finder, error) {
	if opt.Deadline <= 0 {
		opt.Deadline = defaultDeadline
	}
	f := &Finder{opt: opt}
	var err error
	if f.table, err = newTable(builtin, "table/*.txt"); err != nil {
		return nil, err
	}
	f.overrides = emptyTable()
	return f, f.overrides.read("overrides", opt.Overrides)
}

// found is what a source says.
type found struct {
	provider string
	services []Service
	lacks    []string // protocols that there are none of
	notes    []string
	result   string // for Step; made from the services if it is empty
	closed   bool   // the source knows that there is nothing for programs at all
}

// Find looks for the settings of an address, or of a domain. Of a text that is neither the
// error is of kind Invalid, and Unavailable if no name server answers; that nothing was found is no
// error.
func (f *Finder) Find(ctx context.Context, text string) (*Answer, error) {
	who, err := parseSubject(strings.TrimSpace(text))
	if err != nil {
		return nil, err
	}
	if isSuffix(who.Domain) && f.table.byDomain(who.Domain) == nil && f.overrides.byDomain(who.Domain) == nil {
		return nil, fault.Newf(fault.Invalid, "below %s others register their domains, and nobody has mail there; give one of these", who.Domain)
	}
	ctx, cancel := context.WithTimeout(ctx, f.opt.Deadline)
	defer cancel()
	h := &hunt{f: f, who: who, changed: make(chan struct{}, 1), hosts: map[string]*lookup{}, dns: &asked{Resolver: f.opt.Resolver}}
	var stop context.CancelFunc
	h.ctx, stop = context.WithCancel(ctx)
	defer stop()
	if done := h.local(); !done || f.opt.Explain {
		h.network(stop)
	}
	if ctx.Err() == context.Canceled {
		return nil, fault.Wrap(fault.Closed, "interrupted", ctx.Err())
	}
	a := h.answer()
	if len(a.Services) == 0 && a.Provider == "" {
		if err := h.dns.dead(); err != nil {
			return nil, err
		}
	}
	if f.opt.Probe {
		h.probe(ctx, a)
	}
	return a, nil
}

// hunt is one search.
type hunt struct {
	f   *Finder
	who subject
	ctx context.Context // ends when enough was found

	changed chan struct{} // something was found, or a step has ended
	running sync.WaitGroup

	mu    sync.Mutex
	steps []*step
	hosts map[string]*lookup // addresses, looked up once
	mx    *mailHosts
	dns   *asked

	silent  []string // hosts that let their time pass
	partial bool     // the answer is given though not all that is needed is there, and some are still out
}

// step is one source at work. The mutex of the hunt guards it.
type step struct {
	rank  int
	name  string // also the Source of its services
	asked string
	began time.Time
	took  time.Duration
	done  bool
	sure  bool // what it found so far of imap and smtp will not become better
	err   error
	found found
}

// Ranks of sources, best first (docs/discover.md).
const (
	rankOwn = iota
	rankOverride
	rankPACC
	rankAutoconfig
	rankTable
	rankTableMX
	rankDatabase
	rankSRV
	rankMX
	rankAutodiscover
	rankPlain
	rankGuess
	rankHost
	rankDoubted
)

// add begins a step that ends with settle.
func (h *hunt) add(rank int, name, asked string) *step {
	s := &step{rank: rank, name: name, asked: asked, began: h.f.opt.Now()}
	h.mu.Lock()
	h.steps = append(h.steps, s)
	h.mu.Unlock()
	return s
}

// post says what a step has found so far.
func (h *hunt) post(s *step, got found) {
	h.mu.Lock()
	for i := range got.services {
		if got.services[i].Source == "" {
			got.services[i].Source = s.name
		}
		if got.services[i].Auth == nil { // unknown, and a list all the same
			got.services[i].Auth = []string{}
		}
	}
	s.found = got
	h.mu.Unlock()
	h.wake()
}

// settle ends a step.
func (h *hunt) settle(s *step, err error) {
	h.mu.Lock()
	s.done, s.err, s.took = true, err, h.f.opt.Now().Sub(s.began)
	h.mu.Unlock()
	h.wake()
}

func (h *hunt) wake() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// start runs a source beside the others.
func (h *hunt) start(rank int, name, asked string, run func(ctx context.Context, s *step) (found, error)) {
	s := h.add(rank, name, asked)
	h.running.Go(func() {
		ctx, cancel := context.WithTimeout(h.ctx, h.f.opt.Deadline*6/10)
		defer cancel()
		got, err := run(ctx, s)
		if err == nil {
			h.post(s, got)
		}
		h.settle(s, err)
	})
}

// local asks what needs no network, and tells whether nothing else could be better.
func (h *hunt) local() (done bool) {
	if h.f.opt.Own != nil {
		s := h.add(rankOwn, "own", "domains of this server")
		own, err := h.f.opt.Own(h.ctx, h.who.Domain)
		if own != nil {
			h.post(s, h.ours(own))
		}
		h.settle(s, err)
		if own != nil {
			return true
		}
	}
	if len(h.f.overrides.all) > 0 {
		s := h.add(rankOverride, "override", "the local file")
		if p := h.f.overrides.byDomain(h.who.Domain); p != nil {
			got := h.entry(p, "override")
			h.post(s, got)
			done = complete(got.services) || got.closed
		}
		h.settle(s, nil)
	}
	s := h.add(rankTable, "table", "the built-in table, by domain")
	if p := h.f.table.byDomain(h.who.Domain); p != nil {
		got := h.entry(p, "table")
		h.post(s, got)
		done = done || got.closed
	}
	h.settle(s, nil)
	return done
}

func (h *hunt) ours(own *Own) found {
	got := found{provider: own.Provider, notes: own.Notes, services: slices.Clone(own.Services), closed: true}
	for i, s := range got.services {
		s.Username = h.who.user(s.Username)
		if s.Confidence == "" {
			s.Confidence = Verified
		}
		got.services[i] = s
	}
	return got
}

// entry is what a table says.
func (h *hunt) entry(p *provider, source string) found {
	return found{
		provider: p.Name, services: p.services(h.who, source), lacks: p.Without, notes: p.Notes,
		closed: len(p.Services) == 0 && p.lacks("imap") && p.lacks("pop3"),
	}
}

// complete tells whether mail can be read and sent.
func complete(services []Service) bool {
	has := func(protocols ...string) bool {
		return slices.ContainsFunc(services, func(s Service) bool { return slices.Contains(protocols, s.Protocol) })
	}
	return has("imap", "pop3") && has("smtp")
}
