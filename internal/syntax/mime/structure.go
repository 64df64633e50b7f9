package mime

import (
	"bytes"
	"strconv"
)

// appendString appends s as an IMAP string: quoted where it is 7-bit without control
// bytes, else a literal (RFC 9051, 4.3). NUL cannot be said and is left out.
func appendString[T string | []byte](b []byte, s T) []byte {
	special := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c < ' ' && c != '\t' || c >= 0x7f:
			return appendLiteral(b, s)
		case c == '"' || c == '\\':
			special = true
		}
	}
	b = append(b, '"')
	if !special {
		b = append(b, s...)
		return append(b, '"')
	}
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

func appendLiteral[T string | []byte](b []byte, s T) []byte {
	raw := []byte(s)
	if bytes.IndexByte(raw, 0) >= 0 {
		raw = bytes.ReplaceAll(raw, []byte{0}, nil)
	}
	b = append(b, '{')
	b = strconv.AppendInt(b, int64(len(raw)), 10)
	b = append(b, "}\r\n"...)
	return append(b, raw...)
}

// appendNString is appendString with NIL for "".
func appendNString(b []byte, s string) []byte {
	if s == "" {
		return append(b, "NIL"...)
	}
	return appendString(b, s)
}

// envelope makes an ENVELOPE from header fields (RFC 9051, 7.5.2).
type envelope struct {
	h     *header
	lists []([]mailbox) // by field
	limit int           // bytes of one list
	room  int           // bytes of all of them
}

func (e *envelope) append(b []byte) []byte {
	b = append(b, '(')
	b = e.text(b, fDate)
	b = append(b, ' ')
	b = e.text(b, fSubject)
	from := e.list(nil, e.lists[fFrom])
	for _, f := range [...]field{fFrom, fSender, fReplyTo, fTo, fCc, fBcc} {
		b = append(b, ' ')
		switch {
		case f == fFrom:
			b = append(b, from...)
		case len(e.lists[f]) == 0 && (f == fSender || f == fReplyTo):
			b = append(b, from...)
		default:
			b = e.list(b, e.lists[f])
		}
	}
	b = append(b, ' ')
	b = e.text(b, fInReplyTo)
	b = append(b, ' ')
	b = e.text(b, fMessageID)
	return append(b, ')')
}

// text appends a field as a string, NIL if it is absent; a field that is there but
// empty is "".
func (e *envelope) text(b []byte, f field) []byte {
	if !e.h.has[f] {
		return append(b, "NIL"...)
	}
	return appendString(b, e.h.value[f])
}

// list appends an address list, or NIL. It stops before an address that would take
// it over a limit, and still ends an open group.
func (e *envelope) list(b []byte, list []mailbox) []byte {
	start, open := len(b), false
	limit := min(e.limit, e.room)
	b = append(b, '(')
	for _, m := range list {
		before := len(b)
		b = appendMailbox(b, m)
		if len(b)-start > limit && !m.end {
			b = b[:before]
			break
		}
		open = (open || m.start) && !m.end
	}
	if open {
		b = appendMailbox(b, mailbox{end: true})
	}
	if len(b) == start+1 {
		return append(b[:start], "NIL"...)
	}
	e.room -= len(b) - start
	return append(b, ')')
}

// appendMailbox appends (name route mailbox host). A nil host marks a group, so that
// an address without a domain has an empty one.
func appendMailbox(b []byte, m mailbox) []byte {
	b = append(b, '(')
	switch {
	case m.start:
		b = append(b, "NIL NIL "...)
		b = appendString(b, m.name)
		b = append(b, " NIL"...)
	case m.end:
		b = append(b, "NIL NIL NIL NIL"...)
	default:
		b = appendNString(b, m.name)
		b = append(b, ' ')
		b = appendNString(b, m.route)
		b = append(b, ' ')
		b = appendString(b, m.local)
		b = append(b, ' ')
		b = appendString(b, m.host)
	}
	return append(b, ')')
}

// appendStructure appends p as body with extension data (RFC 9051, 9, body). It
// descends as deep as Limits.Depth.
func appendStructure(b []byte, p *Part) []byte {
	b = append(b, '(')
	if p.IsMultipart() {
		for _, c := range p.Children {
			b = appendStructure(b, c)
		}
		b = append(b, ' ')
		b = appendString(b, p.Subtype)
		b = append(b, ' ')
		b = appendParams(b, p.Params, false)
		return append(p.appendExtension(b), ')')
	}
	b = appendString(b, p.Type)
	b = append(b, ' ')
	b = appendString(b, p.Subtype)
	b = append(b, ' ')
	b = appendParams(b, p.Params, p.Type == "text")
	b = append(b, ' ')
	b = appendNString(b, p.ID)
	b = append(b, ' ')
	b = appendNString(b, p.Description)
	b = append(b, ' ')
	if p.Encoding == "" {
		b = append(b, `"7bit"`...)
	} else {
		b = appendString(b, p.Encoding)
	}
	b = append(b, ' ')
	b = strconv.AppendInt(b, p.Size(), 10)
	if p.IsMessage() {
		b = append(b, ' ')
		b = append(b, p.Children[0].envelope...)
		b = append(b, ' ')
		b = appendStructure(b, p.Children[0])
	}
	if p.IsMessage() || p.Type == "text" {
		b = append(b, ' ')
		b = strconv.AppendInt(b, p.Lines, 10)
	}
	b = append(b, ' ')
	b = appendNString(b, p.MD5)
	return append(p.appendExtension(b), ')')
}

// appendExtension appends disposition, language and location.
func (p *Part) appendExtension(b []byte) []byte {
	b = append(b, ' ')
	if p.Disposition == "" {
		b = append(b, "NIL"...)
	} else {
		b = append(b, '(')
		b = appendString(b, p.Disposition)
		b = append(b, ' ')
		b = appendParams(b, p.DispParams, false)
		b = append(b, ')')
	}
	b = append(b, ' ')
	if len(p.Language) == 0 {
		b = append(b, "NIL"...)
	} else {
		for i, l := range p.Language {
			b = append(b, "( "[min(i, 1)])
			b = appendString(b, l)
		}
		b = append(b, ')')
	}
	b = append(b, ' ')
	return appendNString(b, p.Location)
}

// appendParams appends (name value ...) or NIL. Text without a charset is said to be
// us-ascii, which is what its absence means (RFC 2045, 5.2).
func appendParams(b []byte, ps Params, text bool) []byte {
	start := len(b)
	b = append(b, '(')
	for _, p := range ps {
		if len(b) > start+1 {
			b = append(b, ' ')
		}
		b = appendString(b, p.Name)
		b = append(b, ' ')
		b = appendString(b, p.Value)
		text = text && p.Name != "charset" && p.Name != "charset*"
	}
	if text {
		if len(b) > start+1 {
			b = append(b, ' ')
		}
		b = append(b, `"charset" "us-ascii"`...)
	}
	if len(b) == start+1 {
		return append(b[:start], "NIL"...)
	}
	return append(b, ')')
}
