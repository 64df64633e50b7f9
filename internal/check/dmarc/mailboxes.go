package dmarc

import (
	"bytes"
	"strings"

	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// maxMailboxes is how many authors one message may have to be vouched for.
const maxMailboxes = 100

// Mailboxes reads who a message says it is from, for those who are to vouch for it: all addresses
// that some program could show as the author's, in the form of a reverse-path without its
// brackets. Where the From field is not as all programs read it alike, problem says so.
// Neither is there without a From field.
func Mailboxes(header []byte) (addresses []string, problem string) {
	fields := 0
	for _, line := range fieldsOf(header) {
		name, value, _ := bytes.Cut(line, []byte{':'})
		switch {
		case strings.EqualFold(strings.TrimRight(string(name), " \t"), "From"):
			fields++
		case looksLikeFrom(name):
			return nil, "the message has a line that some take for a From field"
		default:
			continue
		}
		if fields > 1 {
			return nil, "the message has more than one From field"
		}
		s := mime.Unfold(value)
		p := fromParser{s: s}
		p.mailboxes()
		addresses, problem = p.addresses, p.problem
		for _, q := range disguised(s) {
			addresses = append(addresses, q.addresses...)
		}
		switch {
		case problem != "":
		case controls(s):
			problem = "the From field has a control character in it"
		case len(addresses) == 0:
			problem = "the From field names no author"
		case len(addresses) > maxMailboxes:
			problem = "the message has more than 100 authors"
		}
	}
	return addresses, problem
}

func controls(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) >= 0
}
