package imap

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Annotations of messages (RFC 5257): entries with attributes, each for one reader
// (.priv) and for all (.shared).

// MaxNoteValue is how many bytes the value of an annotation may have.
const MaxNoteValue = 20480

const (
	maxNoteName   = 512       // bytes of an entry
	maxNoteValues = 256 << 10 // bytes of all values of one command
	maxEntries    = 100       // entries that one item asks for
)

// ErrNoteSize is the cause of the error for a value that is too large; the answer is
// NO [ANNOTATE TOOBIG] (RFC 5257, 4.5).
var ErrNoteSize = errors.New("the value of an annotation is too large")

// NoteAttribute is an attribute of an annotation (RFC 5257, 3.2.2).
type NoteAttribute uint8

const (
	NoteValuePrivate NoteAttribute = iota
	NoteValueShared
	NoteSizePrivate
	NoteSizeShared
)

var noteAttributes = [...]string{"value.priv", "value.shared", "size.priv", "size.shared"}

// String returns the name of the attribute.
func (a NoteAttribute) String() string { return noteAttributes[a] }

// NoteValue is an annotation and what it is to be; nil removes it.
type NoteValue struct {
	Entry   string
	Private bool
	Value   []byte
}

// entryLevels returns the levels of an entry, or why it cannot be one. With wild, * and
// % may stand in it.
func entryLevels(entry string, wild bool) (levels []string, wrong string) {
	if len(entry) > maxNoteName {
		return nil, "an entry may have " + strconv.Itoa(maxNoteName) + " bytes"
	}
	for i := range len(entry) {
		if c := entry[i]; c < ' ' || c >= 0x7f || !wild && (c == '*' || c == '%') {
			return nil, "an entry is printable ASCII without * and %"
		}
	}
	rest, rooted := strings.CutPrefix(entry, "/")
	if !rooted && (!wild || entry == "" || entry[0] != '*' && entry[0] != '%') {
		return nil, "an entry begins with /"
	}
	levels = strings.Split(rest, "/")
	if slices.Contains(levels, "") {
		return nil, "an entry has an empty level"
	}
	if rooted && isDigit(levels[0][0]) && (!wild || strings.Trim(levels[0], "0123456789.") == "") && NotePart(entry) == nil {
		return nil, "an entry has a part that cannot be"
	}
	return levels, ""
}

// NotePart returns the part of the message that an entry is about, nil if it is about
// the whole (RFC 5257, 3.2.1).
func NotePart(entry string) (path []int) {
	first, _, _ := strings.Cut(strings.TrimPrefix(entry, "/"), "/")
	if first == "" || !isDigit(first[0]) {
		return nil
	}
	for _, number := range strings.Split(first, ".") {
		n, err := strconv.ParseUint(number, 10, 31)
		if err != nil || n == 0 || number[0] == '0' || len(path) == MaxPath {
			return nil
		}
		path = append(path, int(n))
	}
	return path
}

// flagEntries are the flags that clients keep of a part.
var flagEntries = []string{"seen", "answered", "flagged", "forwarded"}

// noteKnown tells whether an entry is one that may be written: those of RFC 5257, 3.2.1
// and what vendors have.
func noteKnown(levels []string) bool {
	part := isDigit(levels[0][0])
	if part {
		levels = levels[1:]
	}
	switch {
	case len(levels) == 0:
		return false
	case levels[0] == "vendor":
		return len(levels) > 1
	case len(levels) == 1:
		return levels[0] == "comment" || levels[0] == "altsubject" && !part
	}
	return part && len(levels) == 2 && levels[0] == "flags" && slices.Contains(flagEntries, levels[1])
}

// expectNotes reads what STORE and APPEND set: "(" entry "(" attribute value ... ")" ...
// ")".
func (d *Decoder) expectNotes(out *[]NoteValue) bool {
	var notes []NoteValue
	total := 0
	for first := true; ; first = false {
		if first {
			if !d.ExpectSpecial('(') {
				return false
			}
		} else if d.Special(')') {
			*out = notes
			return true
		} else if !d.ExpectSP() {
			return false
		}
		var entry string
		if !d.count() || !d.expectAString(&entry, "an entry") || !d.ExpectSP() || !d.ExpectSpecial('(') {
			return false
		}
		levels, wrong := entryLevels(entry, false)
		if wrong != "" {
			return d.Fail(wrong)
		}
		if !noteKnown(levels) {
			return d.fault(fault.New(fault.Unsupported, "there is no annotation "+clip(entry)))
		}
		for more := true; more; {
			n := NoteValue{Entry: entry}
			if !d.noteValue(&n, slices.Contains(levels, "flags")) {
				return false
			}
			if total += len(n.Value); total > maxNoteValues {
				return d.Fail("the values of one command may have " + strconv.Itoa(maxNoteValues) + " bytes")
			}
			notes = append(notes, n)
			if more = d.SP(); !more && !d.ExpectSpecial(')') {
				return false
			}
		}
	}
}

// noteValue reads an attribute and its value.
func (d *Decoder) noteValue(n *NoteValue, flag bool) bool {
	var attr string
	if !d.count() || !d.expectAString(&attr, "an attribute") {
		return false
	}
	if attr != "value.priv" && attr != "value.shared" {
		return d.Fail("value.priv and value.shared can be set, not " + clip(attr))
	}
	n.Private = attr == "value.priv"
	var huge int64
	if !d.ExpectSP() || !d.metadataValue(&n.Value, MaxNoteValue, &huge) {
		if huge > 0 {
			say := "an annotation may have " + strconv.Itoa(MaxNoteValue) + " bytes"
			return d.fault(fault.Wrap(fault.Unsupported, say, ErrNoteSize))
		}
		return false
	}
	if v := string(n.Value); flag && n.Value != nil && v != "0" && v != "1" {
		return d.fault(fault.New(fault.Unsupported, "the flag of a part is 0, 1 or NIL"))
	}
	return true
}

// noteItem reads what FETCH asks for: "(" entries attributes ")".
func (d *Decoder) noteItem(item *FetchItem) bool {
	item.Kind = FetchAnnotation
	if !d.ExpectSP() || !d.ExpectSpecial('(') {
		return false
	}
	return d.oneOrMore(func() bool {
		var e string
		if !d.entryPattern(&e) {
			return false
		}
		item.Entries = append(item.Entries, e)
		return len(item.Entries) <= maxEntries || d.Fail("ANNOTATION asks for too many entries")
	}) && d.ExpectSP() && d.oneOrMore(func() bool { return d.noteAttribute(item) }) && d.ExpectSpecial(')')
}

// oneOrMore reads one item, or some in parentheses.
func (d *Decoder) oneOrMore(item func() bool) bool {
	if c, _ := d.peek(); c != '(' {
		return item()
	}
	n := 0
	return d.List(func() bool { n++; return item() }) && (n > 0 || d.Fail("an empty list"))
}

// entryPattern reads an entry in which * and % may stand for something.
func (d *Decoder) entryPattern(out *string) bool {
	if !d.word(isListChar, out) && !d.String(out) {
		return d.expected("an entry")
	}
	if _, wrong := entryLevels(*out, true); wrong != "" {
		return d.Fail(wrong)
	}
	return true
}

func (d *Decoder) noteAttribute(item *FetchItem) bool {
	var attr string
	if !d.expectAString(&attr, "an attribute") {
		return false
	}
	found := false
	for i, name := range noteAttributes {
		if a := NoteAttribute(i); (name == attr || strings.HasPrefix(name, attr+".")) && attr != "" {
			if found = true; !slices.Contains(item.Attributes, a) {
				item.Attributes = append(item.Attributes, a)
			}
		}
	}
	return found || d.Fail("there is no attribute "+clip(attr))
}

// appendNoteItem appends a FETCH item as a client writes it.
func (it *FetchItem) appendNoteItem(b []byte) []byte {
	b = append(b, "ANNOTATION (("...)
	for i, e := range it.Entries {
		if i > 0 {
			b = append(b, ' ')
		}
		b = AppendString(b, e, false, true)
	}
	b = append(b, ") ("...)
	for i, a := range it.Attributes {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, a.String()...)
	}
	return append(b, "))"...)
}

// appendNotes appends what STORE or APPEND sets as a client writes it.
func appendNotes(b []byte, notes []NoteValue) []byte {
	b = append(b, '(')
	for i, n := range notes {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(AppendString(b, n.Entry, false, true), " ("...)
		attr := NoteValueShared
		if n.Private {
			attr = NoteValuePrivate
		}
		b = append(append(b, attr.String()...), ' ')
		b = append(AppendValue(b, n.Value, true), ')')
	}
	return append(b, ')')
}

// Which values a search looks into: SearchKey.Number.
const (
	SearchPrivate = 1 << iota
	SearchShared
)

var searchAttributes = [...]string{SearchPrivate: "value.priv", SearchShared: "value.shared", SearchPrivate | SearchShared: "value"}

// noteKey reads the arguments of the search key ANNOTATION (RFC 5257, 4.8). NIL means
// that there is no value.
func (p searchParser) noteKey(key *SearchKey) bool {
	d := p.d
	var attr string
	if !d.entryPattern(&key.Field) || !d.ExpectSP() || !d.expectAString(&attr, "an attribute") || !d.ExpectSP() {
		return false
	}
	i := slices.Index(searchAttributes[1:], attr) + 1
	if i == 0 {
		return d.Fail("the values of annotations can be searched, not " + clip(attr))
	}
	key.Number = uint64(i)
	var value []byte
	var huge int64
	if !d.metadataValue(&value, d.lim.String, &huge) {
		return huge > 0 && d.Fail("a search string is too long")
	}
	if value == nil {
		*key = SearchKey{Op: SearchNot, Keys: []SearchKey{*key}}
		return true
	}
	if p.text != nil {
		var err error
		if value, err = p.text.NewDecoder().Bytes(value); err != nil {
			return d.Fail("a search string is not in the charset that was named")
		}
	}
	if !utf8.Valid(value) || bytes.IndexByte(value, 0) >= 0 {
		return d.Fail("a search string is not valid UTF-8")
	}
	key.Text = string(value)
	return true
}

// appendNoteKey appends the key as a client writes it.
func (k *SearchKey) appendNoteKey(b []byte) []byte {
	b = AppendString(append(b, "ANNOTATION "...), k.Field, false, true)
	b = append(append(append(b, ' '), searchAttributes[k.Number]...), ' ')
	return AppendString(b, k.Text, true, true)
}

// noteSort reads the arguments of the sort key ANNOTATION (RFC 5257, 4.9).
func (d *Decoder) noteSort(by *SortBy) bool {
	var attr string
	if !d.ExpectSP() || !d.expectAString(&by.Entry, "an entry") || !d.ExpectSP() || !d.expectAString(&attr, "an attribute") {
		return false
	}
	if _, wrong := entryLevels(by.Entry, false); wrong != "" {
		return d.Fail(wrong)
	}
	if by.Private = attr == "value.priv"; !by.Private && attr != "value.shared" {
		return d.Fail("SORT orders by value.priv and value.shared, not " + clip(attr))
	}
	return true
}
