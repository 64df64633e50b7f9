package imapd

import (
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

func (s *session) searchCommand(cmd *command) (reply, error) {
	var args imap.Search
	if !s.dec.ExpectSP() || !s.dec.ExpectSearch(&args) || !s.dec.ExpectCRLF() {
		return reply{}, s.dec.Err()
	}
	return no("CANNOT", "SEARCH is not here yet"), nil
}
