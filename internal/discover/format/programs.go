package format

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Options of a file.
type Options struct {
	Name    string   // of the person, for the From field; "": none
	Command string   // for a shell, prints the password, or the token where people sign in with one; "": the program asks
	Notes   []string // sentences that begin the file as comments, if it can have any
	CA      string   // file with the authorities to trust; "": those of the system
	Colour  bool     // qr: drawn with colours of a terminal
	Picture bool     // qr: as SVG instead of characters
}

// writers are the files that can be written, by name.
var writers = []struct {
	name  string
	write func(a discover.Answer, o Options) ([]byte, error)
}{
	{"autoconfig", func(a discover.Answer, o Options) ([]byte, error) {
		body, err := Autoconfig(a, Provider{})
		return commented(body, o.Notes), err
	}},
	{"mobileconfig", func(a discover.Answer, o Options) ([]byte, error) {
		body, err := Mobileconfig(a, Provider{}, o.Name, false)
		return commented(body, o.Notes), err
	}},
	{"pacc", func(a discover.Answer, o Options) ([]byte, error) { return PACC(a, Provider{}) }},
	{"qr", writeQR},
	{"muttrc", program(muttrc)},
	{"mbsync", program(mbsync)},
	{"msmtp", program(msmtp)},
	{"aerc", program(aerc)},
	{"fetchmail", program(fetchmail)},
	{"getmail", program(getmail)},
	{"imapsync", program(imapsync)},
	{"offlineimap", program(offlineimap)},
}

// Names returns the forms that Write knows.
func Names() (all []string) {
	for _, w := range writers {
		all = append(all, w.name)
	}
	return all
}

// Write writes a file of the named form. Faults: Invalid for a name that there is not, or a
// value that the form cannot hold; NotFound if the answer has no service that the program
// speaks; Unsupported if the program cannot sign in there.
func Write(name string, a discover.Answer, o Options) ([]byte, error) {
	i := slices.Index(Names(), name)
	if i < 0 {
		return nil, fault.Newf(fault.Invalid, "there is no form %q; there are %s", name, strings.Join(Names(), ", "))
	}
	return writers[i].write(a, o)
}

// comments makes lines of comments of notes. Some readers take a backslash at the end of any line
// for a line that goes on.
func comments(notes []string) string {
	var b strings.Builder
	for _, n := range notes {
		fmt.Fprintf(&b, "# Note: %s\n", commentText(n, "\\`"))
	}
	return b.String()
}

// commentText is a note without control characters and what means something in comments.
func commentText(note, special string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || strings.ContainsRune(special, r) {
			return ' '
		}
		return r
	}, note)
}

// commented puts notes behind the first line of an XML document.
func commented(document []byte, notes []string) []byte {
	head, rest, ok := strings.Cut(string(document), "\n")
	if !ok || len(notes) == 0 {
		return document
	}
	var b strings.Builder
	for _, n := range notes {
		fmt.Fprintf(&b, "<!-- Note: %s -->\n", strings.ReplaceAll(commentText(n, "<>"), "--", "- -"))
	}
	return []byte(head + "\n" + b.String() + rest)
}

func writeQR(a discover.Answer, o Options) ([]byte, error) {
	text, err := QR(a, o.Name)
	if err != nil {
		return nil, err
	}
	p, err := Draw(text)
	if err != nil {
		return nil, err
	}
	if o.Picture {
		return p.SVG(), nil
	}
	return []byte(p.Text(o.Colour)), nil
}

// account is what a program of the command line is told.
type account struct {
	Options
	address string
	domain  string
	imap    server
	pop3    server
	smtp    server
}

// server is one of the account's; its host is "" if there is none.
type server struct {
	host  string
	port  int
	user  string
	tls   bool // from the first byte
	stls  bool // by STARTTLS
	token bool // people sign in with a token alone
}

func (s server) known() bool { return s.host != "" }

// program makes a writer of a function that lays lines down.
func program(lay func(*sheet, account) error) func(discover.Answer, Options) ([]byte, error) {
	return func(a discover.Answer, o Options) ([]byte, error) {
		acc := account{Options: o, address: a.Address, domain: a.Domain}
		if _, _, ok := cutAddress(a.Address); !ok {
			return nil, fault.New(fault.Invalid, "the file needs a whole address, not only a domain")
		}
		unusable := ""
		for protocol, at := range map[string]*server{"imap": &acc.imap, "pop3": &acc.pop3, "smtp": &acc.smtp} {
			s, ok := first(a, protocol)
			if !ok {
				continue
			}
			name, err := user(a, s)
			if err == nil {
				err = oneLine(s.Host, name)
			}
			if err != nil {
				return nil, err
			}
			if !takesPassword(s.Auth) && !takesToken(s.Auth) {
				unusable = fmt.Sprintf("%s takes neither a password nor a token: %s", s.Host, strings.Join(s.Auth, ", "))
				continue
			}
			*at = server{s.Host, s.Port, name, s.Security == discover.TLS, s.Security == discover.StartTLS, !takesPassword(s.Auth)}
		}
		if err := oneLine(a.Address, a.Domain, o.Name, o.CA, o.Command); err != nil {
			return nil, err
		}
		var sh sheet
		err := lay(&sh, acc)
		if fault.Is(err, fault.NotFound) && unusable != "" {
			err = fault.New(fault.Unsupported, unusable)
		}
		if err != nil {
			return nil, err
		}
		text := sh.String()
		if first, rest, _ := strings.Cut(text, "\n"); strings.HasPrefix(first, "#!") {
			return []byte(first + "\n" + comments(o.Notes) + rest), nil
		}
		return []byte(comments(o.Notes) + text), nil
	}
}

// needs says that a program has nothing to talk to.
func needs(protocols string) error {
	return fault.Newf(fault.NotFound, "this program speaks %s, and no such server was found", protocols)
}

// needsPassword says that a program cannot sign in.
func needsPassword(s server, program string) error {
	if s.token {
		return fault.Newf(fault.Unsupported, "%s takes no password, only tokens (OAuth2), which %s cannot use by itself", s.host, program)
	}
	return nil
}

// sheet is a file that grows line by line.
type sheet struct{ strings.Builder }

func (s *sheet) line(format string, args ...any) { fmt.Fprintf(s, format+"\n", args...) }

// label is a name for an account in a file: the address, if it has no character that any of
// the forms knows.
func (a account) label() string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@.-_", r) {
			return r
		}
		return '_'
	}, a.address)
}

// fallback is a command that prints a password, for programs that do not ask for one.
func (a account) fallback() string {
	return or(a.Command, "pass show "+shell("mail/"+a.label()))
}
