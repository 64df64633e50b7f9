package link

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// States of a link.
const (
	OK      = "ok"      // the last run went well
	Running = "running" // one is under way
	Waiting = "waiting" // for its first run
	Failing = "failing" // the last run failed; it is tried again
	Paused  = "paused"  // until somebody acts
)

// Status is a link and how it is going.
type Status struct {
	Rule
	State    string
	Watching bool      // connected, and told of news at once
	Last     time.Time // a run went well; zero: none has
	Next     time.Time // the next one; zero: none will come by itself
	Error    string    // of the last run, in words; "" if it went well
	Fix      string    // what to do about it
	Brought  int64     // messages, in all
	Refused  int64     // messages of the last run that could not be brought
	Why      string    // the first of them could not

	pause pause
}

// Refusing tells whether a link is paused because its source refused the sign-in.
func (s *Status) Refusing() bool { return s.pause == needsPassword || s.pause == needsSignIn }

// status puts together what is stored and what is known in memory.
func (l *Links) status(r Rule, s state) Status {
	out := Status{Rule: r, Last: s.Last, Next: s.Next, Error: s.Error, Brought: s.Brought, Refused: s.Refused, Why: s.Why}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.known[r.ID]
	if e != nil {
		s = e.state
		out.Last, out.Error, out.Brought, out.Refused, out.Why = s.Last, s.Error, s.Brought, s.Refused, s.Why
		out.Next, out.Watching = e.due, e.watching
	}
	switch {
	case e != nil && e.running:
		out.State = Running
	case s.Pause != notPaused:
		out.State, out.Next = Paused, time.Time{}
	case s.Failures > 0:
		out.State = Failing
	case s.Last.IsZero():
		out.State = Waiting
	default:
		out.State = OK
	}
	if l.opt.Off {
		out.Next = time.Time{}
	}
	out.pause = s.Pause
	out.Error, out.Fix = words(r, s)
	return out
}

// words says what went wrong, and what to do.
func words(r Rule, s state) (text, fix string) {
	if s.Pause == byAdmin {
		return s.Error, fmt.Sprintf("an administrator paused it; go on with: martlet link resume %d", r.ID)
	}
	if s.Error == "" {
		return "", ""
	}
	passwd := fmt.Sprintf("martlet link passwd %d --password-stdin", r.ID)
	if r.OAuth != "" {
		passwd = fmt.Sprintf("martlet link passwd %d --oauth %s", r.ID, r.OAuth)
	}
	switch {
	case s.Pause == needsPassword:
		return "needs a password: " + s.Error, "it is not tried any more, so that the account is not locked; many providers want an app password here; give it with: " + passwd
	case s.Pause == needsSignIn:
		return "needs a sign-in: " + s.Error, "sign in again with: " + passwd
	case s.Kind == fault.Unauthenticated:
		return s.Error, "if the password was changed: " + passwd
	case s.Kind == fault.Limited:
		return s.Error, "the provider wants less at once; it is tried again by itself"
	case s.Kind == fault.OverQuota:
		return s.Error, "make room in the account, or give it more: martlet account quota"
	case s.Kind == fault.Corrupt:
		return s.Error, "run: martlet verify"
	}
	return s.Error, "it is tried again by itself"
}

// plain makes an error that has what the source said, and nothing secret.
func plain(err error, secret Secret) error {
	text := said(err)
	hide := []string{secret.Password}
	if g := secret.Grant; g != nil {
		hide = append(hide, g.Access, g.Refresh, g.Client.Secret)
	}
	for _, s := range hide {
		if s != "" {
			text = strings.ReplaceAll(text, s, "...")
		}
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		text += "; name a file with its authority in [links] ca, or make the link with --insecure if it does not matter who reads along"
	}
	if len(text) > 1000 {
		text = strings.ToValidUTF8(text[:1000], "")
	}
	bare := fault.New(fault.Of(err), text)
	if g := (*gone)(nil); errors.As(err, &g) {
		return &gone{bare}
	}
	return bare
}

// said is an error in words. Who looks at links may see causes.
func said(err error) string {
	e, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return err.Error()
	}
	if e.Say == "" && e.Cause != nil {
		return e.Cause.Error()
	}
	return e.Say
}

// Count returns how many links are in which state, and how many messages were brought since
// the start.
func (l *Links) Count() (states map[string]int, brought int64) {
	states = map[string]int{OK: 0, Running: 0, Waiting: 0, Failing: 0, Paused: 0}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.known {
		switch {
		case e.running:
			states[Running]++
		case e.state.Pause != notPaused:
			states[Paused]++
		case e.state.Failures > 0:
			states[Failing]++
		case e.state.Last.IsZero():
			states[Waiting]++
		default:
			states[OK]++
		}
	}
	return states, l.brought
}
