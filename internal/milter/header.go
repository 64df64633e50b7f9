package milter

import (
	"bytes"
	"strings"
)

// field is one field of a header. Its value is all behind the colon, with CRLF. A line that
// is no field has no name: programs are not shown it, and it stays where it is.
type field struct{ name, value string }

// fields cuts a header.
func fields(header []byte) (all []field) {
	for line := range bytes.Lines(header) {
		if len(all) > 0 && (line[0] == ' ' || line[0] == '\t') {
			all[len(all)-1].value += string(line)
			continue
		}
		name, value, ok := bytes.Cut(line, []byte{':'})
		if !ok || len(bytes.TrimRight(name, " \t")) == 0 {
			name, value = nil, line
		}
		all = append(all, field{string(name), string(value)})
	}
	return all
}

// is tells whether a field has a name. White space before the colon was allowed once.
func (f field) is(name string) bool { return strings.EqualFold(strings.TrimRight(f.name, " \t"), name) }

// editor changes a header as a program asks for it.
type editor struct {
	fields  []field
	spaced  bool // values come with the space behind the colon
	changed bool
}

// insert puts a field in front of the one at index, of those that were shown, or at the end.
func (e *editor) insert(index int, name, value string) {
	f, ok := e.made(name, value)
	if !ok {
		return
	}
	at := 0
	for ; at < len(e.fields) && (index > 0 || e.fields[at].name == ""); at++ {
		if e.fields[at].name != "" {
			index--
		}
	}
	index = at
	e.fields = append(e.fields[:index], append([]field{f}, e.fields[index:]...)...)
	e.changed = true
}

// change replaces the n-th field of a name, counted from 1, or removes it if value is empty.
// One that is not there is added.
func (e *editor) change(n int, name, value string) {
	for i := range e.fields {
		if !e.fields[i].is(name) {
			continue
		}
		if n--; n > 0 {
			continue
		}
		e.changed = true
		if f, ok := e.made(name, value); ok && value != "" {
			e.fields[i] = f
		} else {
			e.fields = append(e.fields[:i], e.fields[i+1:]...)
		}
		return
	}
	if value != "" {
		e.insert(len(e.fields), name, value)
	}
}

// made makes a field of what a program wrote. Lines end in CRLF and go on with white space:
// no value begins another field.
func (e *editor) made(name, value string) (field, bool) {
	name = strings.TrimSpace(name)
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) {
		return field{}, false
	}
	value = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\x00", "").Replace(value)
	var b strings.Builder
	if !e.spaced {
		b.WriteByte(' ')
	}
	for i, line := range strings.Split(strings.TrimRight(value, "\n"), "\n") {
		if strings.TrimSpace(line) == "" && i > 0 {
			continue
		}
		if i > 0 && line[0] != ' ' && line[0] != '\t' {
			b.WriteByte('\t')
		}
		b.WriteString(line + "\r\n")
	}
	return field{name, b.String()}, true
}

func (e *editor) bytes() []byte {
	var b bytes.Buffer
	for _, f := range e.fields {
		if f.name != "" {
			b.WriteString(f.name + ":")
		}
		b.WriteString(f.value)
	}
	return b.Bytes()
}
