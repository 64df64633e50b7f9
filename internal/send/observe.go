package send

import (
	"net/netip"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// TLSObservation is one attempt to set up TLS with a host, as a report to the host's
// domain counts it (RFC 8460, 4.1). Each connection is one; a connection that carries
// several messages is so, too.
type TLSObservation struct {
	At     time.Time
	Domain string // of the recipients
	Policy TLSPolicyFacts
	// What the connection was to. All are empty if the policy itself could not be had.
	Host      string     // name of the mail host
	Helo      string     // name it gave in its greeting
	Sending   netip.Addr // our end
	Receiving netip.Addr // its end
	Line      mail.Line  // Failure is "" for a session with the protection that the policy asks for
}

// TLSPolicyFacts name the policy that was to hold (RFC 8460, 4.4: policy).
type TLSPolicyFacts struct {
	Type    string   // "tlsa", "sts" or "no-policy-found"
	Domain  string   // whose policy: the TLSA base domain's host, or the recipients' domain
	Strings []string // TLSA records in presentation form, or the lines of the MTA-STS policy
	Hosts   []string // patterns of an MTA-STS policy
}

// observe tells of an attempt to set up TLS. s is nil if there was no connection. A report
// that is on its way without regard to TLS is none (RFC 8460, 3).
func (c *Courier) observe(j *job, t target, s *session, r rule, line mail.Line) {
	if c.opt.Observed == nil || r.policy.Type == "" || j.env.TLSOptional && j.env.From.IsZero() {
		return
	}
	o := TLSObservation{At: c.opt.Now(), Domain: j.domain, Policy: r.policy, Host: t.host, Receiving: t.addr.Addr(), Line: line}
	if s != nil {
		o.Helo = s.helo
		if ap, err := netip.ParseAddrPort(s.conn.LocalAddr().String()); err == nil {
			o.Sending = ap.Addr().Unmap()
		}
	}
	c.opt.Observed(o)
}
