package send

import (
	"bufio"
	"errors"
	"io"
	"strings"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/mail"
)

const maxReplyLine = 4 << 10
const maxReplyLines = 100

type reply struct {
	code     int
	enhanced string
	lines    []string
}

func (r reply) text() string { return strings.Join(r.lines, " ") }

var errReply = errors.New("not an SMTP reply")

func readReply(r *bufio.Reader) (reply, error) {
	var rep reply
	for len(rep.lines) < maxReplyLines {
		b, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return rep, errReply
		}
		if err != nil {
			return rep, err
		}
		s := strings.TrimRight(string(b), "\r\n")
		if len(s) < 3 || s[0] < '2' || s[0] > '5' {
			return rep, errReply
		}
		code := 0
		for _, c := range s[:3] {
			if c < '0' || c > '9' {
				return rep, errReply
			}
			code = code*10 + int(c-'0')
		}
		if rep.code != 0 && rep.code != code {
			return rep, errReply
		}
		rep.code = code
		more := len(s) > 3 && s[3] == '-'
		if len(s) > 3 && s[3] != '-' && s[3] != ' ' {
			return rep, errReply
		}
		text := ""
		if len(s) > 4 {
			text = s[4:]
		}
		if e, rest, ok := strings.Cut(text, " "); strings.Count(e, ".") == 2 && e[0] == s[0] && strings.Trim(e, "0123456789.") == "" {
			rep.enhanced = e
			text = rest
			_ = ok
		}
		rep.lines = append(rep.lines, text)
		if !more {
			return rep, nil
		}
	}
	return rep, errReply
}

func path(a mail.Address, utf8 bool) string {
	if !utf8 {
		if d, err := dnsx.ASCII(a.Domain); err == nil {
			a.Domain = d
		}
	}
	return "<" + a.String() + ">"
}

func xtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '+' || c == '=' {
			b.WriteString("+" + strings.ToUpper(string("0123456789ABCDEF"[c>>4])+string("0123456789ABCDEF"[c&15])))
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func copyExactly(w io.Writer, r io.Reader, n int64) (from, to error) {
	src := &sourceErr{r: r}
	m, err := io.CopyN(w, src, n)
	if src.err != nil && src.err != io.EOF {
		return src.err, nil
	}
	if m < n && err == io.EOF {
		return io.ErrUnexpectedEOF, nil
	}
	return nil, err
}

type sourceErr struct {
	r   io.Reader
	err error
}

func (s *sourceErr) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil {
		s.err = err
	}
	return n, err
}

func copyDotted(w io.Writer, r io.Reader) (from, to error) {
	in := bufio.NewReaderSize(r, 32<<10)
	out := bufio.NewWriterSize(w, 32<<10)
	bol := true
	for {
		c, err := in.ReadByte()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err, nil
		}
		if bol && c == '.' {
			out.WriteByte('.')
		}
		bol = false
		switch c {
		case '\r':
			if n, err := in.Peek(1); err == nil && n[0] == '\n' {
				in.ReadByte()
			}
			fallthrough
		case '\n':
			bol = true
			if _, err := out.WriteString("\r\n"); err != nil {
				return nil, err
			}
		default:
			if err := out.WriteByte(c); err != nil {
				return nil, err
			}
		}
	}
	if !bol {
		out.WriteString("\r\n")
	}
	out.WriteString(".\r\n")
	return nil, out.Flush()
}
