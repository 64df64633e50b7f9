package imapd

// remove is DELETE (RFC 9051, 6.3.5). A client that deletes the mailbox it has
// selected leaves it; others who have it selected are disconnected (RFC 2180, 3.3).
func (s *session) remove(_ *command, name string) (reply, error) {
	at, err := s.place(name)
	if err != nil {
		return reply{}, err
	}
	id, err := at.acct.DeleteMailbox(s.ctx, at.name)
	if err != nil {
		return reply{}, err
	}
	if s.view.is(&at.owner, id) {
		s.leave(true)
	}
	s.tellNormal(`\NonExistent`, name)
	return ok("DELETE done"), nil
}
