package imapd

import (
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// tellRecent tells how many messages are \Recent: whenever some arrived, and if some of
// them went (RFC 3501, 7.3.2).
func (s *session) tellRecent(anyhow bool) {
	n := s.view.recentCount()
	if s.rev2 || n == s.view.recentN && !anyhow {
		return
	}
	s.view.recentN = n
	s.enc.Raw("* ").Number(uint64(n)).Raw(" RECENT").CRLF()
}

// findRecent adds what no session has seen yet to what is recent here. A session that
// only reads leaves it to be recent for another (RFC 3501, 6.3.2).
func (v *view) findRecent() {
	from, next := mail.UID(0), v.pic.Mailbox().UIDNext
	if v.readOnly {
		from = v.acct.RecentFrom(v.pic)
	} else {
		from = v.acct.ClaimRecent(v.pic)
	}
	if from < next {
		v.recent.AddRange(from, next-1)
	}
}

func (v *view) recentCount() int {
	n := 0
	for _, r := range v.recent {
		from, _ := v.pic.Seq(r.From)
		last, there := v.pic.Seq(r.To)
		if n += last - from; there {
			n++
		}
	}
	return n
}

// tellFlags tells which flags there are and which can be kept (RFC 9051, 7.3.5).
func (s *session) tellFlags() {
	v := s.view
	box := v.pic.Mailbox()
	all := append(systemFlags(mail.AllRights), box.Keywords...)
	s.enc.Raw("* FLAGS (").Raw(strings.Join(all, " ")).Raw(")").CRLF()
	if s.old {
		return
	}
	var kept []string
	if !v.readOnly {
		kept = systemFlags(v.rights)
		if _, keywords := v.rights.FlagRights(); keywords {
			kept = append(kept, box.Keywords...)
			if len(box.Keywords) < store.MaxKeywords {
				kept = append(kept, `\*`)
			}
		}
	}
	s.note("OK", "PERMANENTFLAGS ("+strings.Join(kept, " ")+")", "flags that are kept")
}

// systemFlags returns the names of the flags that one with these rights may change
// (RFC 4314, 5.1.1).
func systemFlags(rights mail.Rights) (names []string) {
	may, _ := rights.FlagRights()
	for _, f := range [...]mail.Flags{mail.Answered, mail.Flagged, mail.Deleted, mail.Seen, mail.Draft} {
		if may.Has(f) {
			names = append(names, f.String())
		}
	}
	return names
}
