package publish

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Zone is one that may be changed by dynamic updates (RFC 2136), and the key that signs them
// (RFC 8945).
type Zone struct {
	Name      string
	Server    string // host:port of the primary
	KeyName   string
	Algorithm string // hmac-sha256 and its like
	Secret    string // base64
	Broken    error  // why there is no secret; then nothing can be changed
}

// Updater changes zones. Zones, Now, ID and Dial must be given.
type Updater struct {
	Zones   []Zone
	Timeout time.Duration // of one question; 0: 10 s
	Now     func() time.Time
	ID      func() uint16
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

// fudge is how far clocks may differ (RFC 8945, 10), in seconds.
const fudge = 300

// ZoneOf returns the zone that a name lies in, the nearest there is.
func (u *Updater) ZoneOf(name string) (zone Zone, found bool) {
	for _, z := range u.Zones {
		if below(name, z.Name) && (!found || len(z.Name) > len(zone.Name)) {
			zone, found = z, true
		}
	}
	return zone, found
}

// records asks the zone's own server what is at a name, of any type that is asked for.
func (u *Updater) records(ctx context.Context, zone Zone, name string, kind uint16) ([]dns.RR, error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), kind)
	q.Id = u.ID()
	q.RecursionDesired = false
	answer, err := u.exchange(ctx, zone, q)
	if err != nil {
		return nil, err
	}
	if answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
		return nil, fault.Newf(fault.Unavailable, "%s answers %s to a question for %s", zone.Server, dns.RcodeToString[answer.Rcode], name)
	}
	return slices.DeleteFunc(answer.Answer, func(rr dns.RR) bool {
		return !strings.EqualFold(rr.Header().Name, dns.Fqdn(name))
	}), nil
}

// Change is sent to a zone in one message: all of it is done or nothing.
type Change struct {
	Remove, Add []Record
	// Absent are names and types of which there must be no record yet; else nothing is done.
	Absent []Record
	// ttl of sets that are there already, by name and type: all records of a set have one
	// (RFC 2181, 5.2), and that of others' records is not to change.
	ttl map[[2]string]uint32
}

// errUntouched is the cause of failures after which it is sure that a zone is as it was: the
// change did not leave this host, or its refusal came back (RFC 2136, 3.8: all of it is done or
// nothing). Without it nobody knows.
var errUntouched = errors.New("nothing was changed")

// Send makes a change in a zone. Faults: Denied (the server refuses it), Exists (something
// is there that should be absent), Unavailable.
func (u *Updater) Send(ctx context.Context, zone Zone, c Change) error {
	if zone.Broken != nil {
		return zone.Broken
	}
	m := new(dns.Msg)
	m.SetUpdate(dns.Fqdn(zone.Name))
	m.Id = u.ID()
	for _, part := range []struct {
		records []Record
		put     func([]dns.RR)
	}{{c.Absent, m.RRsetNotUsed}, {c.Remove, m.Remove}, {c.Add, m.Insert}} {
		for _, r := range part.records {
			rr, err := r.rr()
			if err != nil {
				return errors.Join(err, errUntouched)
			}
			if ttl, ok := c.ttl[[2]string{r.Name, r.Type}]; ok {
				rr.Header().Ttl = ttl
			}
			part.put([]dns.RR{rr})
		}
	}
	key := dns.Fqdn(zone.KeyName)
	m.SetTsig(key, dns.Fqdn(zone.Algorithm), fudge, u.Now().Unix())
	answer, err := u.exchange(ctx, zone, m)
	if err != nil {
		return err
	}
	text := dns.RcodeToString[answer.Rcode]
	switch answer.Rcode {
	case dns.RcodeSuccess:
		return nil
	case dns.RcodeYXRrset, dns.RcodeYXDomain, dns.RcodeNXRrset:
		return fault.Wrap(fault.Exists, "the zone "+zone.Name+" has changed meanwhile; try again", errUntouched)
	case dns.RcodeNotAuth, dns.RcodeRefused:
		return fault.Wrap(fault.Denied, fmt.Sprintf("%s refuses changes of %s with the key %s (%s); see key_name, key_algorithm and key_file of dns.update, and what the name server allows the key", zone.Server, zone.Name, zone.KeyName, text), errUntouched)
	case dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeNotZone, dns.RcodeNameError:
		return fault.Wrap(fault.Unavailable, fmt.Sprintf("%s answers %s to a change of %s", zone.Server, text, zone.Name), errUntouched)
	}
	return fault.Newf(fault.Unavailable, "%s answers %s to a change of %s", zone.Server, text, zone.Name) // it may have been done by another to whom the server handed it
}

// exchange does one question over TCP, on a connection of its own.
func (u *Updater) exchange(ctx context.Context, zone Zone, m *dns.Msg) (*dns.Msg, error) {
	if zone.Broken != nil {
		return nil, zone.Broken
	}
	wait := u.Timeout
	if wait == 0 {
		wait = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	sock, err := u.Dial(ctx, "tcp", zone.Server)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "the name server "+zone.Server+" of "+zone.Name+" cannot be reached", fmt.Errorf("%w; %w", err, errUntouched))
	}
	defer sock.Close()
	defer context.AfterFunc(ctx, func() { sock.Close() })()
	client := &dns.Client{Net: "tcp", Timeout: wait, TsigSecret: map[string]string{dns.Fqdn(strings.ToLower(zone.KeyName)): zone.Secret}}
	answer, _, err := client.ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: sock})
	if answer != nil && answer.Rcode == dns.RcodeNotAuth {
		return answer, nil // with an error of TSIG, which says no more
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, fmt.Sprintf("the name server %s gives no answer that can be used", zone.Server), err)
	}
	return answer, nil
}

// Probe sees whether the zones can be changed, by a change that changes nothing. Faults: as
// of Send.
func (u *Updater) Probe(ctx context.Context) error {
	for _, zone := range u.Zones {
		if err := u.Send(ctx, zone, Change{}); err != nil {
			return err
		}
	}
	return nil
}
