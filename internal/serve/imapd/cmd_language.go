package imapd

import (
	"strings"

	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// defaultLanguage is English in ASCII: what a session speaks until it is asked for
// something else (RFC 5255, 3.1; RFC 2277, 4.5).
const defaultLanguage = "i-default"

// languageNames are those that LANGUAGE takes. "default" means the first.
var languageNames = []string{defaultLanguage, "en", "de"}

// newLanguages returns the languages by their names; that of i-default is nil.
func newLanguages() map[string]*language {
	return map[string]*language{"en": newLanguage("en", nil), "de": newLanguage("de", german)}
}

// languageCommand is LANGUAGE: what language human-readable texts are in, or which there
// are (RFC 5255, 3.2). The first that is here wins.
func (s *session) languageCommand(*command) (reply, error) {
	var wanted []string
	if !s.dec.ExpectLanguages(&wanted) || !s.dec.ExpectCRLF() {
		return reply{}, s.dec.Err()
	}
	if len(wanted) == 0 {
		s.enc.Raw("* LANGUAGE (").Raw(strings.Join(languageNames, " ")).Raw(")").CRLF()
		return ok("LANGUAGE done"), nil
	}
	for _, w := range wanted {
		tag, found := imap.LookUpLanguage(languageNames, w)
		if strings.EqualFold(w, "default") {
			tag, found = defaultLanguage, true
		}
		if !found {
			continue
		}
		s.lang = s.srv.languages[tag]
		s.enc.Raw("* LANGUAGE (").Raw(tag).Raw(")").CRLF()
		if s.state != fresh {
			s.tellNamespace()
		}
		return ok("LANGUAGE done"), nil
	}
	return no("", "no such language"), nil
}

// say returns a text in the language of the session.
func (s *session) say(text string) string {
	if s.lang == nil {
		return text
	}
	return s.lang.translate(text)
}

// tellNamespace writes the NAMESPACE response, with the name of the namespace as people
// of the session's language would call it (RFC 5255, 3.4).
func (s *session) tellNamespace() {
	e := s.enc.Raw(`* NAMESPACE (("" "/")) (("` + otherUsers + `/" "/"`)
	if local := s.say(otherUsers); local != otherUsers {
		e.Raw(` "TRANSLATION" (`).String(imap.EncodeUTF7(local + "/")).Raw(")")
	}
	e.Raw(")) NIL").CRLF()
}
