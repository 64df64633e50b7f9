package dnsx

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/dns"
)

// exchange asks the servers in turn until one gives an answer that can be used:
// NOERROR or NXDOMAIN, for our question. The error is that of the last try.
func (c *Client) exchange(ctx context.Context, q question) (*dns.Msg, bool, error) {
	last := errors.New("no resolver")
	for range c.opt.Rounds {
		for _, server := range c.opt.Servers {
			msg, err := c.try(ctx, server, q)
			if err == nil {
				return msg, msg.AuthenticatedData && c.trusted(server), nil
			}
			last = fmt.Errorf("%s: %w", server, err)
			if ctx.Err() != nil {
				return nil, false, last
			}
		}
	}
	return nil, false, last
}

// try asks one server: UDP, then TCP if the answer was cut off; without EDNS if the
// server does not know it (RFC 6891, 7).
func (c *Client) try(ctx context.Context, server string, q question) (*dns.Msg, error) {
	req := query(q, true)
	msg, err := c.send(ctx, "udp", server, req)
	if err == nil && (msg.Rcode == dns.RcodeFormatError || msg.Rcode == dns.RcodeNotImplemented) {
		req = query(q, false)
		msg, err = c.send(ctx, "udp", server, req)
	}
	if err == nil && msg.Truncated {
		msg, err = c.send(ctx, "tcp", server, req)
	}
	if err != nil {
		return nil, err
	}
	return msg, usable(msg, q)
}

func query(q question, edns bool) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(q.name), q.qtype)
	m.AuthenticatedData = true // "tell me": RFC 6840, 5.7
	if edns {
		m.SetEdns0(udpSize, false)
	}
	return m
}

// send does one exchange on a socket of its own, so that the source port is fresh.
func (c *Client) send(ctx context.Context, network, server string, req *dns.Msg) (*dns.Msg, error) {
	req.Id = c.opt.ID()
	ctx, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	sock, err := c.opt.Dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer sock.Close()
	stop := context.AfterFunc(ctx, func() { sock.Close() })
	defer stop()
	client := &dns.Client{Net: network, UDPSize: udpSize, Timeout: c.opt.Timeout}
	msg, _, err := client.ExchangeWithConnContext(ctx, req, &dns.Conn{Conn: sock, UDPSize: udpSize})
	if msg != nil && msg.Truncated && network == "udp" {
		return msg, nil // whatever else is wrong with it, TCP will tell
	}
	return msg, err
}

// usable returns an error unless msg answers q with records or a denial.
func usable(msg *dns.Msg, q question) error {
	switch {
	case !msg.Response || len(msg.Question) != 1 ||
		plain(msg.Question[0].Name) != q.name || msg.Question[0].Qtype != q.qtype:
		return errors.New("answer to another question")
	case msg.Truncated:
		return errors.New("answer cut off over TCP")
	case msg.Rcode == dns.RcodeNameError:
		return nil
	case msg.Rcode != dns.RcodeSuccess:
		return fmt.Errorf("answer %s", dns.RcodeToString[msg.Rcode])
	case len(msg.Answer) == 0 && referral(msg):
		// A server that does not recurse points elsewhere: not a denial (RFC 2308, 2.2).
		return errors.New("referral instead of an answer")
	}
	return nil
}

func referral(msg *dns.Msg) bool {
	if msg.Authoritative || hasSOA(msg) {
		return false
	}
	for _, rr := range msg.Ns {
		if rr.Header().Rrtype == dns.TypeNS {
			return true
		}
	}
	return false
}
