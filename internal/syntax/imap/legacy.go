package imap

import (
	"strings"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/fault"
)

// What clients before IMAP4rev1 say (RFC 1176, RFC 1730; RFC 2062 for what of it is
// obsolete by now). The rows of today's commands reach it with Decoder.Old alone, and
// there only where they would have failed.

// OldPattern is a pattern of FIND: '*' stands for anything, '%' and '?' for one
// character (RFC 2062, 6.3.OBS.1). Levels mean nothing to it.
type OldPattern struct{ p string }

// NewOldPattern returns the pattern of p, which is UTF-8. INBOX has no case.
func NewOldPattern(p string) OldPattern {
	if strings.EqualFold(p, "INBOX") {
		p = "INBOX"
	}
	return OldPattern{p}
}

// Match tells whether the whole name matches. It takes at most len(pattern) *
// len(name) steps.
func (o OldPattern) Match(name string) bool {
	p := o.p
	i, j := 0, 0
	star, from := -1, 0 // the last '*', and where in name it was tried from
	for j < len(name) {
		switch {
		case i < len(p) && p[i] == '*':
			star, from = i, j
			i++
			continue
		case i < len(p) && (p[i] == '%' || p[i] == '?'):
			_, n := utf8.DecodeRuneInString(name[j:])
			i, j = i+1, j+n
			continue
		case i < len(p) && p[i] == name[j]:
			i, j = i+1, j+1
			continue
		case star < 0:
			return false
		}
		_, n := utf8.DecodeRuneInString(name[from:])
		from += n
		i, j = star+1, from
	}
	return strings.Trim(p[i:], "*") == ""
}

// Find is the arguments of FIND.
type Find struct {
	All     bool // ALL.MAILBOXES, ALL.BBOARDS: not those alone that are subscribed
	Boards  bool // bulletin boards
	Pattern string
}

// ExpectFind reads the arguments of FIND (RFC 1176; RFC 2062, "find"). A pattern that is
// no lawful name matches nothing.
func (d *Decoder) ExpectFind(out *Find) bool {
	var f Find
	var word, pattern string
	if !d.ExpectWord(&word, "MAILBOXES or BBOARDS") {
		return false
	}
	what, all := strings.CutPrefix(word, "ALL.")
	f.All, f.Boards = all, what == "BBOARDS"
	if what != "MAILBOXES" && what != "BBOARDS" {
		return d.Fail("FIND knows no " + clip(word))
	}
	if !d.ExpectSP() || !d.word(isListChar, &pattern) && !d.String(&pattern) && !d.expected("a mailbox pattern") {
		return false
	}
	if name, err := ParseMailbox(pattern, d.UTF8); err == nil {
		f.Pattern = name
	}
	*out = f
	return d.err == nil
}

// ExpectOldMailbox reads the argument of SUBSCRIBE and UNSUBSCRIBE, which may have the
// word MAILBOX or BBOARD before it. Alone, the word is the name (RFC 2062, 6.3.OBS.3).
func (d *Decoder) ExpectOldMailbox(out *string) bool {
	var s string
	if !d.expectAString(&s, "a mailbox name") {
		return false
	}
	if d.SP() {
		if !strings.EqualFold(s, "MAILBOX") && !strings.EqualFold(s, "BBOARD") {
			return d.Fail("expected MAILBOX or BBOARD, found " + clip(s))
		}
		return d.ExpectMailbox(out)
	}
	return d.err == nil && d.mailbox(s, out)
}

// ExpectPartialCommand reads the arguments of PARTIAL (RFC 1730, 6.4.6): one message, one
// text of it, its first byte counted from 1, and how many. They come out as those of a
// FETCH, whose answer does not show the range.
func (d *Decoder) ExpectPartialCommand(out *Fetch) bool {
	var f Fetch
	var number, first, count uint32
	if !d.ExpectNumber(&number) || !d.ExpectSP() || !d.fetchItem(&f, false) {
		return false
	}
	if number == 0 {
		return d.Fail("message numbers begin at 1")
	}
	if len(f.Items) != 1 || f.Items[0].Kind != FetchSection || f.Items[0].Partial {
		return d.Fail("PARTIAL takes one text of a message")
	}
	if !d.ExpectSP() || !d.ExpectNumber(&first) || !d.ExpectSP() || !d.ExpectNumber(&count) {
		return false
	}
	if first == 0 {
		return d.Fail("bytes are counted from 1")
	}
	it := &f.Items[0]
	it.Old = string(it.appendName(nil, false))
	it.Partial, it.Offset, it.Len = true, uint64(first-1), uint64(count)
	f.Set = SeqSet{Ranges: []SeqRange{{From: number, To: number}}}
	*out = f
	return true
}

// OldLogin is the arguments of LOGIN.
type OldLogin struct{ User, Password string }

// ExpectOldLogin reads the arguments of LOGIN, where an atom is whatever has no space in
// it (RFC 1176, "Conventions").
func (d *Decoder) ExpectOldLogin(out *OldLogin) bool {
	return d.expectOldString(&out.User, "a name") && d.ExpectSP() && d.expectOldString(&out.Password, "a password")
}

func isOldChar(c byte) bool { return c > ' ' && c != 0x7f }

func (d *Decoder) expectOldString(out *string, what string) bool {
	c, ok := d.peek()
	if ok && (c == '"' || c == '{') {
		return d.String(out)
	}
	return ok && d.word(isOldChar, out) || d.expected(what)
}

var oldItems = map[string]FetchItem{
	"RFC822.PEEK":             {Kind: FetchSection, Peek: true, Old: "RFC822"},
	"RFC822.TEXT.PEEK":        {Kind: FetchSection, Text: SectionBody, Peek: true, Old: "RFC822.TEXT"},
	"RFC822.HEADER.LINES":     {Kind: FetchSection, Text: SectionFields, Peek: true, Old: "RFC822.HEADER"},
	"RFC822.HEADER.LINES.NOT": {Kind: FetchSection, Text: SectionNotFields, Peek: true, Old: "RFC822.HEADER"},
}

// oldItem reads a fetch item that is obsolete (RFC 2062, 6.4.5.OBS.1).
func (d *Decoder) oldItem(word string, item *FetchItem) bool {
	old, ok := oldItems[word]
	switch {
	case !ok && word[0] == '$': // RFC 1203 has keys of this form
		return d.noIMAP3()
	case !ok:
		return false
	}
	*item = old
	if old.Text != SectionFields && old.Text != SectionNotFields {
		return true
	}
	if !d.ExpectSP() || !d.ExpectList(func() bool { return d.fieldName(item) }) {
		return false
	}
	return len(item.Fields) > 0 || d.Fail("a list of header fields is empty")
}

// oldHeader takes the 0 that ends a section for the header of the message, or of the
// message that the part is (RFC 1730, 6.4.5).
func (d *Decoder) oldHeader(item *FetchItem) bool {
	if b, _ := d.r.Peek(2); len(b) < 2 || b[0] != ']' || b[1] == '<' || item.Kind != FetchSection {
		return d.Fail("part numbers begin at 1")
	}
	b := []byte("BODY[")
	for _, n := range item.Path {
		b = append(appendNumber(b, uint64(n)), '.')
	}
	item.Text, item.Old = SectionHeader, string(append(b, "0]"...))
	return true
}

// appendOld appends the name of an item that has an old one. In a response it does not
// say what the client asked for exactly.
func (it *FetchItem) appendOld(b []byte, request bool) []byte {
	section, isBody := strings.CutPrefix(it.Old, "BODY")
	switch {
	case !request:
	case isBody && it.Peek:
		return append(append(b, "BODY.PEEK"...), section...)
	case len(it.Fields) > 0:
		b = append(append(b, it.Old...), ".LINES"...)
		if it.Text == SectionNotFields {
			b = append(b, ".NOT"...)
		}
		return it.appendFields(b, request)
	case !isBody && it.Peek && it.Text != SectionHeader:
		return append(append(b, it.Old...), ".PEEK"...)
	}
	return append(b, it.Old...)
}

// sayIMAP3 is the answer to what only IMAP3 has (RFC 1203).
const sayIMAP3 = "IMAP3 is not spoken here; IMAP2 is, and IMAP4"

func (d *Decoder) noIMAP3() bool { return d.fault(fault.New(fault.Unsupported, sayIMAP3)) }

// ErrIMAP3 returns the error for what only IMAP3 has (RFC 1203).
func ErrIMAP3() error { return fault.New(fault.Unsupported, sayIMAP3) }

// AppendUnescaped appends an ENVELOPE or BODY with every string as a literal that IMAP2
// cannot have in quotes: there is no escape in IMAP2 (RFC 1176, "Conventions"; RFC 2061).
// wire is as the store keeps it.
func AppendUnescaped(b, wire []byte) []byte {
	var text []byte
	for i := 0; i < len(wire); {
		switch c := wire[i]; c {
		case '"':
			end, plain := i+1, true
			for text = text[:0]; end < len(wire) && wire[end] != '"'; end++ {
				if wire[end] == '\\' && end+1 < len(wire) {
					end++
				}
				text = append(text, wire[end])
				plain = plain && strings.IndexByte(`"\{%`, wire[end]) < 0
			}
			end = min(end+1, len(wire))
			if plain {
				b = append(b, wire[i:end]...)
			} else {
				b = append(appendNumber(append(b, '{'), uint64(len(text))), "}\r\n"...)
				b = append(b, text...)
			}
			i = end
		case '{':
			end := i + literalLen(wire[i:])
			b = append(b, wire[i:end]...)
			i = end
		default:
			b = append(b, c)
			i++
		}
	}
	return b
}

// literalLen returns the length of the literal that s begins with, announcement and
// all, or 1 if there is none.
func literalLen(s []byte) int {
	n := 0
	for i := 1; i < len(s) && n <= len(s); i++ {
		switch {
		case isDigit(s[i]):
			n = n*10 + int(s[i]-'0')
		case s[i] == '}' && i+2 < len(s) && i+3+n <= len(s):
			return i + 3 + n
		default:
			return 1
		}
	}
	return 1
}
