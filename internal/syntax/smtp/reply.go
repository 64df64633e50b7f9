package smtp

import (
	"strconv"
	"strings"
)

// Reply is what a server answers (RFC 5321, 4.2).
type Reply struct {
	Code int // 200 to 599

	// Enhanced is the enhanced status code such as "5.7.1", or "" in the greeting
	// and in the replies to HELO, EHLO and LHLO (RFC 2034, 3).
	Enhanced string

	Lines []string // at least one; none has CR or LF
}

// NewReply returns a reply of one line.
func NewReply(code int, enhanced, text string) *Reply {
	return &Reply{Code: code, Enhanced: enhanced, Lines: []string{text}}
}

func refuse(code int, enhanced, text string) *Reply { return NewReply(code, enhanced, text) }

// Positive tells whether the command succeeded (2yz).
func (r *Reply) Positive() bool { return r.Code/100 == 2 }

// Temporary tells whether the same command may succeed later (4yz).
func (r *Reply) Temporary() bool { return r.Code/100 == 4 }

// Text returns all lines, joined by a space.
func (r *Reply) Text() string { return strings.Join(r.Lines, " ") }

// String returns the reply as one line: "550 5.7.1 no relaying".
func (r *Reply) String() string {
	s := strconv.Itoa(r.Code)
	if r.Enhanced != "" {
		s += " " + r.Enhanced
	}
	return s + " " + r.Text()
}

// textRoom is what a reply line may hold besides code, enhanced code and CRLF to
// stay within 512 bytes (RFC 5321, 4.5.3.1.5).
const textRoom = 480

// Append appends the reply as it goes over the wire. Text that is too long for a
// line is spread over several; a character that is not printable ASCII becomes "?".
func (r *Reply) Append(b []byte) []byte {
	lines := r.Lines
	if len(lines) == 0 {
		lines = []string{""}
	}
	for i, line := range lines {
		for {
			part, rest := fold(line)
			b = r.appendLine(b, part, rest == "" && i == len(lines)-1)
			if rest == "" {
				break
			}
			line = rest
		}
	}
	return b
}

func (r *Reply) appendLine(b []byte, text string, last bool) []byte {
	b = strconv.AppendInt(b, int64(r.Code), 10)
	if last {
		b = append(b, ' ')
	} else {
		b = append(b, '-')
	}
	if r.Enhanced != "" {
		b = append(append(b, r.Enhanced...), ' ')
	}
	for _, c := range text {
		if c < ' ' || c > '~' {
			c = '?'
		}
		b = append(b, byte(c))
	}
	return append(b, "\r\n"...)
}

// fold cuts a line that is too long, at a space where there is one.
func fold(line string) (part, rest string) {
	if len(line) <= textRoom {
		return line, ""
	}
	at := strings.LastIndexByte(line[:textRoom], ' ')
	if at <= 0 {
		return line[:textRoom], line[textRoom:]
	}
	return line[:at], line[at+1:]
}

// Extensions returns the keywords of a reply to EHLO or LHLO, in upper case, with
// their parameters (RFC 5321, 4.1.1.1). "AUTH=PLAIN", an old misspelling, counts as
// AUTH.
func (r *Reply) Extensions() map[string]string {
	found := map[string]string{}
	for i, line := range r.Lines {
		if i == 0 {
			continue // the server's name and greeting
		}
		name, value, _ := strings.Cut(line, " ")
		name = strings.ToUpper(name)
		if old, ok := strings.CutPrefix(name, "AUTH="); ok {
			if found["AUTH"] == "" {
				found["AUTH"] = strings.TrimSpace(old + " " + value)
			}
			continue
		}
		found[name] = strings.TrimSpace(value)
	}
	return found
}
