package imapd

import "github.com/martlet-mail/martlet/internal/fault"

// remove is DELETE (RFC 9051, 6.3.5). A client that deletes the mailbox it has
// selected leaves it; others who have it selected are disconnected (RFC 2180, 3.3).
func (s *session) remove(_ *command, name string) (reply, error) {
	id, err := s.acct.DeleteMailbox(s.ctx, name)
	if err != nil {
		if fault.Is(err, fault.Denied) {
			return reply{}, coded("CANNOT", err)
		}
		return reply{}, err
	}
	if s.view != nil && s.view.box == id {
		s.leave(true)
	}
	s.tellNormal(`\NonExistent`, name)
	return ok("DELETE done"), nil
}
