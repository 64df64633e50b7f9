package imapd

import (
	"bytes"
	"strings"

	"github.com/martlet-mail/martlet/internal/syntax/imap"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// headerText is a message's top header as a search compares it. A field is decoded and
// folded when it is first asked for: most searches ask for one of many.
type headerText struct {
	by     imap.Comparator
	head   []byte // the header itself
	fields []headerField
	folded []byte // lines of the fields, one after the other
	plain  []byte // of line, used again
}

type headerField struct {
	name, raw []byte // as they stand
	line      []byte // folded: name, colon, space and the decoded value; nil until asked for
	value     int    // where the value begins in line
}

// reset makes h that of another message.
func (h *headerText) reset(head []byte, by imap.Comparator) {
	*h = headerText{by: by, head: head, fields: h.fields[:0], folded: h.folded[:0], plain: h.plain}
	for name, value := range mime.Fields(head) {
		h.fields = append(h.fields, headerField{name: name, raw: value})
	}
}

// line returns a field as text.
func (h *headerText) line(f *headerField) []byte {
	if f.line == nil {
		start := len(h.folded)
		h.folded = append(h.by.AppendFold(h.folded, f.name), ": "...)
		f.value = len(h.folded) - start
		h.plain = mime.AppendUnfold(h.plain[:0], f.raw)
		text := h.plain
		if !mime.IsPlain("", "", text) || bytes.Contains(text, []byte("=?")) {
			text = []byte(mime.DecodeWords(string(text)))
		}
		h.folded = h.by.AppendFold(h.folded, text)
		f.line = h.folded[start:]
	}
	return f.line
}

func (f *headerField) named(name string) bool {
	return len(f.name) == len(name) && strings.EqualFold(string(f.name), name)
}

// has tells whether a field of that name holds the text, which is folded.
func (h *headerText) has(name, text string) bool {
	for i := range h.fields {
		if f := &h.fields[i]; f.named(name) {
			if line := h.line(f); bytes.Contains(line[f.value:], []byte(text)) {
				return true
			}
		}
	}
	return false
}

// addressed tells whether a field of that name holds the text in one of its addresses,
// read as addresses: without comments and odd spaces, as the envelope shows them.
func (h *headerText) addressed(name, text string) bool {
	for i := range h.fields {
		if !h.fields[i].named(name) {
			continue
		}
		for _, a := range mime.ParseAddressList(mime.Unfold(h.fields[i].raw)) {
			if strings.Contains(h.by.Fold(h.shown(a)), text) {
				return true
			}
		}
	}
	return false
}

// shown is an address as addressed compares it.
func (*headerText) shown(a mime.Address) string {
	return a.Name + " <" + a.Mailbox + "@" + a.Host + ">"
}

// contains tells whether any line of the header holds the text.
func (h *headerText) contains(text string) bool {
	for i := range h.fields {
		if bytes.Contains(h.line(&h.fields[i]), []byte(text)) {
			return true
		}
	}
	return false
}
