package imapd

import (
	"strings"
)

// idle is IDLE (RFC 2177; RFC 9051, 6.3.13): what happens in the mailbox is told at
// once until the client says DONE. An idling session holds no buffers; a tick of the
// account's watch wakes it.
func (s *session) idle(cmd *command) (reply, error) {
	ticks, stop := s.acct.Watch()
	shared, stopShared := ticks, stop
	if s.view != nil && s.view.prefix != "" {
		shared, stopShared = s.view.acct.Watch()
	}
	done := make(chan struct{})
	defer func() { stop(); stopShared(); close(done) }()
	go func() {
		for {
			select {
			case <-ticks:
				s.c.Wake()
			case <-shared:
				s.c.Wake()
			case <-done:
				return
			}
		}
	}()
	if err := s.ask(s.say("idling")); err != nil {
		return reply{}, err
	}
	for {
		if s.view != nil {
			if err := s.mayStay(); err != nil {
				return reply{}, err
			}
			if err := s.sync(cmd, tellAll); err != nil {
				return reply{}, fatal{err}
			}
		}
		if err := s.tellMetadata(); err != nil {
			return reply{}, err
		}
		if err := s.tellNews(); err != nil {
			return reply{}, err
		}
		if err := s.flush(); err != nil {
			return reply{}, err
		}
		s.enc.Release()
		input, err := s.c.Wait()
		if err != nil {
			return reply{}, fatal{err}
		}
		if input {
			break
		}
	}
	line, err := s.dec.Line()
	if err != nil {
		return reply{}, err
	}
	if !strings.EqualFold(line, "DONE") {
		return bad("IDLE ends with DONE"), nil
	}
	return ok("IDLE done"), nil
}
