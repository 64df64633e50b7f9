package smtp

import (
	"bufio"
	"bytes"
	"io"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// ReadReply reads a reply as a client (RFC 5321, 4.2.1). A line may end in LF alone:
// nothing hangs on it here.
//
// Faults: Invalid for what is no reply, or one whose lines have different codes;
// Limited for one over the limits of this package. After either the connection is
// of no more use. Other errors are those of r; io.EOF before the end of the reply is
// io.ErrUnexpectedEOF.
func ReadReply(r *bufio.Reader) (*Reply, error) {
	var reply Reply
	for text := 0; ; {
		line, err := readToLF(r, maxReplyLine)
		switch {
		case fault.Is(err, fault.TooLarge), fault.Is(err, fault.Limited):
			return nil, fault.New(fault.Limited, "the other server's reply has a line that is too long")
		case err == io.EOF && len(reply.Lines) > 0:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
		last, ok := reply.add(bytes.TrimRight(line, "\r\n"))
		if !ok {
			return nil, fault.New(fault.Invalid, "the other server's reply makes no sense")
		}
		if last {
			return &reply, nil
		}
		text += len(line)
		if len(reply.Lines) >= maxReplyLines || text > maxReplyText {
			return nil, fault.New(fault.Limited, "the other server's reply does not end")
		}
	}
}

// add takes one line of a reply.
func (r *Reply) add(line []byte) (last, ok bool) {
	if len(line) < 3 || bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, 0) >= 0 {
		return false, false
	}
	code := 0
	for i, c := range line[:3] {
		if c < '0' || c > '9' || i == 0 && (c < '2' || c > '5') {
			return false, false
		}
		code = code*10 + int(c-'0')
	}
	first := len(r.Lines) == 0
	if !first && code != r.Code {
		return false, false
	}
	r.Code, last = code, true
	text := ""
	if len(line) > 3 {
		if line[3] != ' ' && line[3] != '-' {
			return false, false
		}
		last, text = line[3] == ' ', string(line[4:])
	}
	enhanced, rest := cutEnhanced(text, line[0])
	if first {
		r.Enhanced = enhanced
	}
	if enhanced != "" && enhanced == r.Enhanced {
		text = rest
	}
	r.Lines = append(r.Lines, text)
	return last, true
}

// cutEnhanced cuts a status code of the class from the front of a line (RFC 2034,
// 4; RFC 3463, 2).
func cutEnhanced(text string, class byte) (enhanced, rest string) {
	word, rest, _ := strings.Cut(text, " ")
	parts := strings.Split(word, ".")
	if len(parts) != 3 || len(parts[0]) != 1 || parts[0][0] != class {
		return "", text
	}
	for _, p := range parts[1:] {
		if p == "" || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return "", text
		}
	}
	return word, rest
}
