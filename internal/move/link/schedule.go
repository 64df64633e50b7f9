package link

import (
	"container/heap"
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/store"
)

const (
	firstGap    = 30 * time.Second // after a failure; twice as long each time
	longestGap  = time.Hour
	throttled   = 15 * time.Minute       // at least, if the provider wants less
	refusedGap  = 10 * time.Minute       // after a refused password; three times as long the next time
	maxRefusals = 3                      // then nothing is tried any more
	settle      = 2 * time.Second        // after a change here, for more of them
	idleShare   = 20                     // times as long as the last look for changes here took, too: it goes through all ties
	longestWait = 5 * time.Minute        // at most
	apart       = 100 * time.Millisecond // on average, at the start
	remember    = time.Hour              // how old what is stored of a good run may be
)

// entry is a link that is being looked after.
type entry struct {
	rule  Rule
	state state
	own   store.Origin
	due   time.Time
	at    int // in the queue; -1: not there

	running  bool
	watching bool
	again    bool               // something came up while it ran
	stop     context.CancelFunc // of a run or a wait under way
	source   move.Source        // connected still, after a wait
	pulse    pulse              // of the run under way
	least    time.Duration      // between two runs, as the source wants it
	saved    time.Time          // state was stored
	stored   string             // the state as it was read or written last
	earlier  string             // the one before, while that is being written
	ended    time.Time          // of the last run
	called   bool               // the run under way was called by news of its server
	vain     int                // runs one after another that were called, and found nothing
	long     bool               // it runs for long, and holds no place any more
	follower *store.Follower    // of the account, if changes are carried; may be nil
	dirty    bool               // there may be something to carry
	look     time.Duration      // that the last look for it took
	askers   []chan<- outcome
	declined map[string]declined // what was refused here lately; used by the one who runs
}

// outcome is what came of a run.
type outcome struct {
	report Report
	err    error
}

// schedule is the links by the time when they are due.
type schedule []*entry

func (q schedule) Len() int           { return len(q) }
func (q schedule) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q schedule) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}
func (q *schedule) Push(x any) {
	e := x.(*entry)
	e.at = len(*q)
	*q = append(*q, e)
}
func (q *schedule) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	e.at = -1
	return e
}

// Run carries the rules out until ctx ends, and then waits for what is under way.
func (l *Links) Run(ctx context.Context) error {
	if l.opt.Off {
		return nil
	}
	defer l.elsewhere()()
	if err := l.begin(ctx); err != nil {
		return err
	}
	defer l.end()
	for {
		l.catchUp(ctx)
		l.heed()
		next := l.start(ctx)
		if !l.sleep(ctx, next) {
			return nil
		}
	}
}

// sleep waits for something to do, so long at most if that is not negative; false: ctx has ended.
func (l *Links) sleep(ctx context.Context, next time.Duration) bool {
	var due <-chan time.Time
	if next >= 0 {
		t := time.NewTimer(next)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-l.wake:
	case <-due:
	}
	return true
}

// begin reads the rules. They are spread over their time, so that a restart does not have all
// of them run at once.
func (l *Links) begin(ctx context.Context) error {
	l.mu.Lock()
	l.begun = true
	l.mu.Unlock()
	var rules []Rule
	states := map[ID]state{}
	err := l.opt.Engine.View(ctx, Shard, func(r engine.Reader) error {
		rules = nil
		return eachRule(r, func(rule Rule) bool {
			_, s, err := readBoth(r, rule.ID)
			if err == nil {
				rules = append(rules, rule)
				states[rule.ID] = s
			}
			return true
		}, func(id ID, err error) {
			l.opt.Log.Error("a link cannot be read and is not carried out; run: martlet verify", "link", id, "err", err)
		})
	})
	over := min(time.Duration(len(rules)-1)*apart, time.Minute)
	for _, r := range rules {
		l.appear(r, states[r.ID], time.Duration(l.opt.Chance()*float64(min(r.Poll, over))))
	}
	return err
}

// end waits for all that is under way, and lets go of accounts and sources.
func (l *Links) end() {
	l.workers.Wait()
	var left []move.Source
	l.mu.Lock()
	for id := range l.known {
		left = append(left, l.drop(id))
	}
	l.begun = false
	l.mu.Unlock()
	for _, s := range left {
		if s != nil {
			_ = s.Close()
		}
	}
}

// drop forgets a link in memory, and returns what it was connected to, nil if nothing: that is
// to be closed without the lock, which drop needs.
func (l *Links) drop(id ID) (held move.Source) {
	e := l.known[id]
	if e == nil {
		return nil
	}
	delete(l.known, id)
	l.countsFor(e.rule.Account, -1)
	if e.at >= 0 {
		heap.Remove(&l.queue, e.at)
	}
	if e.follower != nil {
		e.follower.Stop()
	}
	if e.stop != nil {
		e.stop()
	}
	if !e.running && !e.watching { // else it is its user's
		held, e.source = e.source, nil
	}
	e.answer(fault.New(fault.Closed, "the server is stopping, or the link was removed"))
	return held
}

// answer tells those who asked for a run that there is none. It needs the lock.
func (e *entry) answer(why error) {
	answer(e.askers, Report{}, why)
	e.askers = nil
}

// appeared takes a new link up, if links are carried out here.
func (l *Links) appeared(r Rule, s state) {
	l.mu.Lock()
	begun := l.begun
	l.mu.Unlock()
	if begun {
		l.appear(r, s, 0)
	}
}

func (l *Links) appear(r Rule, s state, after time.Duration) {
	e := &entry{rule: r, state: s, at: -1, saved: s.Last, dirty: true}
	e.is(s)
	if r.carries() && l.opt.Store != nil {
		e.follower = l.opt.Store.Account(r.Account).Follow(&e.own, func() { l.tell(r.ID) })
	}
	now := l.opt.Now()
	e.due = now.Add(after)
	if s.Next.After(e.due) {
		if e.due = s.Next; e.due.After(now.Add(longestGap)) { // the clock was ahead when it was stored
			e.due = now.Add(longestGap)
		}
	}
	l.mu.Lock()
	if l.known[r.ID] == nil {
		l.countsFor(r.Account, 1)
	}
	l.known[r.ID] = e
	l.put(e)
	l.mu.Unlock()
	l.signal()
}

// put queues a link up, unless it is paused. It needs the lock.
func (l *Links) put(e *entry) {
	switch {
	case e.state.Pause != notPaused || l.known[e.rule.ID] != e:
		if e.at >= 0 {
			heap.Remove(&l.queue, e.at)
		}
	case e.at >= 0:
		heap.Fix(&l.queue, e.at)
	default:
		heap.Push(&l.queue, e)
	}
}

func (l *Links) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// changed takes over what an administrator has changed.
func (l *Links) changed(r Rule, s state) {
	l.mu.Lock()
	e := l.known[r.ID]
	if e == nil {
		l.mu.Unlock()
		l.appeared(r, s)
		return
	}
	e.state, e.saved = s, s.Last
	e.is(s)
	if e.stop != nil {
		e.stop()
	}
	if s.Pause != notPaused { // it does not run again
		e.answer(isPaused(r, s))
	}
	e.due, e.again = l.opt.Now(), e.running
	if !e.running && !e.watching {
		l.put(e)
	}
	l.mu.Unlock()
	l.signal()
}

func (l *Links) vanished(id ID) {
	l.mu.Lock()
	held := l.drop(id)
	l.mu.Unlock()
	if held != nil {
		_ = held.Close()
	}
}

// tell notes that an account was changed. It waits for nobody.
func (l *Links) tell(id ID) {
	l.toldMu.Lock()
	l.told[id] = struct{}{}
	l.toldMu.Unlock()
	l.signal()
}

// heed has those links run soon whose accounts were changed.
func (l *Links) heed() {
	l.toldMu.Lock()
	told := l.told
	l.told = map[ID]struct{}{}
	l.toldMu.Unlock()
	for id := range told {
		l.nudge(id)
	}
}

// nudge has a link run soon, as something was changed here. One that fails waits all the same.
func (l *Links) nudge(id ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.known[id]
	if e == nil || e.state.Failures > 0 || e.state.Pause != notPaused {
		return
	}
	l.hurry(e, l.opt.Now().Add(e.settling()))
}

// settling is how long a change here waits for others.
func (e *entry) settling() time.Duration { return min(max(settle, idleShare*e.look), longestWait) }

// hurry makes a link due. It needs the lock.
func (l *Links) hurry(e *entry, at time.Time) {
	switch {
	case e.running:
		e.again = true
	case e.watching:
		if at.Before(e.due) {
			e.due = at
		}
		e.stop()
	case at.Before(e.due):
		e.due = at
		l.put(e)
		l.signal()
	}
}

// start begins what is due, and returns how long nothing else will be; < 0: for ever.
func (l *Links) start(ctx context.Context) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.opt.Now()
	var later []*entry // whose servers have enough to do
	defer func() {
		for _, e := range later {
			heap.Push(&l.queue, e)
		}
	}()
	for len(l.queue) > 0 && l.running < l.opt.MaxRuns {
		e := l.queue[0]
		if e.due.After(now) {
			return e.due.Sub(now)
		}
		heap.Pop(&l.queue)
		host := e.rule.Server.Host
		if l.hosts[host] >= l.perHost() {
			later = append(later, e)
			continue
		}
		e.running, e.again = true, false
		l.running++
		l.hosts[host]++
		if e.declined == nil || len(e.askers) > 0 { // who asks wants all tried
			e.declined = map[string]declined{}
		}
		mine, stop := context.WithCancel(e.own.Mark(ctx))
		e.stop = stop
		l.workers.Go(func() { l.work(mine, e) })
	}
	return -1 // or until one that runs has ended
}

// Now runs a link, and returns when it has. Faults: NotFound, Invalid if it is paused, and
// whatever went wrong.
func (l *Links) Now(ctx context.Context, id ID) (Report, error) {
	r, s, err := l.read(ctx, id)
	if err != nil {
		return Report{}, err
	}
	if s.Pause != notPaused {
		return Report{}, isPaused(r, s)
	}
	l.mu.Lock()
	e := l.known[id]
	if e == nil || !l.begun {
		l.mu.Unlock()
		if err := l.byNode(ctx, id); err != nil {
			return Report{}, err
		}
		return l.alone(ctx, r, s)
	}
	if e.state.Pause != notPaused { // since
		err := isPaused(e.rule, e.state)
		l.mu.Unlock()
		return Report{}, err
	}
	done := make(chan outcome, 1)
	e.askers = append(e.askers, done)
	l.hurry(e, l.opt.Now())
	l.mu.Unlock()
	select {
	case <-ctx.Done():
		return Report{}, ctx.Err()
	case o := <-done:
		return o.report, o.err
	}
}

func isPaused(r Rule, s state) error {
	_, fix := words(r, s)
	return fault.Newf(fault.Invalid, "link %d is paused: %s", r.ID, fix)
}

// alone runs a link in a process that carries none out by itself.
func (l *Links) alone(ctx context.Context, r Rule, s state) (Report, error) {
	e := &entry{rule: r, state: s, at: -1, dirty: true}
	report, err := l.once(e.own.Mark(ctx), e)
	if e.source != nil {
		_ = e.source.Close()
	}
	if ctx.Err() == nil {
		l.settled(ctx, e, report, err)
	}
	return report, err
}
