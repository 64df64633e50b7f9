package queue

import (
	"strings"
	"time"
)

// pace is how fast a destination is served just now. Its window, the attempts at a time,
// follows the answers: it grows by one with each success until the first trouble, then by
// one for each window of successes, and halves when the other side has trouble, once for
// all the attempts that were under way together. It lives in memory: after a restart every
// destination is tried gently again.
type pace struct {
	active int     // attempts under way
	begun  int     // attempts that were begun
	window float64 // of them that it takes
	steady bool    // there has been trouble
	well   int     // attempts since then that went well
	epoch  int     // counts the times that the window shrank
	next   int64   // time before which its rate lets nothing go; 0: none
}

// Bounds of paces.
const (
	firstWindow = 5
	// Destinations from which on those are forgotten that need not be remembered. There are more
	// of them where a rate for everybody holds up as many as were served in the last minute.
	maxPaces    = 10_000
	forgetEvery = time.Second // at most: it is a look at all of them
)

// pace returns that of a destination. q.mu is held.
func (q *Queue) pace(dest string, now int64) *pace {
	p := q.paces[dest]
	if p == nil {
		if len(q.paces) >= maxPaces && (now < q.forgot || now-q.forgot >= forgetEvery.Milliseconds()) {
			q.forgetPaces(now)
		}
		p = &pace{window: firstWindow}
		q.paces[dest] = p
	}
	return p
}

// forgetPaces makes room: those of which nothing is under way go, but for what a rate
// still holds up.
func (q *Queue) forgetPaces(now int64) {
	q.forgot = now
	for name, p := range q.paces {
		if p.active == 0 && p.next <= now {
			delete(q.paces, name)
		}
	}
}

// room is how many more attempts a destination takes. q.mu is held.
func (q *Queue) room(dest string, now int64) int {
	r := q.rules(dest)
	most := r.PerDomain
	if p := q.paces[dest]; p != nil {
		if p.next > now {
			return 0
		}
		most = min(most, int(p.window)) - p.active
	} else {
		most = min(most, firstWindow)
	}
	if r.PerMinute > 0 { // one at a time is spaced out
		most = min(most, 1)
	}
	return most
}

// spend notes that an attempt for a destination begins. q.mu is held.
func (q *Queue) spend(dest string, now int64) (epoch int) {
	p := q.pace(dest, now)
	p.active++
	p.begun++
	if r := q.rules(dest); r.PerMinute > 0 {
		p.next = max(p.next, now) + time.Minute.Milliseconds()/int64(r.PerMinute)
	}
	return p.epoch
}

// learn adapts the pace of a destination to what came of an attempt, and tells whether it
// is to be left alone for a while.
func (q *Queue) learn(k pick, results []Result) (down bool) {
	if k.load != nil && ofMessage(k.load.m, results) {
		return false
	}
	unreached, strained := len(results) > 0, false
	for _, r := range results {
		unreached = unreached && r.Code/100 == 4 && r.Host == ""
		strained = strained || strains(r)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.paces[destOf(k.lane)]
	if p == nil {
		return unreached
	}
	switch most := float64(q.rules(k.lane).PerDomain); {
	case k.epoch != p.epoch: // it speaks of a time before
		return unreached
	case unreached || strained:
		down = unreached || p.window < 2
		p.window, p.steady = max(1, min(p.window, most)/2), true
		p.epoch, p.well = p.epoch+1, 0
	case p.steady:
		p.window, p.well = min(most, p.window+1/p.window), p.well+1
	default:
		p.window, p.well = min(most, p.window+1), p.well+1
	}
	return down
}

// ofMessage tells whether an attempt failed for what the message asks for or is, which says
// nothing of others for the same destination: some host lacks REQUIRETLS or DELIVERBY or is not
// safe enough for this sender, or the message cannot be read here.
func ofMessage(m *message, results []Result) bool {
	for _, r := range results {
		about := r.Enhanced == "4.3.0" ||
			r.Enhanced == "4.3.3" && m.returns() ||
			strings.HasPrefix(r.Enhanced, "4.7.") && m.env.RequireTLS
		if r.Code/100 != 4 || r.Host != "" || !about {
			return false
		}
	}
	return len(results) > 0
}

// strains tells whether an answer asks for less at a time: the connection was refused or
// cut, or the host says that it is too much or too fast.
func strains(r Result) bool {
	if r.Code/100 != 4 {
		return false
	}
	if r.Code == 421 || r.Enhanced == "4.7.28" || r.Enhanced == "4.3.2" || r.Enhanced == "4.4.5" {
		return true
	}
	text := strings.ToLower(r.Text)
	for _, words := range [...]string{"too many connections", "too many concurrent", "rate limit", "ratelimit", "throttl", "too fast", "too much mail"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}
