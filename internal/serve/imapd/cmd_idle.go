package imapd

import (
	"errors"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
)

// idling is an IDLE that is under way (RFC 2177; RFC 9051, 6.3.13): what happens in the
// mailbox is told at once until the client says DONE. Each change of the account, and
// of that whose mailbox is selected, wakes the session; between it holds nothing but this.
type idling struct {
	cmd         *command
	own, shared *store.Watcher
}

// beginIdle is IDLE. Its answer comes with the client's DONE, when the session has been
// carried on perhaps many times.
func (s *session) beginIdle(cmd *command) (reply, error) {
	s.idling = &idling{cmd: cmd, own: s.acct.Wake(s.c.Wake)}
	if s.view != nil && s.view.prefix != "" {
		s.idling.shared = s.view.acct.Wake(s.c.Wake)
	}
	err := s.ask(s.say("idling"))
	if err == nil {
		err = s.tellIdle(cmd)
	}
	if err != nil {
		s.endIdle()
	}
	return reply{sent: true}, err
}

// idle carries IDLE on: with news, or to its end.
func (s *session) idle(input bool) error {
	cmd := s.idling.cmd
	cmd.begun = s.srv.opt.Store.Moment()
	if !input {
		err := s.tellIdle(cmd)
		if err == nil {
			return nil
		}
		s.endIdle()
		return s.conclude(cmd, reply{}, err)
	}
	s.endIdle()
	rep := ok("IDLE done")
	line, err := s.dec.Line()
	if err == nil && !strings.EqualFold(line, "DONE") {
		rep = bad("IDLE ends with DONE")
	}
	return s.conclude(cmd, rep, err)
}

// endIdle ends the watch, if there is one.
func (s *session) endIdle() {
	if s.idling == nil {
		return
	}
	s.idling.own.Stop()
	if s.idling.shared != nil {
		s.idling.shared.Stop()
	}
	s.idling = nil
}

// tellIdle tells what has happened.
func (s *session) tellIdle(cmd *command) error {
	if s.view != nil {
		if err := s.mayStay(); fault.Is(err, fault.Unavailable) && !errors.Is(err, store.ErrSetBack) { // the next change wakes it again
			return nil
		} else if err != nil {
			return err
		}
		if err := s.sync(cmd, tellAll); err != nil {
			return fatal{err}
		}
	}
	if err := s.tellMetadata(); err != nil {
		return err
	}
	return s.tellNews()
}
