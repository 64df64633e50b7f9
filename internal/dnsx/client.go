package dnsx

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Bounds on what an answer may make us do or keep.
const (
	maxRecords  = 256            // records of an answer that are looked at; the rest is ignored
	maxAliases  = 8              // aliases followed
	maxTTL      = 24 * time.Hour // longest life of an answer here
	maxNegative = time.Hour      // longest life of a denial (RFC 2308, 5)
	failureTTL  = time.Second    // life of a failure (RFC 9520, 3.2)
	udpSize     = 1232           // EDNS buffer that needs no fragments
	maxTXT      = 64 << 10       // bytes of one joined TXT record
)

// Options sets up a Client. Servers, Now, ID and Dial must be given.
type Options struct {
	Servers      []string      // "host:port" each, asked in order
	Timeout      time.Duration // for one try at one server; 0: 3 s
	Rounds       int           // how often the list is gone through; 0: 2
	CacheEntries int           // answers kept; 0: 10,000; negative: none
	TrustAD      bool          // believe the AD bit of servers that are not on loopback, too
	Now          func() time.Time
	ID           func() uint16 // of a question: who guesses it could answer in place of the server
	Dial         func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client is the Resolver that asks over the network: UDP first, TCP when the answer
// was cut off. Equal questions asked at the same time are sent once.
type Client struct {
	opt    Options
	cache  *cache
	flight singleflight.Group
}

var _ Resolver = (*Client)(nil)

// New returns a client. The error is of kind Invalid and names what is wrong with
// the options.
func New(opt Options) (*Client, error) {
	if len(opt.Servers) == 0 {
		return nil, fault.New(fault.Invalid, "no resolver is named")
	}
	for _, s := range opt.Servers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			return nil, fault.Newf(fault.Invalid, "resolver %q is not of the form host:port", s)
		}
	}
	if opt.Timeout <= 0 {
		opt.Timeout = 3 * time.Second
	}
	if opt.Rounds <= 0 {
		opt.Rounds = 2
	}
	if opt.CacheEntries == 0 {
		opt.CacheEntries = 10_000
	}
	return &Client{opt: opt, cache: newCache(opt.CacheEntries)}, nil
}

// SystemServers reads the resolvers of a machine from the text of its resolv.conf. The
// error is of kind Invalid.
func SystemServers(text []byte) ([]string, error) {
	conf, err := dns.ClientConfigFromReader(bytes.NewReader(text))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "no resolver is configured and resolv.conf cannot be understood", err)
	}
	var servers []string
	for _, s := range conf.Servers {
		servers = append(servers, net.JoinHostPort(s, conf.Port))
	}
	if len(servers) == 0 {
		return nil, fault.New(fault.Invalid, "no resolver is configured and resolv.conf names none")
	}
	return servers, nil
}

type question struct {
	name  string // A-labels, lower case, no final dot
	qtype uint16
}

// answer is what one question brought: records, a denial, or a failure. It is shared
// between callers and never changed.
type answer struct {
	name    string // owner of the records, after aliases
	records []dns.RR
	ad      bool
	ttl     time.Duration
	err     error // nil, ErrNoName, ErrNoData, or the failure
}

func (a answer) denied() bool { return a.err == ErrNoName || a.err == ErrNoData }

// lookup answers from the cache or by asking. The error is a fault.
func (c *Client) lookup(ctx context.Context, name string, qtype uint16) ([]dns.RR, Info, error) {
	name, err := asked(name)
	if err != nil {
		return nil, Info{}, err
	}
	q := question{name, qtype}
	ans, ok := c.cache.get(q, c.opt.Now())
	if !ok {
		if ans, err = c.ask(ctx, q); err != nil {
			return nil, Info{Name: name}, err
		}
	}
	info := Info{Name: ans.name, AD: ans.ad, TTL: ans.ttl}
	switch {
	case ans.err == nil:
		return ans.records, info, nil
	case ans.denied():
		return nil, info, fault.Wrap(fault.NotFound, fmt.Sprintf("%s: %s", name, ans.err), ans.err)
	}
	return nil, info, fault.Wrap(fault.Unavailable,
		fmt.Sprintf("the name service has no answer for %s now", name), ans.err)
}

// ask sends the question, or joins the call that is sending it already. The asking
// goes on when this caller gives up: others may wait for it, and the cache gains.
func (c *Client) ask(ctx context.Context, q question) (answer, error) {
	if err := ctx.Err(); err != nil {
		return answer{}, waitFailed(q, err)
	}
	key := fmt.Sprintf("%d %s", q.qtype, q.name)
	done := c.flight.DoChan(key, func() (any, error) {
		// A flight may have landed since the caller looked.
		if ans, ok := c.cache.get(q, c.opt.Now()); ok {
			return ans, nil
		}
		tries := time.Duration(c.opt.Rounds*len(c.opt.Servers)) * 2 // UDP and TCP each
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), tries*c.opt.Timeout)
		defer cancel()
		ans := c.resolve(own, q)
		c.cache.put(q, ans, c.opt.Now())
		return ans, nil
	})
	select {
	case r := <-done:
		return r.Val.(answer), nil
	case <-ctx.Done():
		return answer{}, waitFailed(q, ctx.Err())
	}
}

func waitFailed(q question, err error) error {
	return fault.Wrap(fault.Of(err), "the name service did not answer in time for "+q.name, err)
}

// resolve follows aliases until records, a denial or a failure. Recursive servers
// give the whole chain at once; a chain that ends early is asked on.
func (c *Client) resolve(ctx context.Context, q question) answer {
	ans := answer{name: q.name, ad: true, ttl: maxTTL}
	for range maxAliases {
		msg, ad, err := c.exchange(ctx, question{ans.name, q.qtype})
		if err != nil {
			return failed(ans.name, err)
		}
		ans.ad = ans.ad && ad
		before := ans.name
		if err := ans.follow(msg, q.qtype); err != nil {
			return failed(ans.name, err)
		}
		if len(ans.records) > 0 {
			return ans
		}
		if msg.Rcode == dns.RcodeNameError || ans.name == before || hasSOA(msg) {
			ans.deny(msg)
			return ans
		}
	}
	return failed(ans.name, fmt.Errorf("more than %d aliases", maxAliases))
}

func failed(name string, err error) answer {
	return answer{name: name, err: err, ttl: failureTTL}
}

// follow walks from ans.name through the aliases of msg and takes the records of the
// type that the last name owns. Records of other names are none of our business.
func (a *answer) follow(msg *dns.Msg, qtype uint16) error {
	rrs := msg.Answer[:min(len(msg.Answer), maxRecords)]
	for range maxAliases + 1 {
		next := ""
		for _, rr := range rrs {
			h := rr.Header()
			if h.Class != dns.ClassINET || plain(h.Name) != a.name {
				continue
			}
			if h.Rrtype == qtype {
				a.records = append(a.records, rr)
				a.ttl = min(a.ttl, seconds(h.Ttl))
			} else if cname, ok := rr.(*dns.CNAME); ok {
				next = plain(cname.Target)
				a.ttl = min(a.ttl, seconds(h.Ttl))
			}
		}
		if len(a.records) > 0 || next == "" {
			return nil
		}
		if !validName(next) {
			return fmt.Errorf("alias to the invalid name %q", next)
		}
		a.name = next
	}
	return fmt.Errorf("more than %d aliases, or a loop", maxAliases)
}

// deny makes a the denial that msg states, to be kept as long as its SOA record
// allows (RFC 2308, 5). Without one it is not kept.
func (a *answer) deny(msg *dns.Msg) {
	a.err = ErrNoData
	if msg.Rcode == dns.RcodeNameError {
		a.err = ErrNoName
	}
	ttl := time.Duration(0)
	for _, rr := range msg.Ns[:min(len(msg.Ns), maxRecords)] {
		if soa, ok := rr.(*dns.SOA); ok {
			ttl = min(seconds(soa.Hdr.Ttl), seconds(soa.Minttl), maxNegative)
			break
		}
	}
	a.ttl = min(a.ttl, ttl)
}

func hasSOA(msg *dns.Msg) bool {
	for _, rr := range msg.Ns {
		if rr.Header().Rrtype == dns.TypeSOA {
			return true
		}
	}
	return false
}

// seconds reads a TTL; one with the top bit set counts as zero (RFC 2181, 8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// plain returns the name as we compare it. The library escapes odd bytes, so that
// such a name stays recognisable and fails validName.
func plain(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// trusted tells whether the AD bit of a server counts: over a network anybody could
// have set it (RFC 6840, 5.8).
func (c *Client) trusted(server string) bool {
	if c.opt.TrustAD {
		return true
	}
	ap, err := netip.ParseAddrPort(server)
	return err == nil && ap.Addr().IsLoopback()
}
