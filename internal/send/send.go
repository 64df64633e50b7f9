// Package send is the courier to other hosts: it finds the host that takes mail for
// a domain, speaks SMTP to it, and says for each recipient what came of it.
//
// One call is one attempt. Waiting, trying again and reporting to the sender are
// the queue's work; so is everything that must survive a crash: send keeps nothing.
//
// RFC 5321 (client side; 5.1 for finding the host), RFC 7505 (null MX), RFC 2920
// (PIPELINING), RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 3030
// (CHUNKING, BINARYMIME), RFC 3461 (DSN), RFC 3207 and 7435 (STARTTLS, used when
// offered), RFC 7672 with 6698 and 7671 (DANE), RFC 8461 (MTA-STS), RFC 8689
// (REQUIRETLS), RFC 4954 (AUTH towards a smarthost), RFC 9422 (LIMITS).
//
// A message that a host cannot take as it is, for want of 8BITMIME or BINARYMIME, is
// converted on its way unless that would break a signature. Headers never are.
package send

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/sts"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// Result says what came of one recipient.
type Result struct {
	Code     int       // 2xx: the next host has it; 4xx: try again; 5xx: give up
	Enhanced string    // enhanced status code such as "4.7.1" (RFC 3463); "" if none was given
	Text     string    // the peer's words if Host is set, else ours: one line, at most 500 bytes
	Host     string    // name of the host whose answer this is; "" if no host decided
	Address  string    // that host's IP address and port, or ""
	TLS      string    // what protected the line, in words; "" for nothing
	DSN      bool      // the next host takes over the duty to report success (RFC 3461, 5.2.1)
	Line     mail.Line // the same for programs
	InTime   bool      // the host knows DELIVERBY (RFC 2852)
	Unsure   bool      // the host had the whole message, and its answer was not heard (RFC 1047)
}

// Message is what is sent. It is opened once for each host that gets as far as
// asking for it, and at most three times more to convert it for hosts that cannot
// take it as it is.
type Message struct {
	Size      int64 // bytes that Open yields
	Has8Bit   bool  // some byte is over 127
	NeedsUTF8 bool  // the header needs SMTPUTF8 (RFC 6532)
	Open      func(context.Context) (io.ReadCloser, error)
}

// Options sets up a Courier. Hostname, Resolver, Now, Shuffle, Random and Dial must be
// given.
type Options struct {
	Hostname  string // our name in EHLO
	Resolver  dnsx.Resolver
	Port      uint16                    // port of the hosts in MX records; 0: 25
	SelfNames []string                  // other names under which we are a mail host
	IsSelf    func(netip.AddrPort) bool // whether an address is one of our listeners; may be nil
	// AllowPrivate lets mail go to loopback, private and link-local addresses.
	AllowPrivate bool
	Smarthost    *Smarthost  // send all mail through this host
	Routes       []Route     // of domains that the administrator has an own opinion of
	TLS          *tls.Config // roots for verified connections; may be nil
	// STS gives the MTA-STS policy of a domain; may be nil: none is asked for. An error
	// means that mail has to wait for it.
	STS      func(ctx context.Context, domain string) (sts.Found, error)
	Timeouts Timeouts
	Reuse    Reuse
	Sources  []netip.Addr                     // our addresses that connections are made from, by family; none: any
	Now      func() time.Time                 // for certificates
	Shuffle  func(n int, swap func(i, j int)) // hosts of equal preference
	Random   io.Reader                        // of what nobody may guess
	// Observed is told of each attempt to set up TLS, for reports; may be nil. It must
	// not block.
	Observed func(TLSObservation)
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	// DialFrom is Dial from one of Sources; needed with these.
	DialFrom func(ctx context.Context, source netip.Addr, network, address string) (net.Conn, error)
}

// Route is what the administrator says of mail for some domains.
type Route struct {
	Domain  string // "example.org"; ".example.org" is what lies below it; "*" all others
	Host    string // takes the mail, name or address; "": the hosts that DNS names
	Port    uint16 // of Host; 0: Options.Port
	TLS     TLSMode
	Sources []netip.Addr // in place of Options.Sources
}

// Timeouts bounds each step. Zero fields have the values of RFC 5321, 4.5.3.2.
type Timeouts struct {
	Connect  time.Duration // 30 s
	Greeting time.Duration // 5 min
	Command  time.Duration // each command but those below: 5 min
	Data     time.Duration // the answer to DATA: 2 min
	Block    time.Duration // writing a block of the message: 3 min
	Final    time.Duration // the answer to the whole message: 10 min
	TLS      time.Duration // handshake: 1 min
	Total    time.Duration // one call of Send: 1 h
}

// Bounds on what one call does.
const (
	maxHosts      = 20  // hosts of a domain that are considered
	maxAddresses  = 4   // addresses tried of one host
	maxAttempts   = 8   // connections made for one domain
	maxRecipients = 100 // recipients of one transaction (RFC 5321, 4.5.3.1.8)
)

// Courier sends. It may be used by many goroutines.
type Courier struct {
	opt      Options
	self     map[string]bool
	routes   map[string]*Route
	pool     pool
	tickets  tickets
	families families
	rooms    rooms
	ends     sync.WaitGroup // connections that are saying goodbye
}

// New returns a courier. The error is of kind Invalid.
func New(opt Options) (*Courier, error) {
	if opt.Resolver == nil {
		return nil, fault.New(fault.Invalid, "sending needs a resolver")
	}
	name, err := dnsx.ASCII(opt.Hostname)
	if err != nil {
		return nil, err
	}
	opt.Hostname = name
	if opt.Port == 0 {
		opt.Port = 25
	}
	if opt.IsSelf == nil {
		opt.IsSelf = func(netip.AddrPort) bool { return false }
	}
	opt.Timeouts = opt.Timeouts.filled()
	opt.Reuse = opt.Reuse.filled()
	c := &Courier{opt: opt, self: map[string]bool{name: true}, routes: map[string]*Route{}}
	for i, r := range opt.Routes {
		domain := strings.ToLower(r.Domain)
		if below, ok := strings.CutPrefix(domain, "."); domain != "*" {
			if domain, err = dnsx.ASCII(below); err != nil {
				return nil, err
			}
			if ok {
				domain = "." + domain
			}
		}
		c.routes[domain] = &opt.Routes[i]
	}
	for _, n := range opt.SelfNames {
		if n, err := dnsx.ASCII(n); err == nil {
			c.self[n] = true
		}
	}
	return c, nil
}

func (t Timeouts) filled() Timeouts {
	for _, f := range []struct {
		d    *time.Duration
		zero time.Duration
	}{
		{&t.Connect, 30 * time.Second}, {&t.Greeting, 5 * time.Minute}, {&t.Command, 5 * time.Minute},
		{&t.Data, 2 * time.Minute}, {&t.Block, 3 * time.Minute}, {&t.Final, 10 * time.Minute},
		{&t.TLS, time.Minute}, {&t.Total, time.Hour},
	} {
		if *f.d <= 0 {
			*f.d = f.zero
		}
	}
	return t
}

// Close ends idle connections, and waits for those that are saying goodbye, a few seconds
// at most.
func (c *Courier) Close() {
	c.pool.close()
	c.ends.Wait()
}

// Send makes one attempt for every recipient of env and returns their results in
// the same order. It returns as soon as the last answer is in. Recipients of one
// domain travel in one transaction, or in as few as the host's limits allow; settled,
// if not nil, is called after a transaction that is not the last with the indices of
// those it has settled, so that what is done can be recorded.
func (c *Courier) Send(ctx context.Context, env mail.Envelope, msg Message, settled func(who []int, r Result)) []Result {
	ctx, cancel := context.WithTimeout(ctx, c.opt.Timeouts.Total)
	defer cancel()
	results := make([]Result, len(env.To))
	for _, open := range c.lanes(env.To) {
		j := &job{env: env, msg: msg, open: open, results: results, settled: settled,
			domain: strings.ToLower(env.To[open[0]].Address.Domain)}
		c.run(ctx, j)
	}
	return results
}

// lanes groups the recipients by where they go, in order of first mention.
func (c *Courier) lanes(to []mail.Recipient) [][]int {
	var lanes [][]int
	at := map[string]int{}
	for i, r := range to {
		domain := strings.ToLower(r.Address.Domain)
		if c.opt.Smarthost != nil {
			domain = ""
		}
		n, ok := at[domain]
		if !ok {
			n = len(lanes)
			at[domain] = n
			lanes = append(lanes, nil)
		}
		lanes[n] = append(lanes[n], i)
	}
	return lanes
}

// job is the mail for one domain during one call.
type job struct {
	env     mail.Envelope
	msg     Message
	domain  string
	open    []int // recipients without a final result, by index
	results []Result
	found   *mime.Message             // the message parsed, once somebody needs that
	sizes   map[mime.Target]int64     // its size converted
	settled func(who []int, r Result) // may be nil
	probe   bool                      // nothing is sent: only RCPT is asked

	via      *Route    // what the administrator says of the domain; nil: nothing
	asked    bool      // policy and noPolicy are what is known:
	policy   sts.Found // the domain's MTA-STS policy,
	noPolicy error     // or why there is none yet
	// Of a message with REQUIRETLS: targets tried, those that cannot give what it asks for,
	// and what the last one lacks.
	tried, unfit int
	lacking      Result
}

// settle records a result for some of the open recipients. A final one closes them.
// A hitch of ours does not hide what a host has said before.
func (j *job) settle(who []int, r Result) {
	for _, i := range who {
		if r.Host == "" && r.Code/100 == 4 && j.results[i].Host != "" {
			continue
		}
		j.results[i] = r
	}
	if r.Code/100 != 4 {
		j.open = slices.DeleteFunc(j.open, func(i int) bool { return slices.Contains(who, i) })
	}
}

// settleAll is settle for all that are open.
func (j *job) settleAll(r Result) { j.settle(slices.Clone(j.open), r) }

// run tries the hosts of the domain, best first, until nothing is left open or no
// other host can help.
func (c *Courier) run(ctx context.Context, j *job) {
	j.via = c.via(j.domain)
	route, err := c.route(ctx, j)
	if err != nil {
		j.settleAll(resultOf(err))
		return
	}
	if c.every(ctx, route, j) {
		j.conclude()
	}
}

// every tries the targets of a route in turn, as long as some recipient is open and another
// host may help. It tells whether that were all the hosts there are: not if we were stopped
// or have had enough, nor if one of them has an address that is not known now.
func (c *Courier) every(ctx context.Context, route *route, j *job) bool {
	for attempts := 0; attempts < maxAttempts; {
		targets, err := route.next(ctx)
		if err != nil {
			j.settleAll(resultOf(err))
		}
		if len(targets) == 0 {
			break
		}
		for _, t := range c.sorted(targets) {
			if attempts++; attempts > maxAttempts {
				return false
			}
			j.tried++
			if goOn := c.attempt(ctx, t, j); !goOn || len(j.open) == 0 || ctx.Err() != nil {
				return false
			}
		}
	}
	return len(route.hosts) == 0 && !route.hitch && ctx.Err() == nil
}

// conclude gives up a message whose sender wants protection, or a delivery in time, that no
// host of the domain can give (RFC 8689, 4.2.1), unless one of them may when it can be
// reached. All of them must have been tried.
func (j *job) conclude() {
	if len(j.open) > 0 && j.unfit > 0 && j.unfit == j.tried {
		j.lacking.Code = 550
		j.settleAll(j.lacking)
	}
}

// refusal is a Result that ends a step.
type refusal struct{ Result }

func (r *refusal) Error() string { return r.Enhanced + " " + r.Text }

// ours returns a refusal in our own words.
func ours(code int, enhanced, text string) *refusal {
	return &refusal{Result{Code: code, Enhanced: enhanced, Text: clean(text)}}
}

// resultOf returns what an error means for a recipient. What we cannot explain is
// temporary.
func resultOf(err error) Result {
	if r, ok := err.(*refusal); ok {
		return r.Result
	}
	return Result{Code: 451, Enhanced: "4.3.0", Text: clean(fault.Say(err))}
}

const maxText = 500

// clean makes one printable line of at most maxText bytes out of a peer's words.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\r' || r == '\n' || r == '\t':
			return ' '
		case r < ' ' || r >= 0x7f && r < 0xa0:
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return strings.TrimSpace(s)
}
