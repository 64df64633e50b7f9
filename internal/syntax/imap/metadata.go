package imap

import (
	"io"
	"strconv"
	"strings"
)

// DepthInfinity is the depth of GETMETADATA that has no end.
const DepthInfinity = -1

// GetMetadata is the arguments of GETMETADATA (RFC 5464, 4.2).
type GetMetadata struct {
	Mailbox string // "" is the server
	Limited bool   // MAXSIZE was given
	MaxSize uint32 // bytes of a value
	Depth   int    // 0, 1 or DepthInfinity
	Entries []string
}

// ExpectGetMetadata reads the arguments of GETMETADATA. The options may stand before
// the mailbox, as the grammar of RFC 5464 has it, or after, as its examples do; and
// entries need no parentheses, as in the examples of 4.4.1.
func (d *Decoder) ExpectGetMetadata(out *GetMetadata) bool {
	var g GetMetadata
	if c, _ := d.peek(); c == '(' {
		if !d.List(func() bool { return d.metadataOption(&g) }) || !d.ExpectSP() {
			return false
		}
	}
	if !d.ExpectMailbox(&g.Mailbox) || !d.ExpectSP() {
		return false
	}
	if !d.metadataRest(&g) {
		return false
	}
	*out = g
	return d.err == nil && (len(g.Entries) > 0 || d.Fail("GETMETADATA asks for nothing"))
}

// metadataRest reads what follows the mailbox: a list, of options or of entries, and
// entries. Entries begin with a slash and options do not.
func (d *Decoder) metadataRest(g *GetMetadata) bool {
	c, _ := d.peek()
	if c != '(' {
		return d.entries(&g.Entries)
	}
	options := false
	if !d.List(func() bool {
		if options {
			return d.metadataOption(g)
		}
		if len(g.Entries) == 0 && d.atLetter() {
			options = true
			return d.metadataOption(g)
		}
		return d.entry(&g.Entries)
	}) {
		return false
	}
	return !options || d.ExpectSP() && d.entries(&g.Entries)
}

func (d *Decoder) atLetter() bool {
	c, ok := d.peek()
	return ok && (c|0x20 >= 'a' && c|0x20 <= 'z')
}

func (d *Decoder) metadataOption(g *GetMetadata) bool {
	var word, depth string
	if !d.ExpectWord(&word, "an option") || !d.ExpectSP() {
		return false
	}
	switch word {
	case "MAXSIZE":
		g.Limited = true
		return d.ExpectNumber(&g.MaxSize)
	case "DEPTH":
		if !d.ExpectWord(&depth, "a depth") {
			return false
		}
		switch depth {
		case "0":
			g.Depth = 0
		case "1":
			g.Depth = 1
		case "INFINITY":
			g.Depth = DepthInfinity
		default:
			return d.Fail("DEPTH is 0, 1 or infinity")
		}
		return true
	}
	return d.Fail("GETMETADATA knows no option " + clip(word))
}

// entries reads names of annotations: a list in parentheses, or some with spaces.
func (d *Decoder) entries(out *[]string) bool {
	if c, _ := d.peek(); c == '(' {
		return d.List(func() bool { return d.entry(out) })
	}
	for {
		if !d.count() || !d.entry(out) {
			return false
		}
		if !d.SP() {
			return d.err == nil
		}
	}
}

// MaxListEntries is how many annotations a LIST may ask for: each is looked up for each
// mailbox.
const MaxListEntries = 100

// metadataList reads one name of an annotation, or some in parentheses.
func (d *Decoder) metadataList(out *[]string) bool {
	if c, _ := d.peek(); c != '(' {
		return d.entry(out)
	}
	return d.List(func() bool {
		if len(*out) == MaxListEntries {
			return d.Fail("METADATA asks for more than " + strconv.Itoa(MaxListEntries) + " annotations")
		}
		return d.entry(out)
	}) && (len(*out) > 0 || d.Fail("METADATA asks for nothing"))
}

func (d *Decoder) entry(out *[]string) bool {
	var name string
	if !d.expectFilled(&name, "the name of an annotation") {
		return false
	}
	*out = append(*out, name)
	return true
}

// AppendText appends the arguments as a client would write them.
func (g *GetMetadata) AppendText(b []byte) []byte {
	var options []string
	if g.Limited {
		options = append(options, "MAXSIZE "+strconv.FormatUint(uint64(g.MaxSize), 10))
	}
	switch g.Depth {
	case 1:
		options = append(options, "DEPTH 1")
	case DepthInfinity:
		options = append(options, "DEPTH infinity")
	}
	if len(options) > 0 {
		b = append(b, "("+strings.Join(options, " ")+") "...)
	}
	b = AppendString(b, EncodeUTF7(g.Mailbox), false, true)
	b = append(b, " ("...)
	for i, name := range g.Entries {
		if i > 0 {
			b = append(b, ' ')
		}
		b = AppendString(b, name, true, true)
	}
	return append(b, ')')
}

// EntryValue is an annotation and what it is to be; nil removes it.
type EntryValue struct {
	Name  string
	Value []byte
}

// SetMetadata is the arguments of SETMETADATA (RFC 5464, 4.3).
type SetMetadata struct {
	Mailbox string // "" is the server
	Values  []EntryValue

	// Huge is the size of a value that is over the limit. Reading has stopped there,
	// without an error of the decoder: the command is well formed and refused.
	Huge int64
}

// Limits of one SETMETADATA in bytes: all its values together.
const maxMetadataValues = 1 << 20

// ExpectSetMetadata reads the arguments of SETMETADATA; a value may have limit bytes.
func (d *Decoder) ExpectSetMetadata(out *SetMetadata, limit int64) bool {
	out.Values, out.Huge = nil, 0
	if !d.ExpectMailbox(&out.Mailbox) || !d.ExpectSP() {
		return false
	}
	var total int64
	item := func() bool {
		var v EntryValue
		if !d.expectFilled(&v.Name, "the name of an annotation") || !d.ExpectSP() || !d.metadataValue(&v.Value, limit, &out.Huge) {
			return false
		}
		if total += int64(len(v.Value)); total > maxMetadataValues {
			return d.Fail("the values of one SETMETADATA may have " + strconv.Itoa(maxMetadataValues) + " bytes")
		}
		out.Values = append(out.Values, v)
		return true
	}
	if !d.ExpectSpecial('(') {
		return false
	}
	for {
		if !d.count() || !item() {
			return false
		}
		if d.Special(')') {
			return true
		}
		if !d.SP() {
			return d.expected("a space or ')'")
		}
		if d.Special(')') {
			return true
		}
	}
}

// metadataValue reads a value: NIL, a string or a literal8, which may hold NUL.
func (d *Decoder) metadataValue(out *[]byte, limit int64, huge *int64) bool {
	var s string
	switch c, ok := d.peek(); {
	case !ok:
		return false
	case c == '"':
		if !d.quoted(&s) {
			return false
		}
		if int64(len(s)) > limit {
			*huge = int64(len(s))
			return false
		}
		*out = []byte(s)
		return true
	case c == '{' || c == '~':
		return d.metadataLiteral(out, limit, huge)
	case d.Atom(&s) && strings.EqualFold(s, "NIL"):
		*out = nil
		return true
	}
	return d.expected("a value or NIL")
}

func (d *Decoder) metadataLiteral(out *[]byte, limit int64, huge *int64) bool {
	var lit *Literal
	if !d.ExpectLiteral(&lit, true) {
		return false
	}
	if lit.Size > limit {
		*huge = lit.Size
		return false
	}
	if lit.Size == 0 {
		if err := lit.Accept(); err != nil {
			return d.fault(err)
		}
	}
	b, err := io.ReadAll(struct{ io.Reader }{lit})
	if err != nil {
		return d.fault(err)
	}
	*out = b
	return true
}

// AppendText appends the arguments as a client would write them.
func (s *SetMetadata) AppendText(b []byte) []byte {
	b = AppendString(b, EncodeUTF7(s.Mailbox), false, true)
	b = append(b, " ("...)
	for i, v := range s.Values {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(AppendString(b, v.Name, true, true), ' ')
		b = AppendValue(b, v.Value, true)
	}
	return append(b, ')')
}

// AppendValue appends the value of an annotation: NIL, a quoted string, or a literal,
// of the kind that may hold NUL if it does.
func AppendValue(b, value []byte, client bool) []byte {
	if value == nil {
		return append(b, "NIL"...)
	}
	if strings.IndexByte(string(value), 0) < 0 {
		return AppendString(b, string(value), false, client)
	}
	b = append(b, "~{"...)
	b = strconv.AppendInt(b, int64(len(value)), 10)
	if client {
		b = append(b, '+')
	}
	return append(append(b, "}\r\n"...), value...)
}
