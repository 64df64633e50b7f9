package queue

import (
	"context"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/trace"
)

// A look walks over what was deleted at the head of the queue lately, which after a
// rush can be tens of thousands of keys: so looks keep these distances, and one that
// follows a rest comes at once.
const (
	dispatchRest = 5 * time.Millisecond
	ringRest     = 100 * time.Millisecond
)

// maxSleep bounds how long Run sleeps without looking, so that a clock that is set
// cannot leave mail lying.
const maxSleep = time.Minute

// Run sends what is due until ctx ends; then it gives attempts under way the grace
// time, and returns when the last one is recorded. Failures of the engine are
// logged, and Run goes on. It works on this node's own part, which nobody else may do.
func (q *Queue) Run(ctx context.Context) { q.run(ctx) }

func (q *Queue) run(ctx context.Context) {
	ticks, stop := q.eng.Watch(q.shard)
	defer stop()
	alarms := make(chan struct{}, 1)
	alarmsDone := make(chan struct{})
	go func() {
		defer close(alarmsDone)
		q.loop(ctx, ringRest, alarms, nil, q.ring)
	}()
	pass := make(chan struct{}, 1)
	go func() { // one tick of the engine wakes both loops
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks:
			}
			for _, c := range []chan struct{}{pass, alarms} {
				select {
				case c <- struct{}{}:
				default:
				}
			}
		}
	}()
	q.loop(ctx, dispatchRest, pass, q.freed, q.dispatch)
	<-alarmsDone
	q.jobs.Wait()
}

// loop calls step whenever something may have become due, but not within rest of the
// last time. step returns when something will next be due, in milliseconds; 0 is
// unknown.
func (q *Queue) loop(ctx context.Context, rest time.Duration, a, b <-chan struct{}, step func(context.Context) (int64, error)) {
	for ctx.Err() == nil {
		sleep := maxSleep
		next, err := step(ctx)
		if err != nil {
			if ctx.Err() == nil && !fault.Is(err, fault.Busy) { // then the lease ends in a moment
				q.opt.Log.Error("the queue cannot be read", "error", err)
			}
			sleep = time.Second
		} else if next != 0 {
			sleep = min(maxSleep, max(0, time.Duration(next-q.now())*time.Millisecond))
		}
		pause := time.NewTimer(rest)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
		timer := time.NewTimer(max(0, sleep-rest))
		select {
		case <-ctx.Done():
		case <-a:
		case <-b:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// attempt makes one attempt for a group and records what came of it.
func (q *Queue) attempt(ctx context.Context, p pick) {
	if !q.duty(ctx).may() {
		return
	}
	if p.load == nil {
		p.load = q.loadAlone(ctx, p.flight)
	}
	l := p.load
	if l.err != nil {
		q.opt.Log.Error("a queued message cannot be read", "queue_id", p.id.String(), "error", l.err)
		q.postpone(ctx, p)
		return
	}
	if len(l.who) == 0 { // dropped, held or done meanwhile
		q.insist(ctx, p, func(c context.Context) error { return q.clear(c, p) })
		return
	}
	jobCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(q.opt.Grace, cancel) })
	defer stop()
	courier := q.opt.Remote
	if l.m.road == Local {
		courier = q.opt.Local
	}
	q.intime(ctx, l)
	l.job.Settled = func(some []int, r Result) { q.settled(ctx, p, l.who, some, r) }
	var results []Result
	if l.late {
		results = slices.Repeat([]Result{late}, len(l.who))
	} else {
		results = courier.Deliver(jobCtx, l.job)
	}
	if len(results) != len(l.who) {
		q.opt.Log.Error("a courier gave the wrong number of results", "queue_id", p.id.String(), "want", len(l.who), "got", len(results))
		results = make([]Result, len(l.who))
	}
	cut := jobCtx.Err() != nil || l.withheld != nil && l.withheld.Load()
	down := false
	if l.m.road == Remote && !cut && !l.late { // what is wrong with one mailbox here says nothing of others
		down = q.learn(p, results)
	}
	q.insist(ctx, p, func(c context.Context) error { return q.record(c, p, results, down, cut) })
}

// intime lets nobody have the end of a job's message once another node may send it.
func (q *Queue) intime(ctx context.Context, l *loaded) {
	d, job := q.duty(ctx), &l.job
	if d == nil {
		return
	}
	open, parcel := job.Message.Open, job.Parcel
	l.withheld = new(atomic.Bool)
	job.Message.Open = func(ctx context.Context) (io.ReadCloser, error) {
		r, err := open(ctx)
		if err != nil {
			return nil, err
		}
		return &timely{r, ctx, d, job.Message.Size, l.withheld}, nil
	}
	job.Parcel = func(ctx context.Context) (*store.Parcel, error) {
		p, err := parcel(ctx)
		if err == nil && !d.t.End() {
			l.withheld.Store(true)
			err = errLate()
		}
		return p, err
	}
}

// loaded is a group that is read for an attempt.
type loaded struct {
	m      *message
	job    Job
	who    []int  // indices of its recipients that wait
	parcel []byte // nil: to be read when it is wanted
	late   bool   // its deadline is past, and it goes back

	withheld *atomic.Bool // its end was kept back, as it may be another node's
	err      error
}

// maxCarried is the size of a parcel that a look brings along.
const maxCarried = 32 << 10

// loadAlone reads a group in a look of its own.
func (q *Queue) loadAlone(ctx context.Context, f flight) (l *loaded) {
	now := q.now()
	err := q.eng.View(ctx, q.shard, func(r engine.Reader) error { l = q.load(look{r}, f, now); return nil })
	if err != nil {
		return &loaded{err: err}
	}
	return l
}

// load makes the job of a group.
func (q *Queue) load(l look, f flight, now int64) *loaded {
	m, ok, err := l.message(f.id)
	if err != nil || !ok || m.heldAt != 0 {
		return &loaded{err: err}
	}
	g, err := l.group(f.id, f.group)
	if err != nil || g.next > now { // chosen from a look that was older than its last attempt
		return &loaded{err: err}
	}
	out := &loaded{m: m, job: Job{ID: f.id, Attempt: g.attempts + 1, Envelope: m.env}}
	out.late = m.returns() && now >= m.deadline()
	out.err = l.eachRecipient(m, func(n int, r *recipient) {
		if r.group == f.group && r.state == waiting {
			out.who = append(out.who, n)
			out.job.Envelope.To = append(out.job.Envelope.To, r.Recipient)
		}
	})
	if m.env.VERP && len(out.job.Envelope.To) == 1 {
		// This is done once: mail that waits here for its release is queued anew after that.
		out.job.Envelope.From = verp(m.env.From, out.job.Envelope.To[0].Address)
		out.job.Envelope.VERP = false
	}
	if out.err == nil && m.pieces == 1 && m.size <= maxCarried {
		out.parcel, out.err = l.parcel(m)
	}
	out.job.Message = Message{Size: m.size, Has8Bit: m.has8Bit, NeedsUTF8: m.needsUTF8,
		Open: func(ctx context.Context) (io.ReadCloser, error) { return q.open(ctx, out) }}
	out.job.Parcel = func(ctx context.Context) (*store.Parcel, error) { return q.parcel(ctx, m) }
	return out
}

// eachRecipient reads all recipients of a message.
func (l look) eachRecipient(m *message, fn func(n int, r *recipient)) error {
	prefix := engine.Key(famRecipient, uint64(m.id))
	var bad error
	err := l.Scan(prefix, engine.After(prefix), false, func(k, v []byte) bool {
		var r *recipient
		if r, bad = decodeRecipient(v); bad == nil {
			fn(int(engine.Num(k, 1)), r)
		}
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	return err
}

// parcel reads the message back.
func (q *Queue) parcel(ctx context.Context, m *message) (*store.Parcel, error) {
	var record []byte
	err := q.eng.View(ctx, q.shard, func(r engine.Reader) (err error) {
		record, err = look{r}.parcel(m)
		return err
	})
	if err != nil {
		return nil, err
	}
	return q.store.DecodeParcel(ctx, record)
}

// open reads the message as it is sent.
func (q *Queue) open(ctx context.Context, l *loaded) (io.ReadCloser, error) {
	record := l.parcel
	if record == nil {
		err := q.eng.View(ctx, q.shard, func(r engine.Reader) (err error) {
			record, err = look{r}.parcel(l.m)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return q.store.OpenParcel(ctx, record)
}

// insist repeats a record until it is made. The outcome of an attempt must not be
// lost to a hitch of the engine: the mail would be sent again. While it is not
// recorded the group counts as under way. It gives up when the queue has stopped, or somebody
// else has it.
func (q *Queue) insist(ctx context.Context, p pick, fn func(context.Context) error) {
	pause := 100 * time.Millisecond
	life := ctx
	if d := q.duty(ctx); d != nil {
		life = d.life
	}
	for {
		c, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		err := fn(c)
		cancel()
		if err == nil {
			return
		}
		q.opt.Log.Error("the outcome of an attempt cannot be recorded", "queue_id", p.id.String(), "error", err)
		if fault.Is(err, fault.Closed) || fault.Is(err, fault.Busy) || life.Err() != nil {
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-life.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, time.Minute)
	}
}

// record writes what came of an attempt: each recipient's state, the group's next
// attempt, the destination's pause, the reports that are owed. stopped tells that the
// attempt was cut short by us; what it left open then waits as before.
func (q *Queue) record(ctx context.Context, p pick, results []Result, down, stopped bool) error {
	now, wait := q.now(), q.opt.Rand()
	var after *message
	var story *trace.Event
	cut := 0
	err := q.outcomes.do(ctx, 1000+300*len(results), func(t tx) error {
		after, story, cut = nil, nil, 0
		m, ok, err := t.message(p.id)
		if err != nil || !ok {
			return err // dropped meanwhile
		}
		late, err := q.duty(ctx).late(t)
		if err != nil {
			return err
		}
		told := attempted(p.id, m)
		story = &told
		g, err := t.look().group(p.id, p.group)
		if err != nil {
			return err
		}
		old := *g
		changed := map[int]*recipient{}
		for i, n := range p.load.who {
			r, err := t.look().recipient(p.id, n)
			if err != nil {
				return err
			}
			if r.state != waiting {
				continue
			}
			// What a host may have taken was an attempt: a restart must not send it at once.
			if stopped && results[i].Code/100 == 4 && results[i].Host == "" && !results[i].Unsure {
				cut++
				continue
			}
			if late && results[i].Code/100 != 2 { // who has it is a fact, the rest another's affair
				cut++
				continue
			}
			m.apply(r, g, results[i], now)
			if err := t.noteBounced(m, r, now); err != nil {
				return err
			}
			story.To = append(story.To, outcome(r))
			changed[n] = r
		}
		if late && len(changed) == 0 {
			return nil
		}
		if cut < len(results) && !late {
			g.attempts, g.at = g.attempts+1, now
			g.next = now + q.jittered(q.rules(p.lane).gapAfter(g.attempts), wait)
			g.reason = reasonOf(results)
			nextIn(story, g)
		}
		if !late {
			t.b.lane(p.lane).served = true
		}
		if m.road == Remote && cut < len(results) && !late && !ofMessage(m, results) {
			t.b.dest(destOf(p.lane)).change(pause(down, results, now, wait))
		}
		after = m
		if m.open == 0 && m.owed == 0 {
			return t.removeGroup(m, p.group, &old)
		}
		return t.putOutcome(m, p.group, &old, g, changed, now)
	})
	q.keep(story, err)
	if err == nil && after != nil {
		q.logOutcome(after, p, results, cut)
	}
	return err
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
		closed := map[int]int{}
		for _, i := range some {
			if i < 0 || i >= len(who) {
				continue
			}
			r, err := t.look().recipient(p.id, who[i])
			if err != nil {
				return err
			}
			if r.state != waiting {
				continue
			}
			m.apply(r, &group{}, res, now) // closeGroups counts the group's
			if err := t.noteBounced(m, r, now); err != nil {
				return err
			}
			story.To = append(story.To, outcome(r))
			closed[p.group]++
			if err := t.putRecipient(p.id, who[i], r); err != nil {
				return err
			}
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

// expire makes a recipient that has waited for too long a failed one. What the last
// attempt said stays: it is the reason.
func (m *message) expire(r *recipient) {
	r.state = failed
	m.owe(r, owedFailure)
}

// owe notes that the sender is to be told, if he wants to know and there is one
// (RFC 3461, 4.1 and 6.2; RFC 5321, 6.1).
func (m *message) owe(r *recipient, what uint8) {
	want := false
	switch {
	case m.env.From.IsZero() || r.Notify&mail.NotifyNever != 0:
	case what == owedFailure:
		want = r.Notify == mail.NotifyDefault || r.Notify&mail.NotifyFailure != 0
	case what == owedDelay:
		want = r.Notify == mail.NotifyDefault || r.Notify&mail.NotifyDelay != 0
	case what == owedSuccess:
		want = r.Notify&mail.NotifySuccess != 0
	}
	m.note(r, what, want)
}

// oweAll notes that the sender is to be told, whether or not he asked for it.
func (m *message) oweAll(r *recipient, what uint8) { m.note(r, what, true) }

func (m *message) note(r *recipient, what uint8, want bool) {
	if what != owedDelay && r.owed != 0 { // it is too late to speak of a delay
		r.owed = 0
		m.owed--
	}
	if want && r.owed == 0 {
		r.owed = what
		m.owed++
	}
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

// postpone lets a group that cannot be read wait, so that it does not come up again
// at once.
func (q *Queue) postpone(ctx context.Context, p pick) {
	now := q.now()
	q.insist(ctx, p, func(c context.Context) error {
		return q.update(c, func(t tx) error {
			g, err := t.look().group(p.id, p.group)
			if err != nil { // not even that: it leaves the lane, and verify tells of it
				return t.purge(p)
			}
			next := *g
			next.next = now + q.gap(1)
			t.b.lane(p.lane).served = true
			return t.relist(&message{id: p.id}, p.group, true, g, &next)
		})
	})
}

// clear takes a group out of its lane if nobody in it waits: it would come up again
// and again.
func (q *Queue) clear(ctx context.Context, p pick) error {
	return q.update(ctx, func(t tx) error {
		m, ok, err := t.message(p.id)
		if err != nil {
			return err
		}
		any := false
		if ok {
			if m.heldAt != 0 {
				return nil
			}
			err = t.look().eachRecipient(m, func(_ int, r *recipient) {
				any = any || r.group == p.group && r.state == waiting
			})
		}
		if err != nil || any {
			return err
		}
		return t.purge(p)
	})
}

// purge removes a broken group from its lane, wherever it stands.
func (t tx) purge(p pick) error {
	var keys [][]byte
	prefix := lanePrefix(p.lane)
	err := t.Scan(prefix, engine.After(prefix), false, func(k, _ []byte) bool {
		if _, _, id, n := splitWaiting(k); id == p.id && n == p.group {
			keys = append(keys, append([]byte(nil), k...))
		}
		return len(keys) == 0
	})
	for _, k := range keys {
		if err == nil {
			err = t.Delete(k)
		}
	}
	t.b.lane(p.lane).removed = true
	return err
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
