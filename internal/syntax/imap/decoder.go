// Package imap turns the bytes of IMAP into values and back: a decoder that reads
// one command token by token, an encoder that appends responses to a buffer, and
// the grammar of each command's arguments.
//
// It has no socket, clock, store or goroutine. It does not know which commands
// exist, in which state they are allowed or what they mean: that is the server's.
// A parser never holds more than its Limits allow and runs in linear time.
//
// RFC 9051 and 3501 (IMAP4rev2, rev1), RFC 1176, 1730 and 2062 (older clients), RFC
// 4466 (collected grammar), 7888 (LITERAL+), 6855 (UTF-8), 3516 (BINARY), 3502
// (MULTIAPPEND), 4469 (CATENATE), 5092, 4467 and 5524 (URLs), 5257 (ANNOTATE), 5464
// (METADATA), 4314 (ACL), 9208 (QUOTA), 5258, 5819, 6154 and 8440 (LIST), 2971 (ID),
// 5161 (ENABLE), 5255 and 4790 (LANGUAGE, COMPARATOR), 7162 (CONDSTORE, QRESYNC), 5465
// (NOTIFY), 5267 (CONTEXT), 4731 and 5182 (ESEARCH, SEARCHRES), 5256 (SORT, THREAD),
// 5032, 5466, 6203, 7377, 8474, 8514 and 9394 (searching), 9738, 10022.
package imap

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Limits bound what one command may cost. All are in bytes unless they say else.
type Limits struct {
	Line    int   // of a command, literals apart
	Word    int   // of one atom, number or quoted string; 0 is no limit but Line
	String  int64 // of one literal that is held in memory
	Strings int64 // of all such literals of one command
	NonSync int64 // of one literal sent without waiting; 0 is no limit but Discard
	Discard int64 // read and thrown away by Skip before it gives up
	Depth   int   // nested lists or search keys, a count
	Keys    int   // search keys, fetch items or list members of one command, a count
}

// DefaultLimits are for a client that has signed in.
var DefaultLimits = Limits{
	Line: 64 << 10, String: 64 << 10, Strings: 256 << 10, Discard: 64 << 20, Depth: 100, Keys: 2000,
}

// LoginLimits are for a client nobody knows yet. The line has room for an ID of 30
// fields (RFC 2971, 3.3), a word for a SASL response of 12 KB in base64; LITERAL- is 4,096
// bytes (RFC 7888, 5).
var LoginLimits = Limits{
	Line: 40 << 10, Word: 17 << 10, String: 4 << 10, Strings: 16 << 10, NonSync: 4 << 10, Discard: 64 << 10, Depth: 8, Keys: 64,
}

// Decoder reads commands. Its methods come in two kinds: X tries an element and
// returns false, having read nothing, if it is not there; ExpectX also records an
// error. After the first error every method returns false, so a parser is one &&
// chain with one look at Err.
type Decoder struct {
	// Continue is called when the client waits for leave to send a literal (RFC
	// 9051, 7.6). Without it such literals fail.
	Continue func() error
	// UTF8 says that the client has enabled IMAP4rev2 or UTF8=ACCEPT: mailbox
	// names are then UTF-8 and not modified UTF-7 (RFC 6855, 3; RFC 9051, 5.1).
	UTF8 bool
	// Old says that the client may be older than IMAP4rev1: what only such clients say
	// is understood (RFC 2062).
	Old bool
	// OldName is how the client wrote the last mailbox name, if UTF8 holds and the
	// name is not in its normal form; else "" (RFC 9051, 6.3.9.7).
	OldName string

	r     *bufio.Reader
	lim   Limits
	err   error
	used  int   // bytes of this command outside literals
	held  int64 // bytes of literals held for this command
	depth int
	keys  int
	tail  []byte   // the last bytes of the present line: Skip looks for a literal
	lit   *Literal // announced or being read
	ended bool     // the CRLF of this command has been read
	buf   []byte   // scratch of run
}

// NewDecoder returns a decoder that reads from r.
func NewDecoder(r *bufio.Reader, lim Limits) *Decoder {
	return &Decoder{r: r, lim: lim}
}

// SetLimits changes the limits from the next token on.
func (d *Decoder) SetLimits(lim Limits) { d.lim = lim }

// Limits returns the limits in force.
func (d *Decoder) Limits() Limits { return d.lim }

// Begin forgets the last command and makes d ready for the next one.
func (d *Decoder) Begin() {
	d.err, d.used, d.held, d.depth, d.keys, d.lit, d.ended = nil, 0, 0, 0, 0, nil, false
	d.tail = d.tail[:0]
	if cap(d.buf) > 512 {
		d.buf = nil // one long command must not weigh on an idle connection for ever
	}
}

// Err returns the first error of this command: of kind Invalid if the client is
// wrong, Unsupported if a search charset is unknown, or whatever reading returned.
func (d *Decoder) Err() error { return d.err }

// Fail records an error of kind Invalid, unless there is one, and returns false.
func (d *Decoder) Fail(say string) bool { return d.fault(fault.New(fault.Invalid, say)) }

func (d *Decoder) fault(err error) bool {
	if d.err == nil {
		d.err = err
	}
	return false
}

// expected records that something else stands where what was needed.
func (d *Decoder) expected(what string) bool {
	if d.err != nil {
		return false
	}
	c, ok := d.peek()
	switch {
	case !ok:
		return false
	case c == '\r' || c == '\n':
		return d.Fail("the command ends where " + what + " is expected")
	}
	return d.Fail("expected " + what + ", found " + strconv.QuoteRuneToASCII(rune(c)))
}

// peek returns the next byte of the line without reading it.
func (d *Decoder) peek() (byte, bool) {
	if d.err != nil {
		return 0, false
	}
	if d.ended || d.lit != nil {
		return 0, d.Fail("internal: read past the end of the command or of its literal")
	}
	if d.used >= d.lim.Line {
		return 0, d.Fail("the command is longer than " + strconv.Itoa(d.lim.Line) + " bytes")
	}
	b, err := d.r.Peek(1)
	if err != nil {
		return 0, d.broken(err)
	}
	return b[0], true
}

// broken records an error of the reader. A connection that ends inside a command
// ends unexpectedly.
func (d *Decoder) broken(err error) bool {
	if errors.Is(err, io.EOF) && (d.used > 0 || d.lit != nil) {
		err = io.ErrUnexpectedEOF
	}
	return d.fault(err)
}

const tailLen = 32 // "{18446744073709551615+}" and some

// advance reads n bytes that are in the reader's buffer.
func (d *Decoder) advance(b []byte) {
	d.used += len(b)
	if len(b) > tailLen {
		b = b[len(b)-tailLen:]
	}
	if over := len(d.tail) + len(b) - tailLen; over > 0 {
		d.tail = d.tail[:copy(d.tail, d.tail[over:])]
	}
	d.tail = append(d.tail, b...)
}

func (d *Decoder) take(n int) {
	b, _ := d.r.Peek(n)
	d.advance(b)
	d.r.Discard(n)
}

// run reads the longest run of bytes of a class. The result is valid until the
// next call.
func (d *Decoder) run(class func(byte) bool) []byte {
	d.buf = d.buf[:0]
	for {
		if _, ok := d.peek(); !ok {
			return nil
		}
		b, _ := d.r.Peek(min(d.r.Buffered(), d.lim.Line-d.used))
		n := 0
		for n < len(b) && class(b[n]) {
			n++
		}
		if d.lim.Word > 0 && len(d.buf)+n > d.lim.Word {
			d.Fail("a word is longer than " + strconv.Itoa(d.lim.Word) + " bytes")
			return nil
		}
		d.buf = append(d.buf, b[:n]...)
		d.advance(b[:n])
		more := n == len(b)
		d.r.Discard(n)
		if !more {
			return d.buf
		}
	}
}

// Special reads the byte c if it is next.
func (d *Decoder) Special(c byte) bool {
	if got, ok := d.peek(); !ok || got != c {
		return false
	}
	d.take(1)
	return true
}

// ExpectSpecial reads the byte c.
func (d *Decoder) ExpectSpecial(c byte) bool {
	return d.Special(c) || d.expected(strconv.QuoteRune(rune(c)))
}

// SP reads one space.
func (d *Decoder) SP() bool { return d.Special(' ') }

// ExpectSP reads one space.
func (d *Decoder) ExpectSP() bool { return d.SP() || d.expected("a space") }

// CRLF reads the end of the command. A lone LF is taken for it.
func (d *Decoder) CRLF() bool {
	c, ok := d.peek()
	if !ok || c != '\r' && c != '\n' {
		return false
	}
	if c == '\r' {
		b, err := d.r.Peek(2)
		if err != nil {
			return d.broken(err)
		}
		if b[1] != '\n' {
			return d.Fail("a CR without its LF")
		}
		d.take(1)
	}
	d.r.Discard(1)
	d.used++
	d.ended = true
	return true
}

// ExpectCRLF reads the end of the command.
func (d *Decoder) ExpectCRLF() bool {
	return d.CRLF() || d.expected("the end of the command")
}

func isAtomChar(c byte) bool {
	switch c {
	case '(', ')', '{', '%', '*', '"', '\\', ']':
		return false
	}
	return c > ' ' && c < 0x7f
}

func isAStringChar(c byte) bool { return isAtomChar(c) || c == ']' }
func isTagChar(c byte) bool     { return isAStringChar(c) && c != '+' }
func isListChar(c byte) bool    { return isAStringChar(c) || c == '%' || c == '*' }
func isDigit(c byte) bool       { return c >= '0' && c <= '9' }

func (d *Decoder) word(class func(byte) bool, out *string) bool {
	b := d.run(class)
	if len(b) == 0 || d.err != nil {
		return false
	}
	*out = string(b)
	return true
}

// MaxTag is the most bytes a tag may have.
const MaxTag = 128

// ExpectTag reads a command's tag (RFC 9051, 9 "tag").
func (d *Decoder) ExpectTag(out *string) bool {
	var s string
	if !d.word(isTagChar, &s) {
		return d.expected("a tag")
	}
	if len(s) > MaxTag {
		return d.Fail("the tag is longer than " + strconv.Itoa(MaxTag) + " bytes")
	}
	*out = s
	return true
}

// Atom reads an atom as it stands.
func (d *Decoder) Atom(out *string) bool { return d.word(isAtomChar, out) }

// ExpectAtom reads an atom as it stands.
func (d *Decoder) ExpectAtom(out *string) bool { return d.Atom(out) || d.expected("an atom") }

// ExpectWord reads an atom in upper case; what names it in the error.
func (d *Decoder) ExpectWord(out *string, what string) bool {
	if !d.Atom(out) {
		return d.expected(what)
	}
	*out = strings.ToUpper(*out)
	return true
}

// expectFilled reads an astring that has at least a byte: header field names
// and the like.
func (d *Decoder) expectFilled(out *string, what string) bool {
	return d.expectAString(out, what) && (*out != "" || d.Fail("an empty string where "+what+" is expected"))
}

// AString reads an atom, a quoted string or a literal (RFC 9051, 9 "astring").
func (d *Decoder) AString(out *string) bool {
	return d.word(isAStringChar, out) || d.String(out)
}

// ExpectAString reads an astring.
func (d *Decoder) ExpectAString(out *string) bool { return d.expectAString(out, "a string") }

func (d *Decoder) expectAString(out *string, what string) bool {
	return d.AString(out) || d.expected(what)
}

// String reads a quoted string or a literal.
func (d *Decoder) String(out *string) bool {
	c, ok := d.peek()
	switch {
	case ok && c == '"':
		return d.quoted(out)
	case ok && c == '{':
		return d.literalString(out)
	}
	return false
}

// ExpectString reads a quoted string or a literal.
func (d *Decoder) ExpectString(out *string) bool { return d.String(out) || d.expected("a string") }

// ExpectNString reads a string or NIL, which leaves *out nil.
func (d *Decoder) ExpectNString(out **string) bool {
	var s string
	if d.String(&s) {
		*out = &s
		return true
	}
	if d.Atom(&s) && strings.EqualFold(s, "NIL") {
		*out = nil
		return true
	}
	return d.expected("a string or NIL")
}

// quoted reads a quoted string. Eight-bit text must be UTF-8; whether it was
// enabled is not asked, for clients send it anyway in passwords and searches.
func (d *Decoder) quoted(out *string) bool {
	d.take(1)
	plain := func(c byte) bool { return c != '"' && c != '\\' && c >= ' ' && c != 0x7f }
	var s []byte
	for {
		s = append(s, d.run(plain)...)
		c, ok := d.peek()
		if !ok {
			return false
		}
		if c == '"' {
			d.take(1)
			break
		}
		if c == '\\' {
			d.take(1)
			if c, ok = d.peek(); !ok {
				return false
			}
			if c != '"' && c != '\\' {
				if d.Old { // in IMAP2bis it stands for itself (RFC 2061)
					s = append(s, '\\')
					continue
				}
				return d.Fail(`in a quoted string only \" and \\ may follow a backslash`)
			}
			d.take(1)
			s = append(s, c)
			continue
		}
		// Tabs and other controls are sent by some clients; line ends and NUL cannot be.
		if c == '\r' || c == '\n' {
			return d.Fail("a quoted string is not closed")
		}
		if c == 0 {
			return d.Fail("a NUL in a quoted string")
		}
		d.take(1)
		s = append(s, c)
	}
	if !utf8.Valid(s) {
		return d.Fail("a quoted string is not valid UTF-8")
	}
	*out = string(s)
	return true
}

func (d *Decoder) number(out *uint64, most uint64, what string) bool {
	b := d.run(isDigit)
	if len(b) == 0 || d.err != nil {
		return d.expected(what)
	}
	n, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil || n > most {
		return d.Fail("the number " + clip(string(b)) + " is too large")
	}
	*out = n
	return true
}

// ExpectNumber reads a number of 32 bits.
func (d *Decoder) ExpectNumber(out *uint32) bool {
	var n uint64
	if !d.number(&n, 1<<32-1, "a number") {
		return false
	}
	*out = uint32(n)
	return true
}

// ExpectNumber64 reads a number of 63 bits (RFC 9051, 9 "number64").
func (d *Decoder) ExpectNumber64(out *uint64) bool { return d.number(out, 1<<63-1, "a number") }

// atDigit tells whether a digit is next.
func (d *Decoder) atDigit() bool {
	c, ok := d.peek()
	return ok && isDigit(c)
}

// enter counts one more level of nesting; leave is its other half.
func (d *Decoder) enter() bool {
	if d.depth >= d.lim.Depth {
		return d.Fail("nested more than " + strconv.Itoa(d.lim.Depth) + " deep")
	}
	d.depth++
	return true
}

func (d *Decoder) leave() { d.depth-- }

// count counts one more key, item or list member of this command.
func (d *Decoder) count() bool {
	if d.keys >= d.lim.Keys {
		return d.Fail("more than " + strconv.Itoa(d.lim.Keys) + " items in one command")
	}
	d.keys++
	return true
}

// List reads a parenthesised list, calling item for each member; it returns false
// without an error if there is no list. The empty list has no member.
func (d *Decoder) List(item func() bool) bool {
	if !d.Special('(') || !d.enter() {
		return false
	}
	defer d.leave()
	if d.Special(')') {
		return true
	}
	for {
		if !d.count() || !item() {
			return d.expected("a list member") // keeps an error that is there
		}
		if d.Special(')') {
			return true
		}
		if !d.SP() {
			return d.expected("a space or ')'")
		}
		// Some clients put a space before the closing parenthesis.
		if d.Special(')') {
			return true
		}
	}
}

// ExpectList reads a parenthesised list.
func (d *Decoder) ExpectList(item func() bool) bool {
	return d.List(item) || d.expected("'('")
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
