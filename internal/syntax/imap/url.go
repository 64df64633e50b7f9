package imap

import (
	"bufio"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/fault"
)

// MaxURL is the most bytes of an IMAP URL that is understood.
const MaxURL = 8 << 10

// Access says who may use a URL that carries its own authorisation (RFC 4467, 3).
type Access uint8

const (
	AccessNone      Access = iota // no ;URLAUTH=
	AccessAnonymous               // any session
	AccessAuthUser                // any session that is signed in
	AccessUser                    // the user named
	AccessSubmit                  // a submission server on behalf of the user named
)

// URL is an IMAP URL of a message or a part of one (RFC 5092; RFC 4467 for what is
// authorised). URLs of servers, mailboxes and searches are not understood: nothing in
// IMAP takes them.
type URL struct {
	Absolute bool   // imap://...; else the path is relative to the session's server
	User     string // before the @, decoded; "" if none
	Host     string // with its port, as written

	Rooted      bool   // a relative URL that begins with a slash
	Mailbox     string // in UTF-8; "" means the selected mailbox
	UIDValidity uint32 // 0 if not given
	UID         uint32
	Part        FetchItem // Kind FetchSection; the section and the partial range

	Expire     time.Time // zero if not given
	Access     Access
	AccessUser string // of AccessUser and AccessSubmit, decoded
	Rump       string // the URL up to and with the access identifier
	Mechanism  string // after the rump, as written; "" if there is none
	Token      string
}

func badURL(why string) error { return fault.New(fault.Invalid, "the URL "+why) }

// ParseURL reads a URL of a message. Faults: Invalid with the reason. Linear in its
// length.
func ParseURL(s string) (URL, error) {
	var u URL
	if len(s) > MaxURL {
		return u, badURL("is longer than " + strconv.Itoa(MaxURL) + " bytes")
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return u, badURL("has a character that must be percent-encoded")
		}
	}
	rest, err := u.server(s)
	if err != nil {
		return u, err
	}
	if strings.ContainsAny(rest, "?#") {
		return u, badURL("is no message's")
	}
	path, params, _ := strings.Cut(rest, ";")
	if err := u.parameters(s, path, params); err != nil {
		return u, err
	}
	if u.UID == 0 {
		return u, badURL("names no message")
	}
	return u, nil
}

// server reads scheme, user and host, and returns the path without its first slash.
func (u *URL) server(s string) (string, error) {
	const scheme = "imap://"
	if len(s) < len(scheme) || !strings.EqualFold(s[:len(scheme)], scheme) {
		if strings.HasPrefix(s, "//") {
			return "", badURL("leads to another server")
		}
		if i := strings.IndexAny(s, ":/;"); i >= 0 && s[i] == ':' {
			return "", badURL("has another scheme than imap")
		}
		u.Rooted = strings.HasPrefix(s, "/")
		return strings.TrimPrefix(s, "/"), nil
	}
	u.Absolute, u.Rooted = true, true
	authority, path, ok := strings.Cut(s[len(scheme):], "/")
	if !ok {
		return "", badURL("names no mailbox")
	}
	// A user with an unescaped @ is no URL, but what people write.
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, _, _ := strings.Cut(authority[:i], ";")
		var err error
		if u.User, err = unescape(user); err != nil {
			return "", err
		}
		authority = authority[i+1:]
	}
	if authority == "" {
		return "", badURL("names no host")
	}
	u.Host = authority
	return path, nil
}

// The parameters of a path in the order in which they must come (RFC 5092, 11).
var urlParameters = [...]struct {
	name  string
	slash bool // a slash stands before it
	read  func(u *URL, value string) bool
}{
	{"UIDVALIDITY", false, func(u *URL, v string) bool { return number32(v, &u.UIDValidity) }},
	{"UID", true, func(u *URL, v string) bool { return number32(v, &u.UID) }},
	{"SECTION", true, (*URL).section},
	{"PARTIAL", true, (*URL).partial},
	{"EXPIRE", false, (*URL).expire},
	{"URLAUTH", false, (*URL).access},
}

// parameters reads the mailbox and what follows it. whole is the whole URL.
func (u *URL) parameters(whole, path, params string) error {
	at := 0
	before, slash := strings.CutSuffix(path, "/")
	slash = slash || path == "" // ";UID=1" of the selected mailbox
	var err error
	if u.Mailbox, err = unescape(before); err != nil {
		return err
	}
	if _, err := ParseMailbox(u.Mailbox, true); err != nil {
		return badURL("names no mailbox that can be")
	}
	for more := params != ""; more; {
		var one string
		one, params, more = strings.Cut(params, ";")
		name, value, ok := strings.Cut(one, "=")
		for at < len(urlParameters) && !strings.EqualFold(urlParameters[at].name, name) {
			at++
		}
		if !ok || at == len(urlParameters) || urlParameters[at].slash != slash {
			return badURL("has a parameter that is unknown or in the wrong place")
		}
		slash = false
		if more {
			value, slash = strings.CutSuffix(value, "/")
		}
		if name = urlParameters[at].name; name == "URLAUTH" {
			u.rump(whole, value)
			value, _, _ = strings.Cut(value, ":")
		}
		if !urlParameters[at].read(u, value) {
			return badURL("has a bad " + name)
		}
		at++
	}
	return nil
}

// rump splits a URL before the mechanism and the token, and changes nothing else of it
// (RFC 4467, 6).
func (u *URL) rump(whole, value string) {
	_, verifier, ok := strings.Cut(value, ":")
	if !ok {
		u.Rump = whole
		return
	}
	u.Rump = whole[:len(whole)-len(verifier)-1]
	u.Mechanism, u.Token, _ = strings.Cut(verifier, ":")
}

func number32(s string, out *uint32) bool {
	n, err := strconv.ParseUint(s, 10, 32)
	*out = uint32(n)
	return err == nil && n > 0 && isDigit(s[0])
}

func (u *URL) section(value string) bool {
	text, err := unescape(value)
	if err != nil || text == "" || strings.ContainsAny(text, "\r\n\x00]") {
		return false
	}
	d := NewDecoder(bufio.NewReaderSize(strings.NewReader(text+"]\r\n"), 64), Limits{Line: MaxURL, String: MaxURL, Strings: MaxURL, Depth: 2, Keys: MaxFieldNames + 1})
	u.Part.Kind = FetchSection
	return d.section(&u.Part) && d.ExpectCRLF()
}

func (u *URL) partial(value string) bool {
	first, length, ok := strings.Cut(value, ".")
	offset, err := strconv.ParseUint(first, 10, 63)
	if err != nil || !isDigit(first[0]) {
		return false
	}
	u.Part.Partial, u.Part.Offset, u.Part.Len = true, offset, math.MaxInt64
	if !ok {
		return true
	}
	n, err := strconv.ParseUint(length, 10, 63)
	u.Part.Len = n
	return err == nil && n > 0 && isDigit(length[0])
}

func (u *URL) expire(value string) bool {
	text, err := unescape(value)
	if err != nil {
		return false
	}
	u.Expire, err = time.Parse(time.RFC3339, strings.ToUpper(text))
	return err == nil && !u.Expire.IsZero()
}

func (u *URL) access(value string) bool {
	kind, user, named := strings.Cut(value, "+")
	switch low := strings.ToLower(kind); {
	case low == "anonymous" && !named:
		u.Access = AccessAnonymous
	case low == "authuser" && !named:
		u.Access = AccessAuthUser
	case low == "user" && named:
		u.Access = AccessUser
	case low == "submit" && named:
		u.Access = AccessSubmit
	default:
		return false
	}
	var err error
	u.AccessUser, err = unescape(user)
	return err == nil && named == (u.AccessUser != "")
}

// unescape decodes %xx; what comes out must be UTF-8 without controls.
func unescape(s string) (string, error) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) {
				return "", badURL("has a broken percent-encoding")
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil || !isHex(s[i+1]) {
				return "", badURL("has a broken percent-encoding")
			}
			c = byte(n)
			i += 2
		}
		if c < ' ' || c == 0x7f {
			return "", badURL("has a control character")
		}
		b = append(b, c)
	}
	if !utf8.Valid(b) {
		return "", badURL("is not UTF-8")
	}
	return string(b), nil
}

func isHex(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

// URLText returns a URL as the text of a response code, which cannot hold a "]".
func URLText(s string) string {
	s = strings.ReplaceAll(clipTo(s, MaxURL), "]", "%5D")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, s)
}

func clipTo(s string, n int) string { return s[:min(len(s), n)] }
