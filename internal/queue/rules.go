package queue

import "time"

// Rules are what holds for mail to a domain.
type Rules struct {
	Gaps      []time.Duration // between attempts, the last one repeated; nil: Options.Gaps
	Lifetime  time.Duration   // until mail is given up; 0: Options.Lifetime
	PerDomain int             // attempts at a time at most; 0: Options.PerDomain
	PerMinute int             // attempts begun in a minute at most; 0: any number
	Hold      bool            // nothing is tried until this ends
}

// rules returns what holds for a lane or destination, filled in.
func (q *Queue) rules(lane string) Rules {
	var r Rules
	if q.opt.Rules != nil && lane[0] == "rl"[Remote] {
		r = q.opt.Rules(domainOf(lane))
	}
	if len(r.Gaps) == 0 {
		r.Gaps = q.opt.Gaps
	}
	if r.Lifetime <= 0 {
		r.Lifetime = q.opt.Lifetime
	}
	if r.PerDomain <= 0 {
		r.PerDomain = q.opt.PerDomain
	}
	for {
		was := q.longest.Load()
		if int64(r.Lifetime) <= was || q.longest.CompareAndSwap(was, int64(r.Lifetime)) {
			return r
		}
	}
}

func (r Rules) gapAfter(n int) time.Duration { return r.Gaps[min(max(n, 1), len(r.Gaps))-1] }

// longestRules are those of the domain of an entry whose mail waits longest: a message has
// one lifetime.
func (q *Queue) longestRules(e Entry) (longest Rules) {
	if e.Road == Local || q.opt.Rules == nil {
		return q.rules("l")
	}
	last := ""
	for _, to := range e.Envelope.To {
		if to.Address.Domain == last && longest.Lifetime != 0 {
			continue
		}
		last = to.Address.Domain
		if r := q.rules(destinationOf(e.Road, last)); r.Lifetime > longest.Lifetime {
			longest = r
		}
	}
	return longest
}
