package link

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/signin"
	"github.com/martlet-mail/martlet/internal/store"
)

// Waiter is a source that is told of news by its server.
type Waiter interface {
	// Wait returns nil when there are news of the mailbox, or of any, and when ctx ends; the
	// source can be used then. CanWait tells whether its server does that.
	Wait(ctx context.Context, m move.Mailbox) error
	CanWait() bool
}

// Delayer is a source whose server wants some time between two logins (RFC 2449, 6.5).
type Delayer interface{ LoginDelay() time.Duration }

// work runs a link once, and waits for news of it if that can be.
func (l *Links) work(ctx context.Context, e *entry) {
	lasting := time.AfterFunc(short, func() { l.lasts(e) })
	report, err := l.once(ctx, e)
	lasting.Stop()
	stopped := ctx.Err() != nil
	if !stopped {
		l.settled(ctx, e, report, err)
	}
	l.mu.Lock()
	now := l.opt.Now()
	e.ended = now
	if e.vain++; !e.called || err != nil || report.More || report.Brought+report.Followed+report.Moved+report.Thrown+report.Carried > 0 {
		e.vain = 0
	}
	e.called = false
	switch {
	case stopped: // an administrator has changed something, or all ends
	case (e.again || report.More) && err == nil:
		e.due = now.Add(e.settling())
	default:
		e.due = now.Add(l.gap(e))
	}
	var asked []chan<- outcome
	if !stopped || l.known[e.rule.ID] != e {
		asked, e.askers = e.askers, nil
	}
	waits := !stopped && err == nil && len(e.askers) == 0 && l.mayWait(e)
	l.leaves(e)
	if waits {
		e.running, e.watching = false, true
		l.idle++
		l.mu.Unlock()
		l.signal()
		answer(asked, report, err)
		asked = nil
		l.await(ctx, e)
		l.mu.Lock()
		l.idle--
	} else if e.source != nil { // which may take a while: the entry stays ours
		l.mu.Unlock()
		_ = e.source.Close()
		e.source = nil
		l.mu.Lock()
	}
	e.running, e.watching = false, false
	e.stop()
	e.stop = nil
	l.put(e)
	l.mu.Unlock()
	l.signal()
	answer(asked, report, err)
}

func answer(asked []chan<- outcome, report Report, err error) {
	for _, ask := range asked {
		ask <- outcome{report, err} // each has room for one
	}
}

// mayWait tells whether a link can wait at its server. It needs the lock.
func (l *Links) mayWait(e *entry) bool {
	w, ok := e.source.(Waiter)
	return ok && w.CanWait() && l.idle < l.opt.MaxIdle && !e.again && l.known[e.rule.ID] == e
}

// rest is how long the server's news wait after a run: longer and longer if there were none, as
// of servers that do not count.
func (e *entry) rest() time.Duration {
	return min(settle<<min(e.vain, 10), max(longestWait, e.rule.Poll))
}

// short is how long a run may last before it gives its places, at its host too, to others, if not too
// many have.
const short = time.Minute

func (l *Links) lasts(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.running && !e.long && l.long < l.opt.MaxRuns {
		e.long = true
		l.running--
		l.leavesHost(e)
		l.long++
		l.signal()
	}
}

// leaves gives back what a run holds. It needs the lock.
func (l *Links) leaves(e *entry) {
	if e.long {
		e.long = false
		l.long--
		return
	}
	l.leavesHost(e)
	l.running--
}

func (l *Links) leavesHost(e *entry) {
	if host := e.rule.Server.Host; l.hosts[host] > 1 {
		l.hosts[host]--
	} else {
		delete(l.hosts, host)
	}
}

// perHost is how many links run at one host: those of a slow one are not to hold all places.
func (l *Links) perHost() int { return max(l.opt.MaxRuns/4, 1) }

// renewal is how long a server is waited at: it may log out who says nothing for 30 minutes
// (RFC 2177).
const renewal = 28 * time.Minute

// await waits for news at the server, until the link is due for another reason.
func (l *Links) await(ctx context.Context, e *entry) {
	for ctx.Err() == nil {
		l.mu.Lock()
		left := e.due.Sub(l.opt.Now())
		l.mu.Unlock()
		if left <= 0 {
			break
		}
		mine, cancel := context.WithTimeout(ctx, min(left, renewal))
		err := e.source.(Waiter).Wait(mine, move.Mailbox{Name: "INBOX", Source: "INBOX"})
		news := mine.Err() == nil
		cancel()
		if err != nil { // the line is gone: the next run makes another
			_ = e.source.Close()
			e.source = nil
			news = true
		}
		if news {
			l.mu.Lock()
			if now := l.opt.Now(); err == nil {
				e.called = true
				if e.due = e.ended.Add(e.rest()); e.due.Before(now) {
					e.due = now
				}
			} else {
				e.due = now.Add(time.Duration((1 + l.opt.Chance()) * float64(settle)))
			}
			l.mu.Unlock()
			return
		}
	}
	if ctx.Err() != nil && e.source != nil { // hurried, changed or stopped
		l.mu.Lock()
		closing := l.known[e.rule.ID] != e || e.state.Pause != notPaused
		l.mu.Unlock()
		if closing {
			_ = e.source.Close()
			e.source = nil
		}
	}
}

// once connects, if need be, and brings both sides into accord. A defect of the program ends
// the run, and not the server.
func (l *Links) once(ctx context.Context, e *entry) (report Report, err error) {
	defer func() {
		if p := recover(); p != nil {
			l.opt.Log.Error("a link met a defect of the program", "link", e.rule.ID, "panic", p, "stack", string(debug.Stack()))
			err = fault.New(fault.Internal, "a defect of the program, which the log shows")
			if e.source != nil {
				_ = e.source.Close()
				e.source = nil
			}
		}
	}()
	target, err := l.opt.Target(ctx, e.rule.Account)
	if err != nil {
		return report, err
	}
	secret, err := l.secret(ctx, e.rule)
	if err != nil {
		return report, err
	}
	held := e.source != nil
	report, err = l.accord(ctx, e, target, &secret)
	if err != nil && held && ctx.Err() == nil { // what was connected for hours may have ended, and its token, too
		_ = e.source.Close()
		e.source = nil
		report, err = l.accord(ctx, e, target, &secret)
	}
	if err != nil {
		if e.source != nil {
			_ = e.source.Close()
			e.source = nil
		}
		err = plain(err, secret)
	}
	return report, err
}

func (l *Links) accord(ctx context.Context, e *entry, target move.Target, secret *Secret) (report Report, err error) {
	ctx, end := context.WithCancelCause(context.WithValue(ctx, pulseKey{}, &e.pulse))
	watch := time.AfterFunc(still, func() { end(errStill) })
	e.pulse.watch.Store(watch)
	defer func() {
		e.pulse.watch.Store(nil)
		watch.Stop()
		if err != nil && context.Cause(ctx) == errStill {
			err = errStill
		}
		end(nil)
	}()
	if e.source == nil {
		if e.source, err = l.connect(ctx, e.rule, secret); err != nil {
			return report, err
		}
	}
	r := round{rule: &e.rule, source: e.source, target: target, spool: l.opt.Spool, now: l.opt.Now, declined: e.declined, often: l.oftenOf(e.rule.Account), beat: e.pulse.beat}
	if e.rule.carries() {
		if e.follower != nil && !e.dirty {
			if e.dirty, err = l.concerned(ctx, e); err != nil {
				return report, err
			}
		}
		if mirror, ok := e.source.(Mirror); ok && e.dirty {
			r.mirror = mirror
		}
	}
	err = r.run(ctx)
	if r.mirror != nil {
		l.mu.Lock()
		e.look = r.look
		l.mu.Unlock()
	}
	if d, ok := e.source.(Delayer); ok {
		e.least = d.LoginDelay()
	}
	if err == nil && e.follower != nil {
		e.dirty = false
	}
	return r.report, err
}

// still is how long a run may come no further: a command, some messages, or 64 KB of one. A server
// that sends a byte now and then is not waited for.
const still = 5 * time.Minute

var errStill = fault.New(fault.Unavailable, "the source is so slow that nothing came in five minutes")

// carries tells whether something is carried to the source.
func (r *Rule) carries() bool {
	return r.Server.Protocol == "imap" && (r.BothWays || r.DeleteAtSource)
}

// concerned tells whether others have changed something in the account that may have to be
// carried: new mail is nothing of that kind.
func (l *Links) concerned(ctx context.Context, e *entry) (yes bool, err error) {
	touched := e.follower.Take()
	if touched.Lost != 0 {
		return true, nil
	}
	err = l.opt.Store.Account(e.rule.Account).View(ctx, func(s *store.Snapshot) error {
		for id, t := range touched.Boxes {
			if id == 0 || t.First == 0 {
				continue
			}
			c, err := s.Changes(id, t.First-1)
			if fault.Is(err, fault.NotFound) {
				yes = true // the mailbox is gone, and its messages
				continue
			}
			if err != nil {
				return err
			}
			yes = yes || !c.Complete || !c.Changed.IsEmpty() || !c.Expunged.IsEmpty()
		}
		return nil
	})
	return yes || err != nil, err
}

// connect signs in. An access token that is refused although it should hold is made anew, once.
func (l *Links) connect(ctx context.Context, r Rule, s *Secret) (move.Source, error) {
	if s.Grant == nil {
		return l.opt.Open(ctx, r, *s)
	}
	for renew := l.opt.SignIn.Fresh; ; renew = l.opt.SignIn.Renew {
		g, fresh, err := l.renewed(ctx, r, s, renew)
		if err != nil {
			if fault.Is(err, fault.Unauthenticated) {
				err = &gone{err}
			}
			return nil, err
		}
		s.Grant = &g
		source, err := l.opt.Open(ctx, r, *s)
		if err == nil || fresh || !fault.Is(err, fault.Unauthenticated) {
			return source, err
		}
	}
}

// renewed renews a grant and keeps it, before anything else: the one before may hold no more. So it
// is not left half-way when the run is stopped. Somebody who gave another sign-in meanwhile wins.
func (l *Links) renewed(ctx context.Context, r Rule, s *Secret, renew func(context.Context, signin.Grant) (signin.Grant, bool, error)) (signin.Grant, bool, error) {
	if err := ctx.Err(); err != nil {
		return signin.Grant{}, false, err
	}
	mine, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewing)
	defer cancel()
	before := *s.Grant
	g, fresh, err := renew(mine, before)
	if err != nil || !fresh {
		return g, fresh, err
	}
	now, err := l.swapGrant(mine, r, before, g)
	return now, fresh, err
}

// renewing is how long a provider may take for a new access token.
const renewing = 30 * time.Second

// gone says that a sign-in does not hold any more: to try again cannot help.
type gone struct{ error }

func (g *gone) Unwrap() error { return g.error }

// settled notes what came of a run.
func (l *Links) settled(ctx context.Context, e *entry, report Report, err error) {
	now := l.opt.Now().UTC().Truncate(time.Second)
	l.mu.Lock()
	s := e.state
	before := s
	s.Brought += report.Brought
	l.brought += report.Brought
	if err == nil {
		s.Failures, s.Refusals, s.Error, s.Kind, s.Last, s.Next = 0, 0, "", 0, now, time.Time{}
		s.Refused, s.Why = report.Refused, report.Why
	} else {
		s.Failures++
		s.Error, s.Kind = said(err), fault.Of(err)
		if s.Kind == fault.Unauthenticated {
			s.refused(e.rule, err)
		}
		e.state = s
		s.Next = now.Add(l.gap(e)).Truncate(time.Second)
	}
	if before.Pause == byAdmin {
		s.Pause = byAdmin
	}
	e.state = s
	keep := err != nil || before.Failures > 0 || s.Brought != before.Brought || s.Refused != before.Refused || before.Last.IsZero() || now.Sub(e.saved) > remember
	earlier := e.stored
	if keep {
		e.saved = now
		e.writes(s)
	}
	l.mu.Unlock()
	if fault.Is(err, fault.NotFound) && errors.As(err, new(*noAccount)) {
		l.opt.Log.Info("a link is removed, as its account was", "link", e.rule.ID)
		_ = l.Remove(ctx, e.rule.ID)
		return
	}
	if err != nil {
		l.opt.Log.Warn("a link failed", "link", e.rule.ID, "host", e.rule.Server.Host, "user", e.rule.User, "failures", s.Failures, "paused", s.Pause != notPaused, "err", s.Error)
	}
	if report.Brought > 0 {
		l.opt.Log.Info("a link brought mail", "link", e.rule.ID, "host", e.rule.Server.Host, "messages", report.Brought)
	}
	if !keep {
		return
	}
	// The state only: of messages, the ties know.
	err = l.writeOver(ctx, e.rule.ID, &s, earlier)
	l.mu.Lock()
	e.written(err)
	l.mu.Unlock()
	if err != nil && ctx.Err() == nil && !fault.Is(err, fault.NotFound) {
		l.opt.Log.Error("what became of a link cannot be stored", "link", e.rule.ID, "err", err)
	}
}

// refused counts a refused sign-in, and gives up before the provider locks the account.
func (s *state) refused(r Rule, err error) {
	s.Refusals++
	var g *gone
	switch {
	case errors.As(err, &g):
		s.Pause = needsSignIn
	case s.Refusals >= maxRefusals && r.OAuth != "":
		s.Pause = needsSignIn
	case s.Refusals >= maxRefusals:
		s.Pause = needsPassword
	}
}

// gap is how long a link waits for its next run.
func (l *Links) gap(e *entry) time.Duration {
	chance := l.opt.Chance()
	s := &e.state
	if s.Failures == 0 {
		return time.Duration(float64(max(e.rule.Poll, e.least)) * (1 + 0.1*chance))
	}
	d := firstGap << min(s.Failures-1, 10)
	switch s.Kind {
	case fault.Unauthenticated:
		d = refusedGap
		for range s.Refusals - 1 {
			d *= 3
		}
	case fault.Limited:
		d = max(d, throttled)
	}
	d = time.Duration(float64(min(d, longestGap)) * (0.75 + 0.25*chance))
	return max(d, e.least)
}

// noAccount says that the account of a link is no more.
type noAccount struct{ error }

func (n *noAccount) Unwrap() error { return n.error }

// NoAccount is what Target returns of an account that was removed: its links go, too.
func NoAccount() error {
	return &noAccount{fault.New(fault.NotFound, "the account is no more")}
}

// RemoveAccount forgets all links of an account, and what signs in for them.
func (l *Links) RemoveAccount(ctx context.Context, account mail.AccountID) error {
	list, err := l.List(ctx, account)
	for _, s := range list {
		if err == nil {
			err = l.Remove(ctx, s.ID)
		}
	}
	return err
}

// Try signs in at the source of a rule that is not stored yet and looks for its mailboxes; an
// access token that is made anew for it is in the secret then.
func (l *Links) Try(ctx context.Context, r *Rule, s *Secret) error {
	if r.Poll == 0 {
		r.Poll = l.opt.Poll
	}
	if err := r.Check(); err != nil {
		return err
	}
	if s.Grant != nil {
		g, _, err := l.opt.SignIn.Fresh(ctx, *s.Grant)
		if err != nil {
			return plain(err, *s)
		}
		s.Grant = &g
	}
	source, err := l.opt.Open(ctx, *r, *s)
	if err != nil {
		return plain(err, *s)
	}
	defer source.Close()
	boxes, err := source.Mailboxes(ctx)
	if err != nil {
		return plain(err, *s)
	}
	if !slices.ContainsFunc(boxes, func(m move.Mailbox) bool { return r.takes(&m) }) {
		return fault.New(fault.NotFound, "the source has no mailbox that the patterns mean")
	}
	return nil
}
