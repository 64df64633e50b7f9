package imapd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// capability is CAPABILITY (RFC 9051, 6.1.1).
func (s *session) capability(*command) (reply, error) {
	s.enc.Raw("* CAPABILITY ").Raw(s.capabilities()).CRLF()
	return ok("CAPABILITY done"), nil
}

// noop is NOOP and CHECK: what is of interest follows by itself (RFC 9051, 6.1.2;
// RFC 3501, 6.4.1).
func (s *session) noop(cmd *command) (reply, error) { return ok(cmd.row.name + " done"), nil }

// logout is LOGOUT (RFC 9051, 6.1.3).
func (s *session) logout(*command) (reply, error) {
	s.note("BYE", "", "see you")
	s.state = 0
	return ok("LOGOUT done"), nil
}

// namespace is NAMESPACE: a personal namespace without a prefix, and that of other users
// (RFC 9051, 6.3.10).
func (s *session) namespace(*command) (reply, error) {
	s.tellNamespace()
	return ok("NAMESPACE done"), nil
}

// id is ID (RFC 2971). What the client says of itself goes to the log.
func (s *session) id(_ *command, fields []imap.IDField) (reply, error) {
	var said []string
	for _, f := range fields {
		if f.Value != nil && f.Name == "x-martlet-mark" {
			if s.acct != nil && s.srv.opt.Marked != nil && s.srv.opt.Marked(s.acct.ID(), *f.Value) {
				return no("CANNOT", "this is the account that your mail goes into"), nil
			}
			continue
		}
		if f.Value != nil {
			said = append(said, fmt.Sprintf("%q=%q", f.Name, *f.Value))
		}
	}
	if len(said) > 0 {
		s.c.Log().Info("client says who it is", "id", strings.Join(said, " "))
	}
	s.enc.Raw(`* ID ("name" "Martlet"`)
	if v := s.srv.opt.Version; v != "" && s.state != fresh {
		s.enc.Raw(` "version" `).String(v)
	}
	s.enc.Raw(")").CRLF()
	return ok("ID done"), nil
}

// enable is ENABLE (RFC 5161; RFC 9051, 6.3.1). The untagged line is sent even if
// nothing was enabled: clients wait for it.
func (s *session) enable(_ *command, words []string) (reply, error) {
	var done []string
	for _, w := range words {
		switch w {
		case "IMAP4REV2":
			w, s.rev2 = "IMAP4rev2", true
			s.enc.UTF8, s.dec.UTF8 = true, true
		case "CONDSTORE":
			s.enableCondstore()
		case "QRESYNC":
			s.enableCondstore()
			s.qresync = true
		case "UIDONLY":
			s.uidOnly = true
		case "OBJECTID+":
			s.objectID = true
		case "UTF8=ACCEPT":
			s.utf8 = true
			s.enc.UTF8, s.dec.UTF8 = true, true
		case "METADATA", "METADATA-SERVER":
			s.enableMetadata(w)
		default:
			continue
		}
		if !slices.Contains(done, w) {
			done = append(done, w)
		}
	}
	s.enc.Raw(strings.TrimSuffix("* ENABLED "+strings.Join(done, " "), " ")).CRLF()
	return ok("ENABLE done"), nil
}

// enableCondstore marks the client as one that knows modseqs. If a mailbox is
// selected it must be told where it stands (RFC 7162, 3.1.2.1).
func (s *session) enableCondstore() {
	if s.condstore {
		return
	}
	s.condstore = true
	if s.view != nil {
		s.tellModSeq()
	}
}

func (s *session) tellModSeq() {
	s.note("OK", "HIGHESTMODSEQ "+s.view.toldUpTo(), "highest modseq")
}
