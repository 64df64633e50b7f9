package mime

import "strings"

// scanner walks over a structured field value. No method reads past the end, and
// each moves forward only.
type scanner struct {
	s string
	i int
}

func (sc *scanner) more() bool { return sc.i < len(sc.s) }

// peek returns the next byte, or 0 at the end.
func (sc *scanner) peek() byte {
	if sc.i < len(sc.s) {
		return sc.s[sc.i]
	}
	return 0
}

func (sc *scanner) eat(c byte) bool {
	if sc.i < len(sc.s) && sc.s[sc.i] == c {
		sc.i++
		return true
	}
	return false
}

// skipCFWS skips white space and comments.
func (sc *scanner) skipCFWS() {
	for sc.more() {
		switch sc.s[sc.i] {
		case ' ', '\t', '\r', '\n':
			sc.i++
		case '(':
			sc.comment()
		default:
			return
		}
	}
}

// comment reads a comment, which may nest, and returns its text without the outer
// parentheses and without quoting backslashes. An open one runs to the end (RFC
// 5322, 3.2.2). Nesting is a number, not a stack.
func (sc *scanner) comment() string {
	var b strings.Builder
	depth := 0
	for sc.more() {
		c := sc.s[sc.i]
		sc.i++
		switch c {
		case '(':
			if depth++; depth == 1 {
				continue
			}
		case ')':
			if depth--; depth == 0 {
				return strings.TrimSpace(b.String())
			}
		case '\\':
			if sc.more() {
				c = sc.s[sc.i]
				sc.i++
			}
		case '\r', '\n':
			continue
		}
		b.WriteByte(c)
	}
	return strings.TrimSpace(b.String())
}

// quoted reads a quoted string and returns what it says. An open one runs to the
// end.
func (sc *scanner) quoted() string {
	sc.i++ // the quote
	start := sc.i
	for sc.more() && sc.s[sc.i] != '"' && sc.s[sc.i] != '\\' {
		sc.i++
	}
	if !sc.more() || sc.s[sc.i] == '"' {
		v := sc.s[start:sc.i]
		sc.eat('"')
		return v
	}
	b := []byte(sc.s[start:sc.i])
	for sc.more() {
		c := sc.s[sc.i]
		sc.i++
		if c == '"' {
			break
		}
		if c == '\\' && sc.more() {
			c = sc.s[sc.i]
			sc.i++
		}
		b = append(b, c)
	}
	return string(b)
}

// token reads a token of RFC 2045, 5.1; it may be empty.
func (sc *scanner) token() string {
	start := sc.i
	for sc.more() && isToken(sc.s[sc.i]) {
		sc.i++
	}
	return sc.s[start:sc.i]
}

func isToken(c byte) bool {
	return c > ' ' && c < 0x7f && strings.IndexByte(`()<>@,;:\"/[]?=`, c) < 0
}

// skipTo moves to the next c outside quotes and comments, or to the end.
func (sc *scanner) skipTo(c byte) {
	for sc.more() && sc.s[sc.i] != c {
		switch sc.s[sc.i] {
		case '"':
			sc.quoted()
		case '(':
			sc.comment()
		default:
			sc.i++
		}
	}
}
