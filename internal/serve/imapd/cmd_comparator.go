package imapd

import (
	"slices"

	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// comparatorCommand is COMPARATOR: how SEARCH, SORT and THREAD compare texts in this
// session (RFC 5255, 4.7). The first argument that means a comparator wins.
func (s *session) comparatorCommand(cmd *command) (reply, error) {
	var args []string
	if !s.dec.ExpectComparators(&args) || !s.dec.ExpectCRLF() {
		return reply{}, s.dec.Err()
	}
	var all []imap.Comparator // that any argument means
	for _, order := range args {
		for _, c := range imap.MatchComparators(order) {
			if !slices.Contains(all, c) {
				all = append(all, c)
			}
		}
	}
	if len(args) > 0 && len(all) == 0 {
		return no("BADCOMPARATOR", "no such comparator"), nil
	}
	if len(all) > 0 {
		s.comparator = all[0]
	}
	e := s.enc
	e.Raw("* COMPARATOR ").Raw(s.comparator.String())
	if len(all) > 1 {
		e.Raw(" (")
		for i, c := range all {
			if i > 0 {
				e.SP()
			}
			e.Raw(c.String())
		}
		e.Raw(")")
	}
	e.CRLF()
	return ok("COMPARATOR done"), nil
}
