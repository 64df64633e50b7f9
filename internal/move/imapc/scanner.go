package imapc

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Limits of what a server may say, so that a bad one costs a bounded amount of memory.
const (
	maxResponse = 1 << 20   // bytes of a response that is no list of numbers, literals apart
	maxNumbers  = 256 << 20 // bytes of SEARCH and the like, which are read number by number
	maxToken    = 64 << 10  // bytes of an atom or quoted string
	maxLiteral  = 1 << 20   // bytes of a literal that is held
	maxHeld     = 4 << 20   // bytes of all such literals of a response
	maxDepth    = 50        // nested lists
	maxText     = 500       // bytes of a text that is kept
)

// scanner reads responses token by token. After the first error every method does nothing
// and the zero value is returned.
type scanner struct {
	r     *bufio.Reader
	err   error
	left  int64  // bytes this response may still have
	held  int64  // bytes of literals that may still be held
	depth int    // of lists that are open
	buf   []byte // of the last token
}

// wrong is what a server does that is not IMAP.
type wrong struct{ what string }

func (w wrong) Error() string { return w.what }

func (s *scanner) fail(format string, args ...any) {
	if s.err == nil {
		s.err = wrong{fmt.Sprintf(format, args...)}
	}
}

func (s *scanner) begin() {
	s.left, s.held, s.depth = maxResponse, maxHeld, 0
}

// next reads a byte.
func (s *scanner) next() byte {
	if s.err != nil {
		return 0
	}
	c, err := s.r.ReadByte()
	if err != nil {
		s.err = err
		return 0
	}
	if s.left--; s.left < 0 {
		s.fail("a response is too long")
	}
	return c
}

// peek looks at the next byte; 0 after an error.
func (s *scanner) peek() byte {
	if s.err != nil {
		return 0
	}
	b, err := s.r.Peek(1)
	if err != nil {
		s.err = err
		return 0
	}
	return b[0]
}

// take reads the byte c if it is next.
func (s *scanner) take(c byte) bool {
	if s.peek() != c || s.err != nil {
		return false
	}
	s.next()
	return true
}

func (s *scanner) expect(c byte) {
	if got := s.next(); s.err == nil && got != c {
		s.fail("%q where %q should be", got, c)
	}
}

// space reads one space or more: some servers write two.
func (s *scanner) space() {
	s.expect(' ')
	s.spaces()
}

func (s *scanner) spaces() {
	for s.take(' ') {
	}
}

// crlf reads the end of a line, with spaces before it.
func (s *scanner) crlf() {
	s.spaces()
	s.take('\r')
	s.expect('\n')
}

// atLineEnd tells whether the line ends here.
func (s *scanner) atLineEnd() bool {
	c := s.peek()
	return s.err != nil || c == '\r' || c == '\n'
}

// run reads bytes as long as ok says so.
func (s *scanner) run(ok *[256]bool) []byte {
	s.buf = s.buf[:0]
	for s.err == nil {
		n := max(1, s.r.Buffered())
		b, err := s.r.Peek(n)
		if err != nil {
			s.err = err
			return nil
		}
		i := 0
		for i < len(b) && ok[b[i]] {
			i++
		}
		if len(s.buf)+i > maxToken {
			s.fail("a word is too long")
			return nil
		}
		s.buf = append(s.buf, b[:i]...)
		s.r.Discard(i)
		if s.left -= int64(i); s.left < 0 {
			s.fail("a response is too long")
			return nil
		}
		if i < len(b) {
			break
		}
	}
	return s.buf
}

// Bytes of atoms. What RFC 3501 forbids and servers write all the same is taken: flags
// have '\', '*' and even ']' in them.
var (
	atomBytes = bytesBut(" \r\n(){\"")
	codeBytes = bytesBut(" \r\n]")
	textBytes = bytesBut("\r\n")
	nameBytes = bytesBut(" \r\n(){\"[<")
	restBytes = bytesBut("\r\n{\"()")
)

func bytesBut(not string) (set [256]bool) {
	for c := range set {
		set[c] = c > ' ' && c != 0x7f || c == ' ' || c == '\t'
	}
	for i := range len(not) {
		set[not[i]] = false
	}
	return set
}

// atom reads at least one byte of an atom.
func (s *scanner) atom() string { return string(s.word(&atomBytes)) }

func (s *scanner) word(set *[256]bool) []byte {
	b := s.run(set)
	if s.err == nil && len(b) == 0 {
		s.fail("%q where a word should be", s.peek())
	}
	return b
}

// number reads a number of at most 64 bits.
func (s *scanner) number() uint64 {
	var n uint64
	digits := 0
	for s.err == nil {
		c := s.peek()
		if c < '0' || c > '9' {
			break
		}
		s.next()
		if digits++; digits > 20 || n > (1<<64-1-uint64(c-'0'))/10 {
			s.fail("a number is too large")
			return 0
		}
		n = n*10 + uint64(c-'0')
	}
	if digits == 0 {
		s.fail("%q where a number should be", s.peek())
	}
	return n
}

func (s *scanner) number32() uint32 {
	n := s.number()
	if n > 1<<32-1 {
		s.fail("a number is too large")
		return 0
	}
	return uint32(n)
}

// quoted reads a quoted string. A line end in it is an error; 8-bit bytes are taken.
func (s *scanner) quoted() string {
	s.expect('"')
	s.buf = s.buf[:0]
	for s.err == nil {
		c := s.next()
		switch c {
		case '"':
			return string(s.buf)
		case '\\':
			c = s.next()
		case '\r', '\n':
			s.fail("a line ends within a string")
		}
		if len(s.buf) >= maxToken {
			s.fail("a string is too long")
		}
		s.buf = append(s.buf, c)
	}
	return ""
}

// literal reads the announcement of a literal. It takes {n}, {n+} and ~{n}.
func (s *scanner) literal() int64 {
	s.take('~')
	s.expect('{')
	n := s.number()
	s.take('+')
	s.expect('}')
	s.take('\r')
	s.expect('\n')
	if s.err == nil && n > 1<<62 {
		s.fail("a literal is too large")
	}
	return int64(n)
}

// string reads a string or NIL, in memory. The second value is false for NIL.
func (s *scanner) nstring() (string, bool) {
	switch s.peek() {
	case '"':
		return s.quoted(), true
	case '{', '~':
		n := s.literal()
		if s.err != nil {
			return "", false
		}
		if n > maxLiteral || n > s.held {
			s.fail("a literal of %d bytes where a short one should be", n)
			return "", false
		}
		s.held -= n
		var b strings.Builder
		if _, err := io.CopyN(&b, s.r, n); err != nil {
			s.lost(err)
		}
		return b.String(), true
	}
	if a := s.atom(); !strings.EqualFold(a, "NIL") {
		return a, true // servers that do not quote
	}
	return "", false
}

func (s *scanner) astring() string {
	str, _ := s.nstring()
	return str
}

// name reads a mailbox name, which may be called NIL, and may begin with "~": it is never a
// literal8.
func (s *scanner) name() string {
	if c := s.peek(); c == '"' || c == '{' {
		return s.astring()
	}
	return s.atom()
}

func (s *scanner) lost(err error) {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if s.err == nil {
		s.err = err
	}
}

// list calls item for each member of a list in parentheses.
func (s *scanner) list(item func()) {
	s.expect('(')
	if s.depth++; s.depth > maxDepth {
		s.fail("lists are nested too deeply")
	}
	for s.err == nil {
		s.spaces()
		if s.take(')') {
			s.depth--
			return
		}
		item()
	}
}

// value skips whatever stands here: an atom, a string, a literal of any size, a list.
func (s *scanner) value() {
	switch s.peek() {
	case '(':
		s.list(s.value)
	case '"':
		s.quoted()
	case '{':
		s.discard(s.literal())
	case ')':
		s.fail("a parenthesis too many")
	default:
		s.word(&atomBytes)
	}
}

// discard skips n bytes.
func (s *scanner) discard(n int64) {
	for n > 0 && s.err == nil {
		k, err := s.r.Discard(int(min(n, 1<<20)))
		n -= int64(k)
		if err != nil {
			s.lost(err)
		}
	}
}

// rest skips what is left of a response, literals and all.
func (s *scanner) rest() {
	for s.err == nil && !s.atLineEnd() {
		switch s.peek() {
		case '{':
			// Free text may have a brace in it: only a number makes it a literal.
			s.maybeLiteral()
		case '"', '(', ')':
			s.next()
		default:
			if len(s.run(&restBytes)) == 0 { // a control character
				s.next()
			}
		}
	}
	s.crlf()
}

// maybeLiteral skips a literal, or a brace that begins none.
func (s *scanner) maybeLiteral() {
	s.next()
	var n int64
	digits := 0
	for c := s.peek(); s.err == nil && c >= '0' && c <= '9' && digits < 18; c = s.peek() {
		n = n*10 + int64(s.next()-'0')
		digits++
	}
	if digits == 0 || !s.take('}') || !s.atLineEnd() || s.err != nil {
		return
	}
	s.take('\r')
	s.expect('\n')
	s.discard(n)
}

// text reads what is left of the line, keeps the first of it and cleans it. A CR that ends
// no line is a character like others.
func (s *scanner) text() string {
	var kept []byte
	for s.err == nil && s.peek() != '\n' {
		b, err := s.r.Peek(max(1, s.r.Buffered()))
		if err != nil {
			s.err = err
			return ""
		}
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			i = len(b)
		}
		if room := maxText - len(kept); room > 0 {
			kept = append(kept, b[:min(i, room)]...)
		}
		s.r.Discard(i)
		if s.left -= int64(i); s.left < 0 {
			s.fail("a response is too long")
		}
	}
	s.expect('\n')
	return clean(string(kept))
}

// clean returns text without control characters, as valid UTF-8.
func clean(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?")))
}

// numbers reads numbers and ranges: "1 2 5:7" or "1,2,5:7", into add.
func (s *scanner) numbers(add func(from, to uint32)) {
	s.left = maxNumbers
	for s.err == nil {
		c := s.peek()
		if c == ' ' || c == ',' {
			s.next()
			continue
		}
		if c < '0' || c > '9' {
			return
		}
		from := s.number32()
		to := from
		if s.take(':') {
			to = s.number32()
		}
		if s.err == nil && from > 0 && to > 0 {
			add(from, to)
		}
	}
}

// set reads numbers into a set of at most maxRanges ranges, in whichever order they come.
func (s *scanner) set(out *mail.UIDSet) {
	var loose []mail.Range
	sorted := true
	s.numbers(func(from, to uint32) {
		r := mail.Range{From: mail.UID(min(from, to)), To: mail.UID(max(from, to))}
		if n := len(loose); n > 0 && r.From == loose[n-1].To+1 {
			loose[n-1].To = r.To
			return
		} else if n > 0 && r.From <= loose[n-1].To {
			sorted = false
		}
		if len(loose) >= maxRanges {
			s.fail("a set has too many ranges")
			return
		}
		loose = append(loose, r)
	})
	if !sorted {
		slices.SortFunc(loose, func(a, b mail.Range) int { return cmp.Compare(a.From, b.From) })
	}
	if len(*out) == 0 && sorted {
		*out = loose
		return
	}
	for _, r := range loose {
		out.AddRange(r.From, r.To)
	}
}

const maxRanges = 4 << 20 // of a set of UIDs: 32 MB

// text64 reads what is left of a line that is base64, up to a limit.
func (s *scanner) text64() string {
	s.spaces()
	b := string(s.run(&textBytes))
	s.crlf()
	return strings.TrimSpace(b)
}
