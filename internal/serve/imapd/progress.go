package imapd

import (
	"context"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/turn"
)

// INPROGRESS (RFC 9585): a command that takes long says how far it is, so that the
// client neither gives up nor leaves its user without a sign of life.

const (
	progressEvery = 10 * time.Second // RFC 9585, 4 recommends 10 to 15
	progressRows  = 4096             // messages looked at in memory between two looks at the clock
	waitedFor     = 100              // messages from which on the store is waited for with signs of life

	passEvery = 2 * time.Millisecond   // a command works until it lets others go before
	lookEvery = 100 * time.Millisecond // and until it looks whether it is still wanted
	stopAfter = time.Second            // what has worked for so long does not hold up a stop
)

// progress is how far the command under way has come.
type progress struct {
	tag  string
	due  time.Time  // when to tell it next
	goal func() int // how many messages it has to deal with; nil: not known
	open bool       // nor can it be
	base int        // dealt with before those that are counted now
	told int        // the highest number told

	pass  time.Time // when to let others go before
	look  time.Time // when to look whether anybody waits for the command
	asked bool      // a client that may have gone has been written to
}

// beginProgress starts the clock of a command.
func (s *session) beginProgress(cmd *command) {
	now := s.srv.opt.Now()
	s.progress = progress{tag: cmd.tag, due: now.Add(progressEvery), pass: now.Add(passEvery), look: now.Add(lookEvery)}
}

// reached notes that the command has dealt with so many messages, and tells it if it is
// time. What has been written so far must be whole lines, and no Snapshot open.
func (s *session) reached(done int) error {
	if s.progress.tag == "" {
		return nil
	}
	now := s.srv.opt.Now()
	if err := s.mayGoOn(now, done); err != nil || now.Before(s.progress.due) {
		return err
	}
	s.progress.due = now.Add(progressEvery)
	return s.tellProgress(done)
}

// mayGoOn lets others go before if it is time, and fails if the command is to be given
// up: its client has gone, the server stops, or it has worked for too long.
func (s *session) mayGoOn(now time.Time, done int) error {
	p := &s.progress
	if now.Before(p.pass) {
		return nil
	}
	p.pass = now.Add(passEvery)
	work := turn.Of(s.ctx)
	work.Yield()
	if now.Before(p.look) {
		return nil
	}
	p.look = now.Add(lookEvery)
	switch {
	case s.c.Stopping() && work.Used() > stopAfter:
		return fault.New(fault.Closed, "server is stopping")
	case work.Used() > s.srv.opt.CommandTime:
		return fault.New(fault.Limited, "the command takes too much time; ask for less at once")
	}
	switch s.c.Presence() {
	case netsrv.Gone:
		return fault.New(fault.Closed, "the client has gone")
	case netsrv.Silent: // which shows once it is written to
		if !p.asked {
			p.asked = true
			return s.tellProgress(done)
		}
	}
	return nil
}

// tellProgress writes the response and sends it at once.
func (s *session) tellProgress(done int) error {
	p := &s.progress
	done += p.base
	goal := "NIL"
	if p.goal != nil { // which is never reached before the end (RFC 9585, 4)
		n := max(p.goal(), 1)
		done, goal = min(done, n-1), strconv.Itoa(n)
		p.goal = func() int { return n }
	}
	p.told = max(p.told, done)
	tag := "NIL"
	if !strings.Contains(p.tag, "]") {
		tag = `"` + p.tag + `"`
	}
	s.note("OK", "INPROGRESS ("+tag+" "+strconv.Itoa(p.told)+" "+goal+")", "still at work")
	if err := s.flush(); err != nil {
		return err
	}
	return s.c.W.Flush()
}

// await does something with a set of messages in the store, which may take long, and gives signs of life until it
// is done. do must not touch the session, but for reading what nobody changes meanwhile.
func (s *session) await(pic *store.Picture, set mail.UIDSet, do func(ctx context.Context) error) error {
	if min(set.Len(), pic.Len()) < waitedFor {
		return do(s.ctx)
	}
	s.progress.goal = func() int { return pic.Existing(set).Len() }
	var done atomic.Int64
	ended := make(chan error, 1)
	var broken any // what do panicked with
	go func() {
		var err error
		defer func() {
			if v := recover(); v != nil {
				broken = panicked{v, debug.Stack()}
			}
			ended <- err
		}()
		err = do(store.Counted(s.ctx, &done))
	}()
	for {
		select {
		case err := <-ended:
			if broken != nil {
				panic(broken)
			}
			return err
		case <-s.srv.opt.After(progressEvery):
			// A client that cannot be written to is noticed when this is done.
			s.tellProgress(int(done.Load()))
		}
	}
}
