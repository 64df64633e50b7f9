package mime

import (
	"bytes"
	"iter"
)

// Fields yields the fields of a header in order: the name without the colon and
// white space before it, and the value as it stands, folding included, without the
// last line ending. It stops at the empty line; lines that are no field are left
// out. The slices are of header.
func Fields(header []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for len(header) > 0 {
			var field []byte
			field, header = cutField(header)
			if isEmptyLine(field) {
				return
			}
			name, value, ok := splitField(field)
			if ok && !yield(name, value) {
				return
			}
		}
	}
}

// Unfold returns value as one line: line endings before white space are taken out,
// white space around the value too (RFC 5322, 2.2.3).
func Unfold(value []byte) string { return string(AppendUnfold(nil, value)) }

// AppendUnfold appends what Unfold returns to b.
func AppendUnfold(b, value []byte) []byte {
	value = bytes.Trim(value, " \t\r\n")
	for {
		i := bytes.IndexByte(value, '\n')
		if i < 0 {
			return append(b, value...)
		}
		b = append(b, bytes.TrimSuffix(value[:i], []byte("\r"))...)
		value = value[i+1:]
	}
}

// cutField returns the first line of h with its continuation lines, and the rest.
func cutField(h []byte) (field, rest []byte) {
	for i := 0; i < len(h); {
		n := bytes.IndexByte(h[i:], '\n')
		if n < 0 {
			break
		}
		i += n + 1
		empty := i == 1 || i == 2 && h[0] == '\r'
		if empty || i < len(h) && h[i] != ' ' && h[i] != '\t' {
			return h[:i], h[i:]
		}
	}
	return h, nil
}

func isEmptyLine(line []byte) bool {
	return string(line) == "\r\n" || string(line) == "\n"
}

// splitField cuts a field at its colon. White space before the colon is of neither
// (RFC 5322, 4.5.8).
func splitField(field []byte) (name, value []byte, ok bool) {
	i := bytes.IndexByte(field, ':')
	if i <= 0 {
		return nil, nil, false
	}
	name = field[:i]
	for len(name) > 0 && (name[len(name)-1] == ' ' || name[len(name)-1] == '\t') {
		name = name[:len(name)-1]
	}
	for _, c := range name {
		if c <= ' ' || c == 0x7f {
			return nil, nil, false
		}
	}
	value = bytes.TrimSuffix(field[i+1:], []byte("\n"))
	return name, bytes.TrimSuffix(value, []byte("\r")), len(name) > 0
}

// FilterHeader returns the fields of a header whose names are listed, or with not
// those whose names are not, byte for byte, and an empty line at the end (RFC 9051,
// 6.4.5.1, HEADER.FIELDS). Names are compared without case. Lines that are no field
// count as fields of an unlisted name.
func FilterHeader(header []byte, fields []string, not bool) []byte {
	return AppendFiltered(make([]byte, 0, min(len(header), 1024)), header, fields, not)
}

// AppendFiltered appends what FilterHeader returns.
func AppendFiltered(out, header []byte, fields []string, not bool) []byte {
	start := len(out)
	wanted := setOf(fields)
	for len(header) > 0 {
		var field []byte
		field, header = cutField(header)
		if isEmptyLine(field) {
			break
		}
		name, _, ok := splitField(field)
		if (ok && wanted.has(name)) != not {
			out = append(out, field...)
		}
	}
	if n := len(out); n > start && out[n-1] != '\n' {
		out = append(out, "\r\n"...)
	}
	return append(out, "\r\n"...)
}

// nameSet is names of fields. A long list is a map, so that it costs no more per field.
type nameSet struct {
	list  []string
	names map[string]bool
}

func setOf(fields []string) nameSet {
	if len(fields) <= 16 {
		return nameSet{list: fields}
	}
	names := make(map[string]bool, len(fields))
	for _, f := range fields {
		names[lower(f)] = true
	}
	return nameSet{names: names}
}

func (s *nameSet) has(name []byte) bool {
	if s.names == nil {
		return listed(s.list, name)
	}
	return s.names[lower(string(name))]
}

func listed(fields []string, name []byte) bool {
	for _, f := range fields {
		if len(f) == len(name) && equalFold(f, name) {
			return true
		}
	}
	return false
}

// equalFold compares ASCII without case; both have the same length.
func equalFold(a string, b []byte) bool {
	for i := range b {
		if upper(a[i]) != upper(b[i]) {
			return false
		}
	}
	return true
}

func upper(c byte) byte {
	if c >= 'a' && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}

// field numbers the header fields the parser keeps.
type field int

const (
	fContentType field = iota
	fEncoding
	fID
	fDescription
	fDisposition
	fLanguage
	fLocation
	fMD5
	fDate // from here on only in the header of a message
	fSubject
	fFrom
	fSender
	fReplyTo
	fTo
	fCc
	fBcc
	fInReplyTo
	fMessageID
	fReferences
	fieldCount
	noField field = -1
)

// fieldNames are the names of the fields, in lower case.
var fieldNames = [fieldCount]string{
	"content-type", "content-transfer-encoding", "content-id", "content-description", "content-disposition",
	"content-language", "content-location", "content-md5", "date", "subject", "from", "sender", "reply-to",
	"to", "cc", "bcc", "in-reply-to", "message-id", "references",
}

func fieldOf(name []byte) field {
	for f, s := range fieldNames {
		if len(s) == len(name) && equalFold(s, name) {
			return field(f)
		}
	}
	return noField
}

// header gathers the fields of one part while its lines come in.
type header struct {
	message bool
	has     [fieldCount]bool
	value   [fieldCount][]byte // unfolded, without NUL
	field   []byte             // the field at hand, with its line endings
	bytes   int                // of the header so far
	fields  int
}

// add appends a piece of the field at hand; bytes past limit are left out.
func (h *header) add(b []byte, limit int) {
	if n := min(len(b), limit-h.bytes); n > 0 {
		h.field = append(h.field, b[:n]...)
		h.bytes += n
	}
}

// drop forgets the line at hand: it turned out to be a delimiter.
func (h *header) drop() { h.field = h.field[:0] }

// end keeps the field at hand if it is wanted, is one of the first limit fields and
// has at most room bytes. It returns the bytes kept.
func (h *header) end(limit, room int) int {
	raw := h.field
	h.field = h.field[:0]
	if len(raw) == 0 || h.fields >= limit {
		return 0
	}
	h.fields++
	name, value, ok := splitField(raw)
	if !ok {
		return 0
	}
	f := fieldOf(name)
	if f == noField || f >= fDate && !h.message {
		return 0
	}
	more := h.has[f] && (f == fTo || f == fCc || f == fBcc)
	if h.has[f] && !more || len(value) > room {
		return 0
	}
	if more {
		h.value[f] = append(h.value[f], ", "...)
	}
	h.has[f] = true
	before := len(h.value[f])
	h.value[f] = AppendUnfold(h.value[f], value)
	if bytes.IndexByte(value, 0) >= 0 {
		rest := bytes.ReplaceAll(h.value[f][before:], []byte{0}, nil)
		h.value[f] = append(h.value[f][:before], rest...)
	}
	return len(h.value[f]) - before + 2
}

// reset makes h ready for another header, with the memory that it has.
func (h *header) reset(message bool) {
	value := h.value
	for f := range value {
		value[f] = kept(value[f])
	}
	*h = header{message: message, value: value, field: kept(h.field)}
}
