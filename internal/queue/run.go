package queue

import (
	"context"
	"io"
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
// logged, and Run goes on.
func (q *Queue) Run(ctx context.Context) {
	ticks, stop := q.eng.Watch(shard)
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
			if ctx.Err() == nil {
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

// pick is a group that is due.
type pick struct {
	flight
	lane string
}

// dispatch starts attempts for what is due, as far as the limits allow, and returns
// when more will be due.
func (q *Queue) dispatch(ctx context.Context) (next int64, err error) {
	for {
		picks, next, err := q.due(ctx)
		if err != nil || len(picks) == 0 {
			return next, err
		}
		for _, p := range picks {
			q.jobs.Go(func() {
				defer q.land(p)
				q.attempt(ctx, p)
			})
		}
	}
}

// due chooses groups and marks them as under way. It reads past at most the lanes
// and groups that are under way, and so never more than a few hundred keys.
func (q *Queue) due(ctx context.Context) (picks []pick, next int64, err error) {
	now := q.now()
	err = q.eng.View(ctx, shard, func(r engine.Reader) error {
		picks = nil
		l := look{r}
		names, n, err := q.dueLanes(l, now)
		if err != nil {
			return err
		}
		next = n
		for _, name := range names {
			found, err := q.dueIn(l, name, now, len(picks))
			if err != nil {
				return err
			}
			picks = append(picks, found...)
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	free := q.opt.Workers - len(q.flying)
	if len(picks) > free {
		picks = picks[:max(free, 0)]
	}
	for _, p := range picks {
		q.flying[p.flight] = true
		q.active[p.lane]++
	}
	return picks, next, nil
}

// dueLanes returns the lanes that are due and below their limit, oldest first, as
// many as there are workers free, and the time at which the next one is due.
func (q *Queue) dueLanes(l look, now int64) (names []string, next int64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	free := q.opt.Workers - len(q.flying)
	if free <= 0 {
		return nil, 0, nil // an attempt that ends makes us look again
	}
	// A lane may be due for nothing but what is under way or arriving already.
	enough := free + len(q.active) + len(q.arriving)
	err = l.Scan([]byte{famDue}, []byte{famDue + 1}, false, func(k, _ []byte) bool {
		at, name := int64(engine.Num(k, 0)), string(k[9:])
		if at > now {
			next = at
			return false
		}
		if q.active[name] < q.opt.PerDomain {
			names = append(names, name)
		}
		return len(names) < enough
	})
	return names, next, err
}

// dueIn returns groups of a lane that are due, up to its limit. A lane whose hosts
// were down gets one attempt at a time, to see; and so does every lane once half of
// the workers are busy, so that a few slow domains cannot take them all. chosen is
// how many groups of other lanes are about to start.
func (q *Queue) dueIn(l look, name string, now int64, chosen int) (picks []pick, err error) {
	limit := q.opt.PerDomain
	if rec, ok, err := l.lane(name); err != nil {
		return nil, err
	} else if ok && rec.fails > 0 {
		limit = 1
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.flying)+chosen >= q.opt.Workers/2 {
		limit = 1
	}
	room := limit - q.active[name]
	if room <= 0 {
		return nil, nil
	}
	prefix := lanePrefix(name)
	err = l.Scan(prefix, engine.After(prefix), false, func(k, _ []byte) bool {
		_, at, id, n := splitWaiting(k)
		if at > now {
			return false
		}
		f := flight{id, n}
		if !q.flying[f] && !q.arriving[id] {
			picks = append(picks, pick{f, name})
		}
		return len(picks) < room
	})
	return picks, err
}

// land marks the end of an attempt.
func (q *Queue) land(p pick) {
	q.mu.Lock()
	delete(q.flying, p.flight)
	if q.active[p.lane]--; q.active[p.lane] == 0 {
		delete(q.active, p.lane)
	}
	q.mu.Unlock()
	q.tick()
}

// attempt makes one attempt for a group and records what came of it.
func (q *Queue) attempt(ctx context.Context, p pick) {
	job, who, road, err := q.load(ctx, p.flight)
	if err != nil {
		q.opt.Log.Error("a queued message cannot be read", "queue_id", p.id.String(), "error", err)
		q.postpone(ctx, p)
		return
	}
	if len(who) == 0 { // dropped, held or done meanwhile
		q.insist(ctx, p, func(c context.Context) error { return q.clear(c, p) })
		return
	}
	jobCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(q.opt.Grace, cancel) })
	defer stop()
	courier := q.opt.Remote
	if road == Local {
		courier = q.opt.Local
	}
	job.Settled = func(some []int, r Result) { q.settled(ctx, p, who, some, r) }
	results := courier.Deliver(jobCtx, job)
	if len(results) != len(who) {
		q.opt.Log.Error("a courier gave the wrong number of results", "queue_id", p.id.String(), "want", len(who), "got", len(results))
		results = make([]Result, len(who))
	}
	q.insist(ctx, p, func(c context.Context) error {
		return q.record(c, p, who, results, jobCtx.Err() != nil)
	})
}

// load makes the job of a group. who are the indices of its recipients that wait.
func (q *Queue) load(ctx context.Context, f flight) (job Job, who []int, road Road, err error) {
	var m *message
	now := q.now()
	err = q.eng.View(ctx, shard, func(r engine.Reader) error {
		l := look{r}
		who = nil
		var ok bool
		if m, ok, err = l.message(f.id); err != nil || !ok || m.heldAt != 0 {
			return err
		}
		g, err := l.group(f.id, f.group)
		if err != nil {
			return err
		}
		if g.next > now {
			return nil // chosen from a look that was older than its last attempt
		}
		job = Job{ID: f.id, Attempt: g.attempts + 1, Envelope: m.env}
		return l.eachRecipient(m, func(n int, r *recipient) {
			if r.group == f.group && r.state == waiting {
				who = append(who, n)
				job.Envelope.To = append(job.Envelope.To, r.Recipient)
			}
		})
	})
	if err != nil || len(who) == 0 {
		return job, nil, 0, err
	}
	job.Message = Message{Size: m.size, Has8Bit: m.has8Bit, NeedsUTF8: m.needsUTF8,
		Open: func(ctx context.Context) (io.ReadCloser, error) { return q.open(ctx, m) }}
	job.Parcel = func(ctx context.Context) (*store.Parcel, error) { return q.parcel(ctx, m) }
	return job, who, m.road, nil
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
	err := q.eng.View(ctx, shard, func(r engine.Reader) (err error) {
		record, err = look{r}.parcel(m)
		return err
	})
	if err != nil {
		return nil, err
	}
	return q.store.DecodeParcel(ctx, record)
}

func (q *Queue) open(ctx context.Context, m *message) (io.ReadCloser, error) {
	p, err := q.parcel(ctx, m)
	if err != nil {
		return nil, err
	}
	return p.Open(ctx, 0, -1)
}

// insist repeats a record until it is made. The outcome of an attempt must not be
// lost to a hitch of the engine: the mail would be sent again. While it is not
// recorded the group counts as under way. It gives up when the queue has stopped.
func (q *Queue) insist(ctx context.Context, p pick, fn func(context.Context) error) {
	pause := 100 * time.Millisecond
	for {
		c, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		err := fn(c)
		cancel()
		if err == nil {
			return
		}
		q.opt.Log.Error("the outcome of an attempt cannot be recorded", "queue_id", p.id.String(), "error", err)
		if fault.Is(err, fault.Closed) || ctx.Err() != nil {
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, time.Minute)
	}
}

// record writes what came of an attempt: each recipient's state, the group's next
// attempt, the lane's pause, the reports that are owed. stopped tells that the
// attempt was cut short by us; what it left open then waits as before.
func (q *Queue) record(ctx context.Context, p pick, who []int, results []Result, stopped bool) error {
	now := q.now()
	jitter := q.gap // drawn once for each run of the Update: harmless
	var story *trace.Event
	err := q.eng.Update(ctx, shard, func(w engine.Writer) error {
		t := tx{w}
		story = nil
		m, ok, err := t.message(p.id)
		if err != nil || !ok {
			return err // dropped meanwhile
		}
		told := attempted(p.id, m)
		story = &told
		g, err := t.look().group(p.id, p.group)
		if err != nil {
			return err
		}
		listed := g.waiting > 0 && m.heldAt == 0
		old := *g
		cut := 0
		for i, n := range who {
			r, err := t.look().recipient(p.id, n)
			if err != nil {
				return err
			}
			if r.state != waiting {
				continue
			}
			if stopped && results[i].Code/100 == 4 && results[i].Host == "" {
				cut++
				continue
			}
			m.apply(r, g, results[i], now)
			story.To = append(story.To, outcome(r))
			if err := t.putRecipient(p.id, n, r); err != nil {
				return err
			}
		}
		var pause func(*lane)
		if cut < len(who) {
			g.attempts, g.at = g.attempts+1, now
			g.next = now + jitter(g.attempts)
			g.reason = reasonOf(results)
			nextIn(story, g)
			if m.road == Remote { // what is wrong with one mailbox here says nothing of others
				pause = q.pause(results, now)
			}
		}
		if err := t.relist(m, p, listed, &old, g); err != nil {
			return err
		}
		if err := t.settleLane(p.lane, pause); err != nil {
			return err
		}
		q.logOutcome(m, p, results, cut)
		return t.finish(m, now)
	})
	q.keep(story, err)
	return err
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
	err := q.eng.Update(c, shard, func(w engine.Writer) error {
		t := tx{w}
		story = nil
		m, ok, err := t.message(p.id)
		if err != nil || !ok {
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
		if !res.DSN {
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
func (t tx) relist(m *message, p pick, listed bool, old, g *group) error {
	if listed {
		if err := t.Delete(waitingKey(old.lane, old.next, p.id, p.group)); err != nil {
			return err
		}
	}
	if g.waiting > 0 && m.heldAt == 0 {
		if err := t.Put(waitingKey(g.lane, g.next, p.id, p.group), nil); err != nil {
			return err
		}
	}
	return t.putGroup(p.id, p.group, g)
}

// longestPause is that of a lane whose hosts have been down for a while.
const longestPause = 10 * time.Minute

// pause returns what an attempt means for its lane: if no host could be reached at
// all, the others that wait for it need not find out one by one. Pauses grow from a
// minute to ten.
func (q *Queue) pause(results []Result, now int64) func(*lane) {
	down := len(results) > 0
	for _, r := range results {
		down = down && r.Code/100 == 4 && r.Host == ""
	}
	jitter := q.opt.Rand()
	return func(l *lane) {
		switch {
		case !down:
			l.fails, l.notBefore, l.reason = 0, 0, ""
		case now >= l.notBefore:
			l.fails = min(l.fails+1, 10)
			wait := min(time.Minute<<(l.fails-1), longestPause)
			l.notBefore = now + int64(float64(wait.Milliseconds())*(0.9+0.2*jitter))
			l.reason = results[0].Text
		}
	}
}

// postpone lets a group that cannot be read wait, so that it does not come up again
// at once.
func (q *Queue) postpone(ctx context.Context, p pick) {
	now := q.now()
	q.insist(ctx, p, func(c context.Context) error {
		return q.eng.Update(c, shard, func(w engine.Writer) error {
			t := tx{w}
			g, err := t.look().group(p.id, p.group)
			if err != nil { // not even that: it leaves the lane, and verify tells of it
				return t.purge(p)
			}
			next := *g
			next.next = now + q.gap(1)
			if err := t.relist(&message{id: p.id}, p, true, g, &next); err != nil {
				return err
			}
			return t.settleLane(p.lane, nil)
		})
	})
}

// clear takes a group out of its lane if nobody in it waits: it would come up again
// and again.
func (q *Queue) clear(ctx context.Context, p pick) error {
	return q.eng.Update(ctx, shard, func(w engine.Writer) error {
		t := tx{w}
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
	if err != nil {
		return err
	}
	return t.settleLane(p.lane, nil)
}

func (q *Queue) logOutcome(m *message, p pick, results []Result, cut int) {
	for i, r := range results {
		if i == 10 { // the records have them all
			break
		}
		q.opt.Log.Info("attempt", "queue_id", p.id.String(), "domain", p.lane[1:], "code", r.Code,
			"enhanced", r.Enhanced, "host", r.Host, "text", r.Text, "tls", r.TLS, "cut_short", cut > 0, "open", m.open)
	}
}
