package publish

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Action is what Apply does about a record.
type Action string

const (
	Add     Action = "add"     // it is missing
	Remove  Action = "remove"  // it was made here, and is not wanted any more
	Leave   Action = "keep"    // it is there, or whether it is wanted is not known
	Blocked Action = "blocked" // something that was not made here is in its place
	ByHand  Action = "by hand" // it lies in no zone that can be changed from here
)

// Step is one record of a plan.
type Step struct {
	Record
	Action Action   `json:"action"`
	Found  []string `json:"found,omitempty"` // of Blocked: what is there
	zone   Zone
	first  bool   // of Add: there is none of this name and type yet
	ttl    uint32 // else that of those which are there
}

// Plan asks the zones' servers and says what is to be done so that the wanted records are
// there. ours are the records that were made here before: only these are ever removed, and of
// those that follow from what the machine is found to have none is, unless want has another of
// the kind: no address and no certificate is more often one that is not known just now.
func Plan(ctx context.Context, u *Updater, want, ours []Record) ([]Step, error) {
	var steps []Step
	for _, r := range want {
		s, err := u.step(ctx, r, want, ours)
		if err != nil {
			return nil, err
		}
		steps = append(steps, s)
	}
	for _, r := range ours {
		if holds(want, r) {
			continue
		}
		steps = append(steps, unwanted(u, want, r))
	}
	return steps, nil
}

// unwanted decides about a record that was made here and is none of those that are wanted.
func unwanted(u *Updater, want []Record, r Record) Step {
	s := Step{Record: r, Action: Remove}
	s.Why = "made here, and not wanted any more"
	var found bool
	s.zone, found = u.ZoneOf(r.Name)
	switch {
	case !known(want, r):
		s.Action, s.Why = Leave, "made here; what it should be now is not known; take it out by hand if it is wrong"
	case !found:
		s.Action = ByHand
	}
	return s
}

// known tells whether want says what there should be of a record's kind.
func known(want []Record, r Record) bool {
	switch r.Type {
	case "A", "AAAA", "TLSA", "PTR":
	default:
		return true
	}
	return slices.ContainsFunc(want, func(w Record) bool {
		return w.Type == r.Type && (w.Type != "PTR" || below(w.Name, "ip6.arpa") == below(r.Name, "ip6.arpa"))
	})
}

func holds(list []Record, r Record) bool {
	return slices.ContainsFunc(list, func(o Record) bool { return o.Name == r.Name && o.Type == r.Type && o.Value == r.Value })
}

// step decides about one wanted record.
func (u *Updater) step(ctx context.Context, r Record, want, ours []Record) (Step, error) {
	s := Step{Record: r, Action: Add}
	var found bool
	if s.zone, found = u.ZoneOf(r.Name); !found {
		s.Action = ByHand
		return s, nil
	}
	there, ttl, alone, err := u.there(ctx, s.zone, r)
	if err != nil {
		return s, err
	}
	s.ttl = ttl
	s.first = len(there) == 0
	if holds(there, r) {
		s.Action = Leave
		return s, nil
	}
	if !alone {
		s.Action, s.Found = Blocked, []string{"records of other types, beside which there can be no alias"}
		return s, nil
	}
	if only := slices.DeleteFunc(slices.Clone(there), func(o Record) bool { return purpose(o.Value) != "v=spf1" }); r.Type == "TXT" && len(only) == 1 && !holds(ours, only[0]) && lets(only[0].Value, r.Value) {
		s.Action = Leave // somebody has added others who send for the domain
		return s, nil
	}
	for _, o := range there {
		if holds(ours, o) || !inTheWay(r, o) || holds(want, o) {
			continue
		}
		s.Action = Blocked
		s.Found = append(s.Found, o.Type+" "+o.Value)
	}
	return s, nil
}

// there returns what is at a record's name, of its type or an alias, and whether there is
// nothing else where an alias must be alone (RFC 1034, 3.6.2).
func (u *Updater) there(ctx context.Context, zone Zone, r Record) (all []Record, ttl uint32, alone bool, err error) {
	kind := dns.StringToType[r.Type]
	rrs, err := u.records(ctx, zone, r.Name, kind)
	if err != nil {
		return nil, 0, false, err
	}
	for _, rr := range rrs {
		ttl = rr.Header().Ttl
		all = append(all, plain(r.Name, rr))
	}
	if r.Type != "CNAME" || len(all) > 0 {
		return all, ttl, true, nil
	}
	for _, other := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeMX, dns.TypeNS} {
		if rrs, err = u.records(ctx, zone, r.Name, other); err != nil || len(rrs) > 0 {
			return all, 0, false, err
		}
	}
	return all, 0, true, nil
}

// plain is a record as the DNS has it in the form of Records.
func plain(name string, rr dns.RR) Record {
	r := Record{Name: name, Type: dns.TypeToString[rr.Header().Rrtype]}
	switch rr := rr.(type) {
	case *dns.TXT:
		r.Value = unquoted(strings.Join(rr.Txt, ""))
	case *dns.TLSA:
		r.Value = strings.ToLower(strings.TrimPrefix(rr.String(), rr.Hdr.String()))
	case *dns.MX, *dns.SRV, *dns.CNAME, *dns.PTR:
		r.Value = strings.ToLower(strings.TrimPrefix(rr.String(), rr.Header().String()))
		if !strings.HasSuffix(r.Value, " .") {
			r.Value = strings.TrimSuffix(r.Value, ".")
		}
	default:
		r.Value = strings.TrimPrefix(rr.String(), rr.Header().String())
	}
	return r
}

// unquoted undoes the escapes in which the library keeps texts.
func unquoted(s string) string {
	var b []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		if n, err := strconv.ParseUint(s[i+1:min(i+4, len(s))], 10, 8); err == nil && i+3 < len(s) {
			b = append(b, byte(n))
			i += 3
			continue
		}
		i++
		b = append(b, s[i])
	}
	return string(b)
}

// inTheWay tells whether another record of the name stands in for the wanted one, or would
// be harmful beside it. Where several are several facts (CAA, TLSA, TXT of other ends) it
// does not.
func inTheWay(want, there Record) bool {
	switch {
	case there.Type != want.Type:
		return true // an alias
	case want.Type == "TXT":
		return purpose(want.Value) == purpose(there.Value)
	}
	return want.Type != "CAA" && want.Type != "TLSA"
}

// Apply does what a plan says, zone by zone, and returns the records that are then made
// here. remember is told before each change what may be made by it, so that nothing is
// forgotten whatever happens on the way, and again when it is sure what became of it.
func Apply(ctx context.Context, u *Updater, steps []Step, ours []Record, remember func([]Record) error) ([]Record, error) {
	done := slices.Clone(ours)
	for _, zone := range u.Zones {
		c := Change{ttl: map[[2]string]uint32{}}
		for _, s := range steps {
			if s.zone.Name != zone.Name {
				continue
			}
			switch s.Action {
			case Add:
				c.Add = append(c.Add, s.Record)
				if s.first {
					c.Absent = append(c.Absent, s.Record)
				} else {
					c.ttl[[2]string{s.Name, s.Type}] = s.ttl
				}
			case Remove:
				c.Remove = append(c.Remove, s.Record)
			}
		}
		if len(c.Add)+len(c.Remove) == 0 {
			continue
		}
		if zone.Broken != nil {
			return done, zone.Broken
		}
		for _, r := range c.Add {
			if !holds(done, r) {
				done = append(done, r)
			}
		}
		if err := remember(done); err != nil {
			return done, err
		}
		if err := u.Send(ctx, zone, c); errors.Is(err, errUntouched) {
			// What was not made is not ours: somebody may make the same by hand, to stay.
			done = slices.DeleteFunc(done, func(r Record) bool { return holds(c.Add, r) })
			return done, errors.Join(err, remember(done))
		} else if err != nil {
			return done, err
		}
		done = slices.DeleteFunc(done, func(r Record) bool { return holds(c.Remove, r) && !holds(c.Add, r) })
		if err := remember(done); err != nil {
			return done, err
		}
	}
	return done, nil
}

// Check asks the servers whether what a plan was to add is there. A server may leave out what
// does not go together (RFC 2136, 3.4.2.2) without a word. Faults: Unavailable.
func Check(ctx context.Context, u *Updater, steps []Step) error {
	for _, s := range steps {
		if s.Action != Add {
			continue
		}
		there, _, _, err := u.there(ctx, s.zone, s.Record)
		if err != nil {
			return err
		}
		if !holds(there, s.Record) {
			return fault.Newf(fault.Unavailable, "%s took the change, but %s %s is not there; look at the zone %s", s.zone.Server, s.Name, s.Type, s.zone.Name)
		}
	}
	return nil
}
