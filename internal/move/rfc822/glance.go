package rfc822

import (
	"bytes"
	"io"
	"strings"

	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// MaxGlance is how many bytes of a header a glance sees.
const MaxGlance = 256 << 10

// Head is what a glance at a header saw.
type Head struct {
	MessageID string
	Broken    string // what is wrong with the message, "" if nothing is seen
	fields    map[string]string
}

// Get returns a field that was asked for, unfolded; of several, the first.
func (h *Head) Get(name string) string { return h.fields[name] }

// Has tells whether the header has a field that was asked for.
func (h *Head) Has(name string) bool { _, ok := h.fields[name]; return ok }

// Glance looks at a message's header, which ends with its empty line or with what was
// seen of it. Fields are asked for by names in lower case.
func Glance(header []byte, names ...string) *Head {
	h := &Head{fields: make(map[string]string, len(names))}
	seen := 0
	for name, value := range mime.Fields(header) {
		key := lowerName(name)
		if !fieldName(key) {
			continue
		}
		seen++
		if key == "message-id" && h.MessageID == "" {
			h.MessageID = messageID(mime.Unfold(value))
		}
		for _, n := range names {
			if n == key && !h.Has(n) {
				h.fields[n] = strings.TrimSpace(mime.Unfold(value))
			}
		}
	}
	switch {
	case len(bytes.TrimSpace(header)) == 0:
		h.Broken = "it has no header"
	case seen == 0:
		h.Broken = "it does not begin with a header"
	case bytes.IndexByte(header, 0) >= 0:
		h.Broken = "its header has NUL bytes"
	}
	return h
}

// fieldName tells whether a field can have the name (RFC 5322, 3.6.8).
func fieldName(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == ':' {
			return false
		}
	}
	return s != ""
}

func messageID(value string) string {
	ids := mime.ParseMessageIDs(value, 1)
	if len(ids) == 0 {
		return ""
	}
	return strings.Trim(ids[0], "<>")
}

// ReadHeader reads little more of a message than its header.
func ReadHeader(raw io.Reader) ([]byte, error) {
	r := NewReader(raw, Form{})
	buf := make([]byte, 4<<10)
	for !r.InBody() && len(r.Header()) < MaxGlance-pieces {
		if _, err := r.Read(buf); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
	}
	return r.Header(), nil
}
