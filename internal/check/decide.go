package check

import (
	"fmt"

	"github.com/martlet-mail/martlet/internal/check/dmarc"
	"github.com/martlet-mail/martlet/internal/check/dnsbl"
	"github.com/martlet-mail/martlet/internal/check/spf"
)

// Decide says what becomes of a message to a domain with this policy: the worst of what
// DMARC, SPF, and lists and names of hosts call for. Reasons that lie in the name service, or in us,
// never refuse a message; where nothing stands behind it they keep it from the INBOX only
// if its author's domain is known to want that.
func (c *Checker) Decide(v *Verdict, p Policy) Decision {
	d := v.forged(p)
	for _, other := range []Decision{c.sender(v, p), c.listed(v)} {
		if other.Disposition > d.Disposition {
			other.Override, other.Comment = d.Override, d.Comment
			d = other
		}
	}
	if d.Disposition == Reject && len(v.Faults) > 0 {
		d.Disposition = Junk
		d.override("other", failed)
	}
	return d
}

// forged is what DMARC calls for (RFC 9989, 5.3.6, 5.4, 7.4).
func (v *Verdict) forged(p Policy) Decision {
	d := Decision{Disposition: Mark, Text: v.failed(), Code: 550, Enhanced: v.code()}
	switch v.DMARC.Status {
	case dmarc.Fail:
	case dmarc.TempError, dmarc.PermError:
		d = Decision{Disposition: Mark, Text: "whether the author's domain stands behind the message is not known: " + v.DMARC.Reason}
	default:
		return v.tested(Decision{})
	}
	switch v.DMARC.Applied {
	case dmarc.PolicyReject:
		d.Disposition = Reject
	case dmarc.PolicyQuarantine:
		d.Disposition = Junk
	}
	// A From field that nobody can check is worse than a policy for nothing; but "root", of
	// programs that tell of their work, pretends to be nobody.
	if v.DMARC.Problem != "" && (!v.DMARC.Unclaimed || v.Cut) {
		d.Disposition = max(d.Disposition, Junk)
	}
	asked := d.Disposition
	switch {
	case v.DMARC.Status != dmarc.Fail && asked == Reject: // a name that does not answer is easily found, or made
		d.Disposition = Junk
		d.override("other", "it is not known now")
	case v.DMARC.Status != dmarc.Fail:
	case p == PolicyReject && asked == Junk:
		d.Disposition = Reject
	}
	v.believe(&d, p)
	limit := map[Policy]Disposition{PolicyJunk: Junk, PolicyMark: Mark, PolicyReport: None}
	if most, ok := limit[p]; ok && d.Disposition > most {
		d.Disposition = most
		d.override("local_policy", "the recipient's domain wants no more done")
	}
	if d.Disposition == Reject {
		d.Text = fmt.Sprintf("%s; its DMARC policy is %s", d.Text, v.DMARC.Policy)
	}
	if d.Disposition >= asked {
		d.Override, d.Comment = "", ""
	}
	return v.tested(d)
}

// believe lowers what is done with a message that was sent on by somebody: his word is taken,
// or it may be that he did what lists do. Who wants forged mail refused at any rate takes
// nothing for a reason that anybody could have made up.
func (v *Verdict) believe(d *Decision, p Policy) {
	if v.DMARC.Problem != "" {
		return // no list makes such a From field
	}
	switch {
	case v.Trusted.Open: // a name service that is away for an hour must not bounce a list's mail
		d.Disposition = min(d.Disposition, Junk)
		d.override("other", "it may be of a trusted forwarder, which cannot be found out now: "+v.Trusted.Detail)
	case v.Trusted.ARC:
		d.Disposition = min(d.Disposition, None)
		d.override("local_policy", "arc=pass "+v.Trusted.Detail)
	case v.Trusted.Domain != "":
		d.Disposition = min(d.Disposition, Mark)
		d.override("trusted_forwarder", v.Trusted.Detail)
	case v.Relayed != "" && d.Disposition == Reject && p != PolicyReject:
		d.Disposition = Junk
		d.override("mailing_list", "it seems that it was sent on "+v.Relayed)
	}
}

func (d *Decision) override(kind, comment string) {
	if d.Override == "" {
		d.Override, d.Comment = kind, comment
	}
}

// tested tells that the author's domain only tests its policy (RFC 9989, 4.7, t).
func (v *Verdict) tested(d Decision) Decision {
	if v.DMARC.Status == dmarc.Fail && v.DMARC.Policy != v.DMARC.Applied {
		d.override("policy_test_mode", "t=y")
	}
	return d
}

// code is the enhanced code that says best what failed (RFC 7372, 3).
func (v *Verdict) code() string {
	switch {
	case v.DMARC.Problem != "", v.SPF.Status == spf.Pass, v.anyPass():
		return "5.7.1" // something passes, for another domain
	}
	return "5.7.26" // more than one check failed
}

// sender is what becomes of a message whose client must not use the sender's domain. Where
// the author's domain stands behind the message it does not matter by which way it came.
func (c *Checker) sender(v *Verdict, p Policy) Decision {
	if v.SPF.Status != spf.Fail || v.DMARC.Status != dmarc.None {
		return Decision{}
	}
	d := Decision{Disposition: c.opt.SPFFail, Code: 550, Enhanced: "5.7.23",
		Text: fmt.Sprintf("%s does not let %s send mail for it (SPF)", v.SPF.Domain, v.Peer.Addr.Unmap().WithZone(""))}
	switch p {
	case PolicyJunk:
		d.Disposition = min(d.Disposition, Junk)
	case PolicyMark:
		d.Disposition = min(d.Disposition, Mark)
	case PolicyReport:
		d.Disposition = None
	}
	switch {
	case v.Trusted.Open:
		d.Disposition = min(d.Disposition, Junk)
	case v.Trusted.Domain != "":
		d.Disposition = min(d.Disposition, Mark)
	}
	return d
}

var actions = map[dnsbl.Action]Disposition{dnsbl.Mark: Mark, dnsbl.Junk: Junk, dnsbl.Reject: Reject}

// listed is what lists of hosts, and the names of the host, lead to. A host that a list of
// good ones has is not held against the message by anything else; while such a list does not
// answer, nothing is refused.
func (c *Checker) listed(v *Verdict) Decision {
	d, score, most := c.hits(v)
	if most == None {
		return Decision{}
	}
	switch {
	case c.opt.RejectScore > 0 && score >= c.opt.RejectScore && d.Disposition < Reject:
		d.Disposition = Reject
	case c.opt.JunkScore > 0 && score >= c.opt.JunkScore && d.Disposition < Junk:
		d.Disposition = Junk
	default:
		d.Disposition = min(d.Disposition, most)
		return d
	}
	d.Disposition = min(d.Disposition, most)
	d.Code, d.Enhanced = 550, "5.7.1"
	d.Text = fmt.Sprintf("what is known of the host %s has a score of %d", v.Peer.Addr.Unmap().WithZone(""), score)
	return d
}

// hits weighs what is known of the host. most is the worst that may be done about it.
func (c *Checker) hits(v *Verdict) (d Decision, score int, most Disposition) {
	most = Reject
	if v.Reverse.Status == fail || v.Reverse.Status == permerror {
		score += c.opt.ReverseWeight
	}
	if v.Name.Status == fail {
		score += c.opt.HeloWeight
	}
	for _, h := range v.Lists {
		good := h.Zone.Action == dnsbl.Accept || h.Zone.Weight < 0
		switch {
		case h.Err != nil && good:
			most = Junk
		case !h.Listed():
		case h.Zone.Action == dnsbl.Accept:
			return d, score, None
		default:
			score += h.Zone.Weight
			if a := actions[h.Zone.Action]; a > d.Disposition {
				d = Decision{Disposition: a, Code: 550, Enhanced: "5.7.1", Text: fmt.Sprintf("%s is listed in %s", v.Peer.Addr.Unmap().WithZone(""), h.Zone.Name)}
				if h.Text != "" {
					d.Text += ": " + h.Text
				}
			}
		}
	}
	return d, score, most
}
