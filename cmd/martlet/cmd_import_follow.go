package main

import (
	"context"
	"fmt"
	chance "math/rand/v2"
	"time"

	"github.com/spf13/pflag"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/link"
)

// An import that goes on: what comes at the source afterwards is brought as long as the
// command runs. Links (martlet link) do this in the server, and tell what was moved there.

func followFlags(f *pflag.FlagSet) {
	f.Bool("follow", false, "go on: bring what comes there later, and flags that change there, until the command is stopped")
	f.String("poll", "5m", "with --follow: time between two looks, where the server does not tell of new mail")
}

// followed is told of each look that found something.
type followed struct {
	Event   string `json:"event"` // followed
	Brought int64  `json:"brought"`
	Bytes   int64  `json:"bytes"`
}

// Failures of a look are waited for twice as long each time.
const (
	followGap  = 30 * time.Second
	followMost = time.Hour
)

// follow brings what comes, until ctx ends.
func (run *importRun) follow(ctx context.Context) error {
	text, _ := run.cmd.Flags().GetString("poll")
	var poll conf.Duration
	if err := poll.UnmarshalText([]byte(text)); err != nil || time.Duration(poll) < time.Second {
		return misused("--poll %q is no time such as 5m", text)
	}
	w := &followWait{open: run.opt.Open, poll: time.Duration(poll)}
	defer w.close()
	run.opt.Open, run.opt.Changes, run.opt.FollowFlags = w.source, true, true
	fmt.Fprintln(run.cmd.ErrOrStderr(), "all is here; what comes is brought until this command is stopped")
	for failures := 0; ctx.Err() == nil; {
		done, err := move.Import(ctx, run.opt)
		run.show.clear()
		if err == nil {
			failures = 0
			if err := run.followedBy(done); err != nil {
				return err
			}
			err = w.wait(ctx)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		w.close()
		if fault.Is(err, fault.Unauthenticated) { // again and again it would lock the account
			return err
		}
		failures++
		fmt.Fprintf(run.cmd.ErrOrStderr(), "%s; it is tried again\n", clean(describe(err)))
		d := min(followGap<<min(failures-1, 10), followMost)
		_ = importWait(ctx, d*3/4+chance.N(d/4))
	}
	return nil
}

func (run *importRun) followedBy(done *move.Report) error {
	f := followed{Event: "followed"}
	for i := range done.Mailboxes {
		f.Brought += done.Mailboxes[i].Brought
		f.Bytes += done.Mailboxes[i].Read
	}
	if f.Brought == 0 {
		return nil
	}
	if wantsJSON(run.cmd) {
		return printJSON(run.cmd.OutOrStdout(), f)
	}
	_, err := fmt.Fprintf(run.cmd.OutOrStdout(), "%s  %s, %s\n", time.Now().Format("15:04:05"), counted(f.Brought, "message"), bytesText(f.Bytes))
	return err
}

// followWait keeps a source connected from one look to the next, so that what comes between
// looking and waiting is noticed.
type followWait struct {
	open func(context.Context) (move.Source, error)
	poll time.Duration
	kept move.Source
}

func (w *followWait) close() {
	if w.kept != nil {
		_ = w.kept.Close()
		w.kept = nil
	}
}

func (w *followWait) source(ctx context.Context) (move.Source, error) {
	if w.kept == nil {
		s, err := w.open(ctx)
		if err != nil {
			return nil, err
		}
		w.kept = s
	}
	return stays{w.kept}, nil
}

// stays is a source that its user does not close.
type stays struct{ move.Source }

func (stays) Close() error { return nil }

func (s stays) Advice() (a move.Advice) {
	if known, ok := s.Source.(move.Advised); ok {
		a = known.Advice()
	}
	return a
}

// wait returns when there may be news, after a time at the latest.
func (w *followWait) wait(ctx context.Context) error {
	waiter, ok := w.kept.(link.Waiter)
	if !ok || !waiter.CanWait() {
		w.close()
		return importWait(ctx, w.poll)
	}
	timed, cancel := context.WithTimeout(ctx, w.poll)
	defer cancel()
	return waiter.Wait(timed, move.Mailbox{Name: "INBOX", Source: "INBOX"})
}
