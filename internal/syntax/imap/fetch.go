package imap

import (
	"slices"
	"strconv"
	"strings"
)

// FetchKind says what a fetch item asks for.
type FetchKind uint8

const (
	FetchFlags FetchKind = iota + 1
	FetchUID
	FetchInternalDate
	FetchSize // RFC822.SIZE
	FetchEnvelope
	FetchBody          // BODY without a section: BODYSTRUCTURE without extensions
	FetchBodyStructure // BODYSTRUCTURE
	FetchSection       // BODY[...], RFC822, RFC822.HEADER, RFC822.TEXT
	FetchBinary        // BINARY[...]: transfer encoding undone (RFC 3516)
	FetchBinarySize    // BINARY.SIZE[...]
	FetchModSeq        // MODSEQ (RFC 7162)
	FetchSaveDate      // SAVEDATE (RFC 8514)
	FetchEmailID       // EMAILID (RFC 8474)
	FetchThreadID      // THREADID (RFC 8474)
	FetchObjectID      // OBJECTID: both of them (OBJECTID+)
	FetchPreview       // PREVIEW, with or without LAZY (RFC 8970)
	FetchGmailID       // X-GM-MSGID
	FetchGmailThread   // X-GM-THRID
	FetchLabels        // X-GM-LABELS
	FetchAnnotation    // ANNOTATION (RFC 5257)
)

// SectionText says which bytes of a part a section means.
type SectionText uint8

const (
	SectionAll SectionText = iota // the body of the part; with no path, the message
	SectionHeader
	SectionFields    // HEADER.FIELDS
	SectionNotFields // HEADER.FIELDS.NOT
	SectionBody      // TEXT
	SectionMIME
)

var sectionNames = [...]string{"", "HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME"}

// FetchItem is one thing that FETCH asks for (RFC 9051, 6.4.5 and 9 "fetch-att").
type FetchItem struct {
	Kind FetchKind
	Peek bool // a section or binary that does not set \Seen

	// Of FetchSection, FetchBinary and FetchBinarySize:
	Path   []uint32 // part numbers, outermost first; none is the message itself
	Text   SectionText
	Fields []string // of SectionFields and SectionNotFields, as the client spelt them

	Partial     bool // <Offset.Length> was given
	Offset, Len uint64

	Entries    []string // of FetchAnnotation, with wildcards
	Attributes []NoteAttribute

	Old string // the obsolete name by which it was asked: RFC822, RFC822.TEXT ...
}

// Fetch is the arguments of FETCH.
type Fetch struct {
	Set          SeqSet
	Items        []FetchItem
	Changed      bool   // CHANGEDSINCE was given (RFC 7162, 3.1.4)
	ChangedSince uint64 // its value; clients send 0, which all messages are newer than
	Vanished     bool   // VANISHED was given (RFC 7162, 3.2.6)
	Paged        bool   // PARTIAL was given (RFC 9394, 3.3)
	Partial      PartialRange
}

// Limits of one FETCH.
const (
	MaxFetchItems  = 100
	MaxPath        = 100 // part numbers in a section
	MaxFieldNames  = 500
	maxFieldLength = 200
)

// ExpectFetch reads the arguments of FETCH.
func (d *Decoder) ExpectFetch(out *Fetch) bool {
	var f Fetch
	if !d.ExpectSeqSet(&f.Set) || !d.ExpectSP() || !d.fetchItems(&f) {
		return false
	}
	if d.SP() && !d.ExpectList(func() bool { return d.fetchModifier(&f) }) {
		return false
	}
	if f.Vanished && !f.Changed {
		return d.Fail("VANISHED needs CHANGEDSINCE")
	}
	*out = f
	return d.err == nil
}

func (d *Decoder) fetchModifier(f *Fetch) bool {
	var word string
	if !d.ExpectWord(&word, "a fetch modifier") {
		return false
	}
	switch word {
	case "CHANGEDSINCE":
		f.Changed = true
		return d.ExpectSP() && d.ExpectNumber64(&f.ChangedSince)
	case "VANISHED":
		f.Vanished = true
		return true
	case "PARTIAL":
		f.Paged = true
		return d.ExpectSP() && d.expectPartial(&f.Partial)
	}
	return d.Fail("there is no fetch modifier " + clip(word))
}

func (d *Decoder) fetchItems(f *Fetch) bool {
	if c, _ := d.peek(); c == '(' {
		if !d.List(func() bool { return d.fetchItem(f, true) }) {
			return false
		}
		return len(f.Items) > 0 || d.Fail("FETCH asks for nothing")
	}
	return d.fetchItem(f, false)
}

// macros are words for several items, alone only (RFC 9051, 6.4.5). They are
// tolerated in a list, where some clients put them.
var macros = map[string][]FetchKind{
	"FAST": {FetchFlags, FetchInternalDate, FetchSize},
	"ALL":  {FetchFlags, FetchInternalDate, FetchSize, FetchEnvelope},
	"FULL": {FetchFlags, FetchInternalDate, FetchSize, FetchEnvelope, FetchBody},
}

var plainItems = map[string]FetchItem{
	"FLAGS":         {Kind: FetchFlags},
	"UID":           {Kind: FetchUID},
	"INTERNALDATE":  {Kind: FetchInternalDate},
	"RFC822.SIZE":   {Kind: FetchSize},
	"ENVELOPE":      {Kind: FetchEnvelope},
	"BODYSTRUCTURE": {Kind: FetchBodyStructure},
	"MODSEQ":        {Kind: FetchModSeq},
	"SAVEDATE":      {Kind: FetchSaveDate},
	"EMAILID":       {Kind: FetchEmailID},
	"THREADID":      {Kind: FetchThreadID},
	"OBJECTID":      {Kind: FetchObjectID},
	"PREVIEW":       {Kind: FetchPreview},
	"X-GM-MSGID":    {Kind: FetchGmailID},
	"X-GM-THRID":    {Kind: FetchGmailThread},
	"X-GM-LABELS":   {Kind: FetchLabels},
	"RFC822":        {Kind: FetchSection, Old: "RFC822"},
	"RFC822.HEADER": {Kind: FetchSection, Text: SectionHeader, Peek: true, Old: "RFC822.HEADER"},
	"RFC822.TEXT":   {Kind: FetchSection, Text: SectionBody, Old: "RFC822.TEXT"},
}

// asks tells whether an item of a kind is among them.
func (f *Fetch) asks(kind FetchKind) bool {
	return slices.ContainsFunc(f.Items, func(it FetchItem) bool { return it.Kind == kind })
}

func isItemChar(c byte) bool { return isAtomChar(c) && c != '[' && c != '<' }

func (d *Decoder) fetchItem(f *Fetch, inList bool) bool {
	var word string
	if !d.word(isItemChar, &word) {
		return d.expected("a fetch item")
	}
	word = strings.ToUpper(word)
	if kinds, ok := macros[word]; ok {
		for _, k := range kinds {
			f.Items = append(f.Items, FetchItem{Kind: k})
		}
		return len(f.Items) <= MaxFetchItems || d.Fail("FETCH asks for too many items")
	}
	item, ok := plainItems[word]
	if !ok && !(d.Old && d.oldItem(word, &item)) && !d.sectionItem(word, &item) || item.Kind == FetchPreview && !d.previewModifiers() {
		return false
	}
	if len(f.Items) >= MaxFetchItems || item.Kind == FetchAnnotation && f.asks(FetchAnnotation) {
		return d.Fail("FETCH asks for too many items")
	}
	f.Items = append(f.Items, item)
	return true
}

// previewModifiers reads the modifiers of PREVIEW, of which there is one, LAZY, that
// changes nothing where previews are at hand (RFC 8970, 4). After PREVIEW alone a list
// may be that of the FETCH modifiers, none of which begins with this letter.
func (d *Decoder) previewModifiers() bool {
	if b, err := d.r.Peek(2); err != nil || string(b) != " (" {
		return d.err == nil
	}
	if b, err := d.r.Peek(3); err != nil || b[2]|0x20 != 'l' {
		return d.err == nil
	}
	return d.ExpectSP() && d.ExpectList(func() bool {
		var word string
		if !d.ExpectWord(&word, "LAZY") {
			return false
		}
		return word == "LAZY" || d.Fail("PREVIEW knows no modifier "+clip(word))
	})
}

// sectionItem reads what follows BODY or BINARY.
func (d *Decoder) sectionItem(word string, item *FetchItem) bool {
	switch word {
	case "ANNOTATION":
		return d.noteItem(item)
	case "BODY", "BODY.PEEK":
		item.Kind, item.Peek = FetchSection, word == "BODY.PEEK"
		if !d.Special('[') {
			item.Kind = FetchBody
			return !item.Peek && d.err == nil || d.expected("'['")
		}
		return d.section(item) && d.partial(item)
	case "BINARY", "BINARY.PEEK":
		item.Kind, item.Peek = FetchBinary, word == "BINARY.PEEK"
		return d.binarySection(item) && d.partial(item)
	case "BINARY.SIZE":
		item.Kind, item.Peek = FetchBinarySize, true
		return d.binarySection(item)
	}
	return d.Fail("there is no fetch item " + clip(word))
}

func (d *Decoder) binarySection(item *FetchItem) bool {
	if !d.ExpectSpecial('[') {
		return false
	}
	if d.atDigit() && !d.path(item) {
		return false
	}
	return d.ExpectSpecial(']')
}

// path reads part numbers and stops before a dot that no number follows.
func (d *Decoder) path(item *FetchItem) bool {
	for {
		var n uint32
		if !d.ExpectNumber(&n) {
			return false
		}
		if n == 0 {
			return d.Old && d.oldHeader(item) || d.Fail("part numbers begin at 1")
		}
		if len(item.Path) == MaxPath {
			return d.Fail("a section has too many part numbers")
		}
		item.Path = append(item.Path, n)
		if c, _ := d.peek(); c != '.' {
			return d.err == nil
		}
		if b, _ := d.r.Peek(2); len(b) < 2 || !isDigit(b[1]) {
			return true
		}
		d.take(1)
	}
}

// section reads a section up to its closing bracket (RFC 9051, 6.4.5.1).
func (d *Decoder) section(item *FetchItem) bool {
	if d.Special(']') {
		return true
	}
	if d.atDigit() {
		if !d.path(item) {
			return false
		}
		if d.Special(']') {
			return true
		}
		if !d.ExpectSpecial('.') {
			return false
		}
	}
	var word string
	if !d.ExpectWord(&word, "a section name") {
		return false
	}
	switch word {
	case "HEADER":
		item.Text = SectionHeader
	case "TEXT":
		item.Text = SectionBody
	case "MIME":
		item.Text = SectionMIME
		if len(item.Path) == 0 {
			return d.Fail("MIME needs a part number before it")
		}
	case "HEADER.FIELDS", "HEADER.FIELDS.NOT":
		item.Text = SectionFields
		if word == "HEADER.FIELDS.NOT" {
			item.Text = SectionNotFields
		}
		if !d.ExpectSP() || !d.ExpectList(func() bool { return d.fieldName(item) }) {
			return false
		}
		if len(item.Fields) == 0 {
			return d.Fail("a list of header fields is empty")
		}
	default:
		return d.Fail("there is no section " + clip(word))
	}
	return d.ExpectSpecial(']')
}

func (d *Decoder) fieldName(item *FetchItem) bool {
	var s string
	if !d.expectFilled(&s, "a header field name") {
		return false
	}
	if len(item.Fields) == MaxFieldNames || len(s) > maxFieldLength {
		return d.Fail("too many or too long header field names")
	}
	item.Fields = append(item.Fields, s)
	return true
}

// partial reads <offset.length> if it is there.
func (d *Decoder) partial(item *FetchItem) bool {
	if !d.Special('<') {
		return d.err == nil
	}
	item.Partial = true
	if !d.ExpectNumber64(&item.Offset) || !d.ExpectSpecial('.') || !d.ExpectNumber64(&item.Len) {
		return false
	}
	if item.Len == 0 {
		return d.Fail("a partial fetch of no bytes")
	}
	return d.ExpectSpecial('>')
}

var kindNames = map[FetchKind]string{
	FetchFlags: "FLAGS", FetchUID: "UID", FetchInternalDate: "INTERNALDATE", FetchSize: "RFC822.SIZE",
	FetchEnvelope: "ENVELOPE", FetchBody: "BODY", FetchBodyStructure: "BODYSTRUCTURE", FetchModSeq: "MODSEQ",
	FetchSaveDate: "SAVEDATE", FetchEmailID: "EMAILID", FetchThreadID: "THREADID", FetchObjectID: "OBJECTID", FetchPreview: "PREVIEW",
	FetchGmailID: "X-GM-MSGID", FetchGmailThread: "X-GM-THRID", FetchLabels: "X-GM-LABELS",
	FetchSection: "BODY", FetchBinary: "BINARY", FetchBinarySize: "BINARY.SIZE",
}

// AppendName appends the item's name as a response writes it: no PEEK, and only the
// offset of a partial (RFC 9051, 7.5.2).
func (it *FetchItem) AppendName(b []byte) []byte { return it.appendName(b, false) }

func (it *FetchItem) appendName(b []byte, request bool) []byte {
	if it.Old != "" {
		return it.appendOld(b, request)
	}
	b = append(b, kindNames[it.Kind]...)
	switch it.Kind {
	case FetchSection, FetchBinary, FetchBinarySize:
	case FetchAnnotation:
		return it.appendNoteItem(b)
	default:
		return b
	}
	if request && it.Peek && it.Kind != FetchBinarySize {
		b = append(b, ".PEEK"...)
	}
	b = append(b, '[')
	b = it.appendSection(b, request)
	b = append(b, ']')
	if it.Partial {
		b = appendNumber(append(b, '<'), it.Offset)
		if request {
			b = appendNumber(append(b, '.'), it.Len)
		}
		b = append(b, '>')
	}
	return b
}

func (it *FetchItem) appendSection(b []byte, request bool) []byte {
	for i, n := range it.Path {
		if i > 0 {
			b = append(b, '.')
		}
		b = strconv.AppendUint(b, uint64(n), 10)
	}
	if it.Text == SectionAll {
		return b
	}
	if len(it.Path) > 0 {
		b = append(b, '.')
	}
	return it.appendFields(append(b, sectionNames[it.Text]...), request)
}

func (it *FetchItem) appendFields(b []byte, request bool) []byte {
	for i, f := range it.Fields {
		b = append(b, [...]string{" (", " "}[min(i, 1)]...)
		if isAtom(f) {
			b = append(b, f...)
		} else {
			b = AppendString(b, f, false, request)
		}
	}
	if len(it.Fields) > 0 {
		b = append(b, ')')
	}
	return b
}

// AppendText appends the arguments as a client writes them.
func (f Fetch) AppendText(b []byte) []byte {
	b = append(f.Set.AppendText(b), " ("...)
	for i := range f.Items {
		if i > 0 {
			b = append(b, ' ')
		}
		b = f.Items[i].appendName(b, true)
	}
	b = append(b, ')')
	return f.appendModifiers(b)
}

func (f Fetch) appendModifiers(b []byte) []byte {
	if !f.Changed && !f.Paged {
		return b
	}
	b = append(b, " ("...)
	if f.Changed {
		b = appendNumber(append(b, "CHANGEDSINCE "...), f.ChangedSince)
		if f.Vanished {
			b = append(b, " VANISHED"...)
		}
		if f.Paged {
			b = append(b, ' ')
		}
	}
	if f.Paged {
		b = f.Partial.AppendText(append(b, "PARTIAL "...))
	}
	return append(b, ')')
}

func appendNumber(b []byte, n uint64) []byte { return strconv.AppendUint(b, n, 10) }
