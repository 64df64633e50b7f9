package mime

import "bytes"

// longHeader is a size in bytes from which on a Parser may have ignored the end of a
// header; a field that is to be seen goes to the top of it. It is below what
// Limits.HeaderBytes and Limits.HeaderFields allow by default.
const longHeader = 16 << 10

// header copies the header of p with the changes of its step. The first
// Content-Transfer-Encoding is replaced where it stands and others are left out, so
// that no two readers can disagree; what is missing goes to the end.
func (c *converter) header(p *Part, st step) error {
	if st.label == "" && !st.version {
		return c.lines(p.Body)
	}
	h := headerEdit{label: st.label, version: st.version}
	lineStart := true
	for first := true; c.pos < p.Body; first = false {
		b, err := c.piece(p.Body)
		if err != nil {
			return err
		}
		if first && p.Encoding == "" && p.Body-p.Header > longHeader && b[0] != ' ' && b[0] != '\t' {
			if err := c.write(h.encoding()); err != nil {
				return err
			}
		}
		var put []byte
		switch {
		case lineStart && isEmptyLine(b) && c.pos == p.Body:
			put = h.missing()
			h.drop = false
		case lineStart && b[0] != ' ' && b[0] != '\t':
			put = h.field(b)
		}
		lineStart = b[len(b)-1] == '\n'
		if h.drop {
			b = nil
		}
		if err := c.write(put); err != nil {
			return err
		}
		if err := c.write(b); err != nil {
			return err
		}
	}
	return nil
}

// headerEdit is the state of changing one header.
type headerEdit struct {
	label   string // Content-Transfer-Encoding to write; "" leaves what is there
	version bool   // a MIME-Version is wanted and none was seen
	done    bool   // label is written
	drop    bool   // the field at hand is left out
}

// field looks at the first line of a field, or a part of it with the name at least,
// and returns what comes in its place.
func (h *headerEdit) field(b []byte) []byte {
	h.drop = false
	name, _, found := bytes.Cut(b, []byte(":"))
	if !found && b[len(b)-1] == '\n' {
		return nil
	}
	name = bytes.TrimRight(name, " \t")
	switch {
	case h.version && isField(name, "MIME-Version"):
		h.version = false
	case h.label != "" && isField(name, "Content-Transfer-Encoding"):
		h.drop = true
		return h.encoding()
	}
	return nil
}

// encoding returns the new field, once.
func (h *headerEdit) encoding() []byte {
	if h.done || h.label == "" {
		return nil
	}
	h.done = true
	return []byte("Content-Transfer-Encoding: " + h.label + "\r\n")
}

// missing returns the fields that were not there.
func (h *headerEdit) missing() []byte {
	var b []byte
	if h.version {
		b = append(b, "MIME-Version: 1.0\r\n"...)
	}
	return append(b, h.encoding()...)
}

func isField(name []byte, want string) bool {
	return len(name) == len(want) && equalFold(want, name)
}
