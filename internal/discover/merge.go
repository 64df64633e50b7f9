package discover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// protocols in the order of answers.
var protocols = [...]string{"imap", "pop3", "smtp", "jmap", "sieve", "caldav", "carddav"}

// chosen is, for each protocol, the best source that has it. A better source without a
// protocol does not hide it, unless it knows that there is none.
func (h *hunt) chosen() (services []Service, ranks map[string]int, missing []string) {
	byRank := slices.Clone(h.steps)
	slices.SortStableFunc(byRank, func(a, b *step) int { return cmp.Compare(a.rank, b.rank) })
	ranks = map[string]int{}
	for _, protocol := range protocols {
		absent := false
		for _, s := range byRank {
			own := of(protocol, s.found.services)
			if imap, has := ranks["imap"]; has && protocol == "pop3" && imap != s.rank && (s.rank == rankMX || s.rank == rankHost) {
				continue // who takes the mail is not asked for a second place to read it
			}
			if len(own) > 0 {
				services, ranks[protocol] = append(services, own...), s.rank
				break
			}
			if absent = s.found.closed || slices.Contains(s.found.lacks, protocol); absent {
				break
			}
		}
		if _, has := ranks[protocol]; !has && !absent && (protocol == "imap" || protocol == "pop3") {
			missing = append(missing, protocol)
		}
	}
	return services, ranks, missing
}

// of returns the services of a protocol, best first: encrypted from the start, then by
// command (RFC 8314, 3), then not; else as the source has them.
func of(protocol string, services []Service) (own []Service) {
	for _, s := range services {
		if s.Protocol == protocol && !slices.ContainsFunc(own, func(o Service) bool { return o.Host == s.Host && o.Port == s.Port && o.URL == s.URL }) {
			own = append(own, s)
		}
	}
	order := map[string]int{TLS: 0, StartTLS: 1}
	grade := func(s Service) int {
		if n, ok := order[s.Security]; ok {
			return n
		}
		return 2
	}
	slices.SortStableFunc(own, func(a, b Service) int { return cmp.Compare(grade(a), grade(b)) })
	return own
}

// enough tells whether waiting longer is not worth it.
type enough int

const (
	wait     enough = iota
	lingered        // only what a worse source may add is out
	ready
)

// passed are the moments that lie behind a search.
type passed struct {
	known bool // a domain of the table is answered for, whoever is silent
	late  bool // any way to read and send mail is good enough
	part  bool // so is a way to do one of them
}

// state looks at what is there.
func (h *hunt) state(now passed) enough {
	h.mu.Lock()
	defer h.mu.Unlock()
	services, ranks, missing := h.chosen()
	all := !slices.ContainsFunc(h.steps, func(s *step) bool { return !s.done })
	switch {
	case all:
		return ready
	case now.part && hasMail(services):
		h.partial = !complete(services)
		return ready
	case now.late && complete(services) && slices.Contains(missing, "imap"):
		return lingered
	case now.late && complete(services):
		return ready
	}
	if h.f.opt.Explain || !complete(services) {
		return wait
	}
	worst := ranks["smtp"]
	if read, ok := ranks["imap"]; ok {
		worst = max(worst, read)
	} else {
		worst = max(worst, ranks["pop3"])
	}
	better := slices.ContainsFunc(h.steps, func(s *step) bool { return !s.done && (s.rank < worst || s.rank == worst && !s.sure) })
	switch {
	case better && !(now.known && worst <= rankTable):
		return wait
	case len(missing) > 0 && worst > rankTable:
		return lingered
	}
	return ready
}

// hasMail tells whether there is anything to read or send mail with.
func hasMail(services []Service) bool {
	return slices.ContainsFunc(services, func(s Service) bool { return s.Protocol == "imap" || s.Protocol == "pop3" || s.Protocol == "smtp" })
}

// answer puts together what was found.
func (h *hunt) answer() *Answer {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := &Answer{Address: h.who.Asked, Domain: h.who.Domain, Notes: []string{}, Services: []Service{}}
	services, _, _ := h.chosen()
	a.Services = append(a.Services, services...)
	for i, s := range a.Services {
		a.Services[i].Foreign = h.foreign(s)
	}
	byRank := slices.Clone(h.steps)
	slices.SortStableFunc(byRank, func(a, b *step) int { return cmp.Compare(a.rank, b.rank) })
	for _, s := range byRank {
		used := s.found.closed || slices.ContainsFunc(a.Services, func(v Service) bool { return v.Source == s.name })
		if a.Provider == "" && used {
			a.Provider = s.found.provider
		}
		if used || s.rank == rankTable || s.rank == rankTableMX {
			a.Notes = append(a.Notes, s.found.notes...)
		}
		if h.f.opt.Explain {
			a.Steps = append(a.Steps, h.told(s))
		}
	}
	a.Notes = append(a.Notes, h.advice(a)...)
	a.Notes = unique(a.Notes)
	return a
}

// foreign tells whether the person has to confirm whose a host is before it hears a password
// (draft-ietf-mailmaint-autoconfig).
func (h *hunt) foreign(s Service) bool {
	if h.who.below(s.Host) || onThisMachine(s.Host) {
		return false
	}
	switch s.Source {
	case "own", "override", "pacc", "table", "database":
		return false
	case "table-mx", "mx-table", "mx-database":
		return !h.mx.signed
	}
	return true
}

func unique(all []string) []string {
	out := []string{}
	for _, s := range all {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// told is a step as people read it.
func (h *hunt) told(s *step) Step {
	t := Step{Name: s.name, Asked: s.asked, Result: s.found.result, Millis: s.took.Milliseconds(), Found: len(s.found.services)}
	switch {
	case s.err != nil && errors.Is(s.err, context.Canceled), !s.done:
		t.Result = "not waited for"
	case s.err != nil:
		t.Result = describe(s.err)
	case t.Result != "":
	case t.Found > 0:
		var parts []string
		for _, v := range s.found.services {
			parts = append(parts, fmt.Sprintf("%s %s:%d %s", v.Protocol, v.Host, v.Port, v.Security))
		}
		t.Result = strings.Join(parts, ", ")
	case s.found.closed:
		t.Result = "there is nothing for mail programs"
	default:
		t.Result = "nothing"
	}
	return t
}
