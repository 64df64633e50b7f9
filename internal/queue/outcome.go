package queue

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/trace"
)

// record writes what came of an attempt: each recipient's state, the group's next
// attempt, the destination's pause, the reports that are owed. stopped tells that the
// attempt was cut short by us; what it left open then waits as before.
func (q *Queue) record(ctx context.Context, p pick, results []Result, down, stopped bool) error {
	e := &ending{pick: p, results: results, down: down, stopped: stopped, now: q.now(), chance: q.opt.Rand()}
	err := q.outcomes.do(ctx, 1000+300*len(results), func(t tx) error { return e.put(t, q.duty(ctx)) })
	q.keep(e.story, err)
	if err == nil && e.message != nil {
		q.logOutcome(e.message, p, results, e.cut)
	}
	return err
}

// ending is an attempt that is over, on its way into the records.
type ending struct {
	pick
	results []Result
	down    bool // no host of the destination takes anything
	stopped bool // it was cut short by us
	now     int64
	chance  float64 // for jitter

	late    bool         // somebody else has the part now
	message *message     // nil: nothing is recorded
	story   *trace.Event // nil: there is no message
	changed map[int]*recipient
	cut     int // results that do not count
}

// put writes the ending. It may run more than once.
func (e *ending) put(t tx, d *duty) error {
	e.message, e.story, e.changed, e.cut = nil, nil, map[int]*recipient{}, 0
	m, ok, err := t.message(e.id)
	if err != nil || !ok {
		return err // dropped meanwhile
	}
	if e.late, err = d.late(t); err != nil {
		return err
	}
	story := attempted(e.id, m)
	e.story = &story
	g, err := t.look().group(e.id, e.group)
	if err != nil {
		return err
	}
	old := *g
	if err := e.conclude(t, m, g); err != nil {
		return err
	}
	if e.late && len(e.changed) == 0 {
		return nil
	}
	if !e.late {
		e.next(t, m, g)
	}
	e.message = m
	if m.open == 0 && m.owed == 0 {
		return t.removeGroup(m, e.group, &old)
	}
	return t.putOutcome(m, e.group, &old, g, e.changed, e.now)
}

// conclude gives those who wait their results.
func (e *ending) conclude(t tx, m *message, g *group) error {
	for i, n := range e.load.who {
		r, err := t.look().recipient(e.id, n)
		if err != nil {
			return err
		}
		if r.state != waiting {
			continue
		}
		if !e.counts(e.results[i]) {
			e.cut++
			continue
		}
		m.apply(r, g, e.results[i], e.now)
		if err := t.noteBounced(m, r, e.now); err != nil {
			return err
		}
		e.story.To = append(e.story.To, outcome(r))
		e.changed[n] = r
	}
	return nil
}

// counts tells whether a result goes on record. What a host may have taken was an attempt: a
// restart must not send it at once. If this node is late, who has the message is a fact, and
// the rest another's affair.
func (e *ending) counts(r Result) bool {
	if e.stopped && r.Code/100 == 4 && r.Host == "" && !r.Unsure {
		return false
	}
	return !e.late || r.Code/100 == 2
}

// next says when the group comes up again, and what its lane and its destination have learnt.
func (e *ending) next(t tx, m *message, g *group) {
	t.b.lane(e.lane).served = true
	if e.cut == len(e.results) {
		return
	}
	q := t.b.q
	g.attempts, g.at = g.attempts+1, e.now
	g.next = e.now + q.jittered(q.rules(e.lane).gapAfter(g.attempts), e.chance)
	g.reason = reasonOf(e.results)
	nextIn(e.story, g)
	if m.road == Remote && !ofMessage(m, e.results) {
		t.b.dest(destOf(e.lane)).change(pause(e.down, e.results, e.now, e.chance))
	}
}

// putOutcome writes back what an attempt has changed.
func (t tx) putOutcome(m *message, n int, old, g *group, changed map[int]*recipient, now int64) error {
	for _, n := range sortedKeys(changed) {
		if err := t.putRecipient(m.id, n, changed[n]); err != nil {
			return err
		}
	}
	if err := t.relist(m, n, old.waiting > 0 && m.heldAt == 0, old, g); err != nil {
		return err
	}
	return t.finish(m, now)
}

// settled records the fate of some recipients of an attempt that goes on. If that
// fails they are recorded at its end.
func (q *Queue) settled(ctx context.Context, p pick, who, some []int, res Result) {
	if res.Code/100 != 2 && res.Code/100 != 5 {
		return
	}
	now := q.now()
	c, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var story *trace.Event
	err := q.outcomes.do(c, 1000+300*len(some), func(t tx) error {
		story = nil
		m, ok, err := t.message(p.id)
		if err != nil || !ok {
			return err
		}
		if late, err := q.duty(ctx).late(t); err != nil || late && res.Code/100 != 2 {
			return err
		}
		told := attempted(p.id, m)
		story = &told
		closed, err := t.giveAll(m, p, who, some, res, now, story)
		if err != nil {
			return err
		}
		if err := t.closeGroups(m, closed); err != nil {
			return err
		}
		return t.finish(m, now)
	})
	q.keep(story, err)
	if err != nil {
		q.opt.Log.Error("an outcome cannot be recorded yet", "queue_id", p.id.String(), "error", err)
	}
}

// giveAll gives those of some recipients that wait one result, and returns how many these are,
// by group.
func (t tx) giveAll(m *message, p pick, who, some []int, res Result, now int64, story *trace.Event) (closed map[int]int, err error) {
	closed = map[int]int{}
	for _, i := range some {
		if i < 0 || i >= len(who) {
			continue
		}
		r, err := t.look().recipient(p.id, who[i])
		if err != nil {
			return nil, err
		}
		if r.state != waiting {
			continue
		}
		m.apply(r, &group{}, res, now) // closeGroups counts the group's
		if err := t.noteBounced(m, r, now); err != nil {
			return nil, err
		}
		story.To = append(story.To, outcome(r))
		closed[p.group]++
		if err := t.putRecipient(p.id, who[i], r); err != nil {
			return nil, err
		}
	}
	return closed, nil
}

// apply gives a recipient that waits its result.
func (m *message) apply(r *recipient, g *group, res Result, now int64) {
	if res.Code < 200 || res.Code > 599 || res.Code/100 == 3 {
		res = Result{Code: 451, Enhanced: "4.3.0", Text: "the attempt was not finished"}
	}
	r.result, r.at = res, now
	switch res.Code / 100 {
	case 2:
		r.state = delivered
		if m.relays(r, res, now) {
			m.oweAll(r, owedSuccess)
		} else if !res.DSN {
			m.owe(r, owedSuccess)
		}
	case 5:
		r.state = failed
		m.owe(r, owedFailure)
	default:
		// Before its alarm has rung, whatever the clock says: it may be wrong.
		if now < m.expires || m.expiryAt == 0 || m.expiryAt == m.expires {
			return
		}
		m.expire(r)
	}
	m.open--
	g.waiting--
}

// relist writes a group back and moves it in its lane.
func (t tx) relist(m *message, n int, listed bool, old, g *group) error {
	lists := g.waiting > 0 && m.heldAt == 0
	if listed && (!lists || old.next != g.next || old.lane != g.lane) {
		if err := t.unlist(m.id, n, old); err != nil {
			return err
		}
		listed = false
	}
	if lists && !listed {
		if err := t.list(m.id, n, g); err != nil {
			return err
		}
	}
	return t.putGroup(m.id, n, g)
}

// longestPause is that of a destination whose hosts have been down for a while.
const longestPause = 10 * time.Minute

// pause returns what an attempt means for its destination: if no host of it takes
// anything just now, the others that wait for it need not find out one by one. Pauses
// grow from a minute to ten.
func pause(down bool, results []Result, now int64, jitter float64) func(*lane) {
	return func(l *lane) {
		switch {
		case !down:
			resume(l)
		case now >= l.notBefore:
			l.fails = min(l.fails+1, 10)
			wait := min(time.Minute<<(l.fails-1), longestPause)
			l.notBefore = now + int64(float64(wait.Milliseconds())*(0.9+0.2*jitter))
			l.reason = sentence(results[0])
		}
	}
}

func (q *Queue) logOutcome(m *message, p pick, results []Result, cut int) {
	for i, r := range results {
		if i == 10 { // the records have them all
			break
		}
		q.opt.Log.Info("attempt", "queue_id", p.id.String(), "domain", domainOf(p.lane), "code", r.Code,
			"enhanced", r.Enhanced, "host", r.Host, "text", r.Text, "tls", r.TLS, "cipher", r.Line.Cipher, "tls_failure", string(r.Line.Failure), "cut_short", cut > 0, "open", m.open)
	}
}
