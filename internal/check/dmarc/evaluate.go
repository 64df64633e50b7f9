package dmarc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// maxAuthors is how many domains of a From field are looked at (RFC 9989, 11.5).
const maxAuthors = 4

// Evaluate finds the policy for a message and whether the message meets it (RFC 9989, 5.3).
//
// A message without exactly one author domain, or with a From field that others could read
// in another way, never passes: of the policies of all domains in it the strictest holds.
func Evaluate(ctx context.Context, resolver dnsx.Resolver, m Message) Result {
	return NewPolicies(resolver).Evaluate(ctx, m)
}

// Policies is what is known of the policies for one message. It is for one goroutine at a
// time.
type Policies struct{ tree *tree }

// NewPolicies returns Policies that know nothing yet.
func NewPolicies(resolver dnsx.Resolver) *Policies { return &Policies{newTree(resolver)} }

// Prepare looks up all that Evaluate will want to know of authors, however SPF and DKIM turn out. What
// has no answer is asked for again.
func (p *Policies) Prepare(ctx context.Context, authors []string) {
	for _, author := range authors[:min(len(authors), maxAuthors)] {
		if name, err := dnsx.ASCII(author); err == nil {
			if res, found, _ := p.tree.policy(ctx, name); found {
				_, _ = p.tree.missing(ctx, &res)
			}
		}
	}
}

// Evaluate is as the function of this name.
func (p *Policies) Evaluate(ctx context.Context, m Message) Result {
	t := p.tree
	authors, problem := m.Authors, m.Problem
	switch {
	case len(authors) == 0 && problem == "":
		problem = "the message has no author"
	case len(authors) > 1 && problem == "":
		problem = "the message has authors of several domains"
	}
	res := Result{Status: None, Problem: problem}
	first, unclaimed := true, len(authors) <= maxAuthors
	for _, author := range authors[:min(len(authors), maxAuthors)] {
		name, err := dnsx.ASCII(author)
		if err != nil {
			res.Problem = "the author's domain is none"
			unclaimed = false
			continue
		}
		one := t.evaluate(ctx, name, m)
		unclaimed = unclaimed && one.Status == None
		if one.Problem = res.Problem; first || worse(one, res) {
			res, first = one, false
		}
	}
	if res.Problem != "" { // nobody can stand behind it
		res.Status, res.Reason = Fail, res.Problem
	}
	res.Unclaimed = unclaimed
	return res
}

var strictness = map[Policy]int{"": 0, PolicyNone: 1, PolicyQuarantine: 2, PolicyReject: 3}

// worse tells whether a asks for more than b.
func worse(a, b Result) bool { return strictness[a.Applied] > strictness[b.Applied] }

// policy finds the policy of one Author Domain. res.Domain is empty if it has none, and
// res.Status says if that is not known; doubt is why the walk did not come to its end.
func (t *tree) policy(ctx context.Context, author string) (res Result, found bool, doubt error) {
	res = Result{Author: author, Organization: author}
	w, err := t.climb(ctx, author)
	if err != nil {
		// Names above may not answer: the author's own record is enough for most.
		own, bad := t.at(ctx, author)
		if bad != nil || !own.ok {
			res.Status, res.Reason = TempError, err.Error()
			return res, false, err
		}
		w = walk{steps: []step{{author, own.record}}, organization: author, doubt: err}
	}
	res.Organization = w.organization
	if !res.discover(author, w) {
		res.Status, res.Reason = None, author+" has no DMARC policy"
		return res, false, nil
	}
	return res, true, w.doubt
}

// evaluate is for one Author Domain.
func (t *tree) evaluate(ctx context.Context, author string, m Message) Result {
	res, found, above := t.policy(ctx, author)
	if !found {
		return res
	}
	if res.Record.Malformed && len(res.Record.RUA) == 0 {
		res.Status, res.Reason = PermError, "the DMARC record of "+res.Domain+" has no valid policy"
		res.Policy, res.Applied = PolicyNone, PolicyNone
		return res
	}
	doubt := t.align(ctx, &res, m, above)
	if doubt == "" {
		doubt = m.Open
	}
	if res.SPF || len(res.DKIM) > 0 {
		res.Status = Pass
		res.choose(false)
		return res
	}
	// Only now is it of interest whether the domain exists.
	missing, err := t.missing(ctx, &res)
	res.choose(missing)
	switch {
	case err != nil:
		res.Status, res.Reason = TempError, err.Error()
	case doubt != "":
		res.Status, res.Reason = TempError, doubt
	default:
		res.Status, res.Reason = Fail, res.why(m)
	}
	return res
}

// discover finds the record that applies (RFC 9989, 4.10.1): that of the author's domain, of
// its Organizational Domain, or of the public suffix above.
func (r *Result) discover(author string, w walk) bool {
	for _, s := range w.steps {
		if s.domain == author || s.domain == w.organization || s.record.PSD == PSDYes {
			r.Domain, r.Record = s.domain, s.record
			return true
		}
	}
	return false
}

// choose takes the policy for the author from the record.
func (r *Result) choose(missing bool) {
	r.NonExistent = missing
	p := r.Record.Policy
	if r.Author != r.Domain {
		if r.Record.Subdomains != "" {
			p = r.Record.Subdomains
		}
		if missing && r.Record.NonExistent != "" {
			p = r.Record.NonExistent
		}
	}
	if r.Record.Malformed {
		p = PolicyNone
	}
	r.Policy, r.Applied = p, p
	if r.Record.Testing { // one step below (RFC 9989, 4.7, t)
		switch p {
		case PolicyReject:
			r.Applied = PolicyQuarantine
		case PolicyQuarantine:
			r.Applied = PolicyNone
		}
	}
}

// missing tells whether the author's domain does not exist, where that makes a difference
// (RFC 9989, 3.2.13).
func (t *tree) missing(ctx context.Context, r *Result) (bool, error) {
	if r.Record.NonExistent == "" || r.Author == r.Domain {
		return false, nil
	}
	if gone, ok := t.gone[r.Author]; ok {
		return gone, nil
	}
	_, _, err := t.dns.LookupIP(ctx, r.Author, false)
	if err == nil || fault.Is(err, fault.NotFound) {
		gone := err != nil && dnsx.NoName(err)
		t.gone[r.Author] = gone
		return gone, nil
	}
	return false, fmt.Errorf("the name service does not say now whether %s exists", r.Author)
}

// align looks which of the domains that stand behind the message are the author's. doubt
// says why it may be one that could not be checked. above is why the author's organization is
// not known, nil if it is.
func (t *tree) align(ctx context.Context, r *Result, m Message, above error) (doubt string) {
	ask := func(id Identifier, strict bool) bool {
		name, err := dnsx.ASCII(id.Domain)
		if err != nil || !id.Pass && !id.Temp {
			return false
		}
		same, err := t.aligned(ctx, r, name, strict)
		if above != nil && !same && !strict && err == nil && related(name, r.Author) {
			err = above
		}
		switch {
		case err != nil && doubt == "":
			doubt = err.Error()
		case same && id.Temp && doubt == "":
			doubt = "what stands behind " + name + " cannot be found out now"
		}
		return same && id.Pass
	}
	r.SPF = ask(m.SPF, r.Record.StrictSPF)
	for _, id := range m.DKIM {
		if ask(id, r.Record.StrictDKIM) {
			if name, _ := dnsx.ASCII(id.Domain); !slices.Contains(r.DKIM, name) {
				r.DKIM = append(r.DKIM, name)
			}
		}
	}
	return doubt
}

// aligned tells whether a domain is the author's (RFC 9989, 4.4). Names outside of the
// author's organization are so without a question.
func (t *tree) aligned(ctx context.Context, r *Result, name string, strict bool) (bool, error) {
	switch {
	case name == r.Author:
		return true, nil
	case strict, !within(name, r.Organization):
		return false, nil
	}
	w, err := t.climb(ctx, name)
	return err == nil && w.organization == r.Organization, err
}

// related tells whether two names could be of one organization: they share two labels.
func related(a, b string) bool {
	tail := func(s string) string {
		labels := strings.Split(s, ".")
		return strings.Join(labels[max(0, len(labels)-2):], ".")
	}
	return tail(a) == tail(b)
}

// why says what failed, in one sentence.
func (r *Result) why(m Message) string {
	var why []string
	switch {
	case m.SPF.Domain == "":
		why = append(why, "there is no SPF")
	case m.SPF.Pass:
		why = append(why, fmt.Sprintf("SPF passes for %s, which is another domain", clip(m.SPF.Domain)))
	default:
		why = append(why, "SPF does not pass for "+clip(m.SPF.Domain))
	}
	passed := ""
	for _, id := range m.DKIM {
		if id.Pass {
			passed = id.Domain
		}
	}
	switch {
	case len(m.DKIM) == 0:
		why = append(why, "there is no DKIM signature")
	case passed != "":
		why = append(why, fmt.Sprintf("the valid DKIM signature is of %s, which is another domain", clip(passed)))
	default:
		why = append(why, "no DKIM signature is valid")
	}
	return strings.Join(why, " and ")
}

// clip keeps a stranger's domain short and printable.
func clip(s string) string {
	if name, err := dnsx.ASCII(s); err == nil {
		s = name
	}
	if len(s) > 100 {
		s = s[:100] + "..."
	}
	return strings.Map(func(c rune) rune {
		if c <= ' ' || c > '~' {
			return '?'
		}
		return c
	}, s)
}
