package check

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/check/arc"
	"github.com/martlet-mail/martlet/internal/check/authres"
	"github.com/martlet-mail/martlet/internal/check/dkim"
	"github.com/martlet-mail/martlet/internal/check/dmarc"
	"github.com/martlet-mail/martlet/internal/check/dnsbl"
	"github.com/martlet-mail/martlet/internal/check/spf"
)

// Field returns the Authentication-Results field of a verdict, with its line ends.
func (v *Verdict) Field(authservID string) []byte {
	return (&authres.Field{ID: authservID, Results: v.Results()}).Append(nil)
}

// String returns the results as the field has them, on one line.
func (v *Verdict) String() string {
	text := string((&authres.Field{ID: "x", Results: v.Results()}).Append(nil))
	_, text, _ = strings.Cut(text, ";")
	return strings.Join(strings.Fields(text), " ")
}

// Results returns what the field says.
func (v *Verdict) Results() []authres.Result {
	out := []authres.Result{senderResult(v.SPF)}
	if !v.SPF.IsHelo && v.SPFHelo.Status != spf.None {
		out = append(out, senderResult(v.SPFHelo))
	}
	out = append(out, v.signatureResults()...)
	out = append(out, v.policyResult())
	if v.ARC.Status != arc.None {
		out = append(out, v.chainResult())
	}
	out = append(out, v.reverseResult())
	for _, h := range v.Lists {
		if h.Listed() {
			out = append(out, listResult(h))
		}
	}
	return out
}

func prop(kind, name, value string) authres.Property {
	return authres.Property{Type: kind, Name: name, Value: value}
}

// senderResult names the domain only: nobody has checked the local part (RFC 8601, 2.7.2).
func senderResult(r spf.Result) authres.Result {
	out := authres.Result{Method: "spf", Value: string(r.Status)}
	switch {
	case r.Reason != "":
		out.Reason = r.Reason
	case r.Mechanism != "":
		out.Comment = r.Mechanism
	}
	name := "mailfrom"
	if r.IsHelo {
		name = "helo"
	}
	out.Props = []authres.Property{prop("smtp", name, r.Domain)}
	return out
}

// signatureResults has one for each signature (RFC 8601, 2.7.1; RFC 6008).
func (v *Verdict) signatureResults() (out []authres.Result) {
	for _, s := range v.DKIM {
		out = append(out, authres.Result{Method: "dkim", Value: string(s.Status), Reason: s.Reason, Props: []authres.Property{
			prop("header", "d", s.Domain), prop("header", "s", s.Selector), prop("header", "a", s.Algorithm), prop("header", "b", s.Signature),
		}})
	}
	if out == nil {
		out = []authres.Result{{Method: "dkim", Value: "none"}}
	}
	return out
}

// policyResult is that of DMARC (RFC 9989, 9.1).
func (v *Verdict) policyResult() authres.Result {
	d := v.DMARC
	out := authres.Result{Method: "dmarc", Value: string(d.Status), Props: []authres.Property{prop("header", "from", d.Author)}}
	if d.Status != dmarc.Pass {
		out.Reason = d.Reason
	}
	if d.Policy != "" {
		out.Comment = "p=" + string(d.Policy)
		if d.Policy != d.Applied {
			out.Comment += " t=y"
		}
		out.Props = append(out.Props, prop("policy", "dmarc", string(d.Applied)))
	}
	return out
}

// chainResult is that of ARC (RFC 8617, 10.2).
func (v *Verdict) chainResult() authres.Result {
	out := authres.Result{Method: "arc", Value: string(v.ARC.Status), Reason: v.ARC.Reason}
	if v.ARC.Status == arc.Pass {
		newest := v.ARC.Sets[len(v.ARC.Sets)-1]
		out.Comment = fmt.Sprintf("i=%d %s", newest.Instance, newest.Domain)
		out.Props = []authres.Property{prop("header", "oldest-pass", strconv.Itoa(v.ARC.OldestPass)), prop("smtp", "remote-ip", v.Peer.Addr.Unmap().WithZone("").String())}
	}
	return out
}

func (v *Verdict) reverseResult() authres.Result {
	return authres.Result{Method: "iprev", Value: v.Reverse.Status, Comment: v.Reverse.Name, Props: []authres.Property{
		prop("policy", "iprev", v.Peer.Addr.Unmap().WithZone("").String()),
	}}
}

// listResult is in the words of RFC 8904 for lists of good hosts; for block lists there are
// none.
func listResult(h dnsbl.Hit) authres.Result {
	out := authres.Result{Method: "x-dnsbl", Value: fail}
	if h.Zone.Action == dnsbl.Accept {
		out.Method, out.Value = "dnswl", pass
	}
	out.Reason = h.Text
	out.Props = []authres.Property{prop("dns", "zone", h.Zone.Name), prop("policy", "ip", h.Codes[0].String())}
	return out
}

// failed says in one sentence what the author's domain does not stand behind.
func (v *Verdict) failed() string {
	d := v.DMARC
	if d.Problem != "" {
		return d.Problem
	}
	return fmt.Sprintf("the message says it is from %s, but %s", d.Author[:min(len(d.Author), 100)], d.Reason)
}

// anyPass tells whether some signature is valid, of whomever.
func (v *Verdict) anyPass() bool {
	for _, s := range v.DKIM {
		if s.Status == dkim.Pass {
			return true
		}
	}
	return false
}
