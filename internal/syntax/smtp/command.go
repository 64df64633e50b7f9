package smtp

import (
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
)

// ParseCommand cuts a command line into the verb, in upper case, and its argument
// without space around it (RFC 5321, 4.1.1 tolerates trailing space). The verb may
// be one nobody knows. Bytes that no command can hold are refused here for all.
func ParseCommand(line []byte) (verb, arg string, bad *Reply) {
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f {
			return "", "", refuse(500, "5.5.2", "control character in command")
		}
	}
	verb, arg, _ = strings.Cut(strings.TrimRight(string(line), " \t"), " ")
	if verb == "" || len(verb) > 16 {
		return "", "", refuse(500, "5.5.2", "command not recognised")
	}
	for i := 0; i < len(verb); i++ {
		if c := verb[i] | 0x20; c < 'a' || c > 'z' {
			return "", "", refuse(500, "5.5.2", "command not recognised")
		}
	}
	return strings.ToUpper(verb), strings.Trim(arg, " \t"), nil
}

// ParseHelo checks the name of EHLO, HELO and LHLO. RFC 5321, 4.1.1.1 asks for a
// domain or an address literal; clients in private networks give all sorts of
// names, so that any token is taken that can stand in a Received field without
// being mistaken for anything else there.
func ParseHelo(arg string) (name string, bad *Reply) {
	if arg == "" {
		return "", refuse(501, "5.5.4", "a host name is needed")
	}
	if len(arg) > 255 {
		return "", refuse(501, "5.5.4", "host name is too long")
	}
	for i := 0; i < len(arg); i++ {
		if c := arg[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;\"`, c) >= 0 {
			return "", refuse(501, "5.5.4", "host name has a character that is not allowed")
		}
	}
	return arg, nil
}

// ParseBDAT reads the argument of BDAT (RFC 3030, 2).
func ParseBDAT(arg string) (size int64, last bool, bad *Reply) {
	digits, rest, more := strings.Cut(arg, " ")
	if more {
		last = strings.EqualFold(strings.TrimLeft(rest, " "), "LAST")
	}
	size, ok := parseNumber(digits)
	if !ok || more && !last {
		return 0, false, refuse(501, "5.5.4", "syntax: BDAT size [LAST]")
	}
	return size, last, nil
}

// ParseBURL reads the argument of BURL (RFC 4468, 3.5). What the URL means is for others
// to say.
func ParseBURL(arg string) (url string, last bool, bad *Reply) {
	url, rest, more := strings.Cut(arg, " ")
	last = strings.EqualFold(strings.TrimLeft(rest, " "), "LAST")
	if url == "" || more && !last {
		return "", false, refuse(501, "5.5.4", "syntax: BURL URL [LAST]")
	}
	return url, last, nil
}

// ParseAuth reads the argument of AUTH: a mechanism in upper case and the initial
// response as it stands, in base64 or "=" for an empty one, or "" if there is none
// (RFC 4954, 4). Package sasl decodes it.
func ParseAuth(arg string) (mechanism, initial string, bad *Reply) {
	mechanism, initial, _ = strings.Cut(arg, " ")
	if mechanism == "" || len(mechanism) > 20 {
		return "", "", refuse(501, "5.5.4", "syntax: AUTH mechanism [initial-response]")
	}
	for i := 0; i < len(mechanism); i++ {
		c := mechanism[i]
		if !isAlnum(c) && c != '-' && c != '_' {
			return "", "", refuse(501, "5.5.4", "mechanism has a character that is not allowed")
		}
	}
	return strings.ToUpper(mechanism), strings.TrimLeft(initial, " "), nil
}

// parseNumber reads up to 18 digits, so that the result never overflows.
func parseNumber(s string) (int64, bool) {
	if s == "" || len(s) > 20 || s[0] < '0' || s[0] > '9' {
		return 0, false // ParseInt would take a sign
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// Mail is what MAIL says.
type Mail struct {
	From mail.Address // zero is the null sender
	Size int64        // SIZE; 0 if not given (RFC 1870, 6)
	Body Body
	UTF8 bool // SMTPUTF8 (RFC 6531)
	Ret  mail.Ret
	// EnvID is the DSN envelope identifier, decoded (RFC 3461, 4.4).
	EnvID string
	// Auth is who first submitted the message, decoded; "<>" if that is not known,
	// "" if not said (RFC 4954, 5). It is only to be believed of trusted peers.
	Auth string
	// RequireTLS: REQUIRETLS was given (RFC 8689, 2).
	RequireTLS bool

	Ask
}

// Body is what the message consists of.
type Body uint8

const (
	BodyDefault Body = iota // not said: 7BIT
	Body7Bit
	Body8Bit   // 8BITMIME (RFC 6152)
	BodyBinary // BINARYMIME (RFC 3030)
)

var bodyNames = [...]string{"", "7BIT", "8BITMIME", "BINARYMIME"}
