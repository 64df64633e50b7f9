package report

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/report/aggregate"
)

// Source is what was reported of mail in a domain's name from one address: a line of
// "martlet reports". Field names are public interface.
type Source struct {
	Kind        string   `json:"kind"` // dmarc
	Domain      string   `json:"domain"`
	HeaderFrom  string   `json:"header_from"`
	Address     string   `json:"source"`                // "" for all others, where there are too many
	Name        string   `json:"source_name,omitempty"` // of the address, as its owner says
	Ours        bool     `json:"ours"`                  // an address of this server
	Messages    uint64   `json:"messages"`
	DMARC       string   `json:"dmarc"` // pass or fail
	SPF         string   `json:"spf"`   // pass if for an aligned domain
	DKIM        string   `json:"dkim"`
	Disposition string   `json:"disposition"`
	Overrides   []string `json:"overrides,omitempty"`
	SPFResults  []string `json:"spf_results,omitempty"`  // as "bounce.example.net=pass"
	DKIMResults []string `json:"dkim_results,omitempty"` // as "example.net=fail"
	seenBy
	Why string `json:"why,omitempty"` // what is not as it should be
	Fix string `json:"fix,omitempty"`
}

// Transport is what was reported of connections to a domain's hosts.
type Transport struct {
	Kind      string   `json:"kind"` // tls
	Domain    string   `json:"domain"`
	Policy    string   `json:"policy"` // tlsa, sts or no-policy-found
	Result    string   `json:"result"` // ok, or the kind of failure (RFC 8460, 4.3)
	Host      string   `json:"host,omitempty"`
	Sessions  uint64   `json:"sessions"`
	Senders   []string `json:"senders,omitempty"` // their addresses
	Receivers []string `json:"receivers,omitempty"`
	Reasons   []string `json:"reasons,omitempty"` // in the words of the reporters
	seenBy
	Why string `json:"why,omitempty"`
	Fix string `json:"fix,omitempty"`
}

// seenBy says who reports, and of when.
type seenBy struct {
	Reporters []string  `json:"reporters"`
	Reports   int       `json:"reports"`
	Verified  bool      `json:"verified"` // the reports are from whom they say
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
}

// SentLine is what became of a report of ours.
type SentLine struct {
	Kind   string    `json:"kind"`
	Domain string    `json:"domain"`
	Day    string    `json:"day"`
	At     time.Time `json:"at"`
	State  State     `json:"state"`
	To     []string  `json:"to"`
	Reason string    `json:"reason,omitempty"`
	ID     string    `json:"report_id,omitempty"`
	Rows   int       `json:"rows"`
	Count  uint64    `json:"count"` // messages or sessions
}

// Bounds on a view.
const (
	maxLines = 10_000
	maxNotes = 8 // of a list within a line
)

func (s *seenBy) note(r Received) {
	s.Verified = r.Verified
	s.Reporters = addNote(s.Reporters, r.Reporter)
	s.Reports++
	if s.First.IsZero() || r.Begin.Before(s.First) {
		s.First = r.Begin
	}
	if r.End.After(s.Last) {
		s.Last = r.End
	}
}

func addNote(list []string, s string) []string {
	if s == "" || len(list) >= maxNotes || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// View returns what was reported, failures first, and of these what weighs most.
func (b *Book) View(ctx context.Context, q Query) ([]*Source, []*Transport, error) {
	if b == nil {
		return nil, nil, nil
	}
	v := view{sources: map[sourceKey]*Source{}, transports: map[transportKey]*Transport{}}
	err := b.each(ctx, q, func(r Received, rows []row) {
		touched := map[*seenBy]bool{}
		for _, one := range rows {
			by := v.add(r, one)
			if by != nil && !touched[by] {
				touched[by] = true
				by.note(r)
			}
		}
	})
	if err != nil {
		return nil, nil, err
	}
	sources, transports := v.lists()
	b.name(ctx, sources)
	for _, s := range sources {
		s.Why, s.Fix = s.advice()
	}
	for _, t := range transports {
		t.Why, t.Fix = t.advice()
	}
	return sources, transports, nil
}

type view struct {
	sources    map[sourceKey]*Source
	transports map[transportKey]*Transport
}

type sourceKey struct {
	domain, from, disposition string
	address                   netip.Addr
	spf, dkim, verified       bool
}

type transportKey struct {
	domain, policy, result, host string
	verified                     bool
}

func (v *view) add(r Received, one row) *seenBy {
	if r.Kind == DMARC {
		return v.source(r, one)
	}
	return v.transport(r, one)
}

func (v *view) source(r Received, one row) *seenBy {
	x := one.record
	k := sourceKey{r.Domain, cmp.Or(x.HeaderFrom, r.Domain), x.Disposition, x.Source, x.SPF, x.DKIM, r.Verified}
	s := v.sources[k]
	if s == nil && len(v.sources) >= maxLines {
		k.address, k.from = netip.Addr{}, ""
		s = v.sources[k]
	}
	if s == nil {
		s = &Source{
			Kind: "dmarc", Domain: k.domain, HeaderFrom: k.from, Address: addrText(k.address), DMARC: passed(x.Pass()), SPF: passed(x.SPF), DKIM: passed(x.DKIM),
			Disposition: x.Disposition,
		}
		v.sources[k] = s
	}
	s.Messages += one.count
	for _, reason := range x.Reasons {
		s.Overrides = addNote(s.Overrides, reason.Type)
	}
	s.SPFResults = addResults(s.SPFResults, x.SPFResults)
	s.DKIMResults = addResults(s.DKIMResults, x.DKIMResults)
	return &s.seenBy
}

func addResults(list []string, results []aggregate.Result) []string {
	for _, one := range results {
		if one.Domain != "" {
			list = addNote(list, one.Domain+"="+one.Result)
		}
	}
	return list
}

func passed(ok bool) string {
	if ok {
		return "pass"
	}
	return "fail"
}

func (v *view) transport(r Received, one row) *seenBy {
	if one.count == 0 {
		return nil
	}
	f := one.failure
	k := transportKey{cmp.Or(one.policy.Domain, r.Domain), one.policy.Type, cmp.Or(f.Result, "ok"), f.Host, r.Verified}
	if k.domain != r.Domain && !strings.HasSuffix(k.domain, "."+r.Domain) {
		k.domain = r.Domain // a report counts for the domain that it came for
	}
	t := v.transports[k]
	if t == nil && len(v.transports) >= maxLines {
		k.host = ""
		t = v.transports[k]
	}
	if t == nil {
		t = &Transport{Kind: "tls", Domain: k.domain, Policy: k.policy, Result: k.result, Host: k.host}
		v.transports[k] = t
	}
	t.Sessions += one.count
	t.Senders = addNote(t.Senders, f.Sending)
	t.Receivers = addNote(t.Receivers, f.Receiving)
	t.Reasons = addNote(t.Reasons, f.Reason)
	return &t.seenBy
}

// lists are the lines in order.
func (v *view) lists() (sources []*Source, transports []*Transport) {
	for _, s := range v.sources {
		sources = append(sources, s)
	}
	slices.SortFunc(sources, func(x, y *Source) int {
		return cmp.Or(cmp.Compare(x.Domain, y.Domain), cmp.Compare(passRank(x.DMARC), passRank(y.DMARC)), cmp.Compare(y.Messages, x.Messages),
			cmp.Compare(x.Address, y.Address), cmp.Compare(x.HeaderFrom, y.HeaderFrom), cmp.Compare(x.Disposition, y.Disposition), cmp.Compare(x.SPF, y.SPF),
			cmp.Compare(x.DKIM, y.DKIM), cmp.Compare(passed(x.Verified), passed(y.Verified)))
	})
	for _, t := range v.transports {
		transports = append(transports, t)
	}
	slices.SortFunc(transports, func(x, y *Transport) int {
		return cmp.Or(cmp.Compare(x.Domain, y.Domain), cmp.Compare(passRank(x.Result), passRank(y.Result)), cmp.Compare(y.Sessions, x.Sessions),
			cmp.Compare(x.Result, y.Result), cmp.Compare(x.Host, y.Host), cmp.Compare(x.Policy, y.Policy), cmp.Compare(passed(x.Verified), passed(y.Verified)))
	})
	return sources, transports
}

func passRank(s string) int {
	if s == "pass" || s == "ok" {
		return 1
	}
	return 0
}

// Bounds on how names are looked up for people.
const (
	maxNamed  = 100
	nameTime  = 4 * time.Second
	nameAtime = 16
)

// name looks up the names of addresses, and which are this server's. What has no answer soon
// has none.
func (b *Book) name(ctx context.Context, sources []*Source) {
	if len(sources) == 0 || b.opt.Resolver == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, nameTime)
	defer cancel()
	ours := map[string]bool{}
	if mine, _, err := b.opt.Resolver.LookupAddr(ctx, b.opt.Hostname); err == nil {
		for _, a := range mine {
			ours[addrText(a)] = true
		}
	}
	names := map[string]string{}
	for _, s := range sources {
		s.Ours = ours[s.Address]
		if s.Address != "" && len(names) < maxNamed {
			names[s.Address] = ""
		}
	}
	places := make(chan struct{}, nameAtime)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for text := range names {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			continue
		}
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			found, _, err := b.opt.Resolver.LookupPTR(ctx, addr)
			if err == nil && len(found) > 0 {
				mu.Lock()
				defer mu.Unlock()
				names[text] = clip(found[0])
			}
		})
	}
	wg.Wait()
	for _, s := range sources {
		s.Name = names[s.Address]
	}
}

// Lines returns what became of our own reports, for people and programs.
func (b *Book) Lines(ctx context.Context, q Query) ([]SentLine, error) {
	list, err := b.SentSince(ctx, q)
	lines := make([]SentLine, 0, len(list))
	for _, s := range list {
		to := s.To
		if to == nil {
			to = []string{}
		}
		lines = append(lines, SentLine{s.Kind.String(), s.Domain, s.Day.Format(time.DateOnly), s.At, s.State, to, s.Reason, s.ID, s.Rows, s.Count})
	}
	return lines, err
}
