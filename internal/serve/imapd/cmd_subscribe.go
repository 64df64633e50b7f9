package imapd

import "github.com/martlet-mail/martlet/internal/store"

// subscribe is SUBSCRIBE (RFC 9051, 6.3.7). The name need not be a mailbox's: a
// client may want to keep it until it is.
func (s *session) subscribe(cmd *command, name string) (reply, error) {
	return s.setSubscribed(cmd, name, true)
}

// unsubscribe is UNSUBSCRIBE (RFC 9051, 6.3.8).
func (s *session) unsubscribe(cmd *command, name string) (reply, error) {
	return s.setSubscribed(cmd, name, false)
}

func (s *session) setSubscribed(cmd *command, name string, on bool) (reply, error) {
	if at, err := s.place(name); err == nil { // however the client writes the owner
		name = at.shown(at.name)
	}
	err := s.acct.Update(s.ctx, func(tx *store.Tx) error { return tx.Subscribe(name, on) })
	return ok(cmd.row.name + " done"), err
}
