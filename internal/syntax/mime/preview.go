package mime

import (
	"bytes"
	"html"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// wantPreview starts to keep the body of the leaf f if it may give the preview: the
// first text/plain that is no attachment and has text, else the first such
// text/html. Parts of inner messages give none.
func (p *Parser) wantPreview(f *frame) {
	part := f.part
	if p.plain != "" || part.Type != "text" || part.Disposition == "attachment" {
		return
	}
	for i := 1; i < len(p.frames); i++ {
		if p.frames[i].message {
			return
		}
	}
	switch {
	case part.Subtype == "html" && p.web == "":
		p.capturing = p.lim.HTMLBytes
	case part.Subtype == "plain":
		p.capturing = p.lim.PlainBytes
	default:
		return
	}
	f.captured = true
	if p.capture == nil {
		p.capture = make([]byte, 0, 4096)
	}
	p.capture = p.capture[:0]
}

// previewAtOnce is how much of a text is read at first: most fill the preview with their
// first lines.
const previewAtOnce = 1024

// readPreview makes the preview from what was kept of part, which just ended.
func (p *Parser) readPreview(part *Part) {
	p.capturing = 0
	body := p.capture
	cut := int64(len(body)) < part.Size()
	body = body[:min(int64(len(body)), part.Size())]
	if first := body[:min(len(body), previewAtOnce)]; part.Subtype == "plain" && IsPlain(part.Charset(), part.Encoding, first) {
		p.plain = preview(first, cut || len(first) < len(body))
		if len(first) == len(body) || len(p.plain) >= previewLen-1 {
			return
		}
	}
	r := NewDecoder(part.Encoding, bytes.NewReader(body))
	if part.Subtype == "html" {
		if text, err := io.ReadAll(r); err == nil {
			p.web = preview(HTMLText(decodeCharset(part.Charset(), text)), cut)
		}
		return
	}
	text := make([]byte, previewAtOnce)
	n, err := io.ReadFull(r, text)
	text = text[:n]
	p.plain = preview(decodeCharset(part.Charset(), text), cut || err == nil)
	if err != nil || utf8.RuneCountInString(p.plain) >= previewLen-1 {
		return
	}
	if rest, err := io.ReadAll(r); err == nil {
		p.plain = preview(decodeCharset(part.Charset(), append(text, rest...)), cut)
	}
}

// preview collapses white space, leaves out what cannot be seen, and cuts.
func preview[T string | []byte](s T, cut bool) string {
	out := make([]byte, 0, previewLen+8)
	n, gap := 0, false
	for i := 0; i < len(s) && n < previewLen; {
		r, size := rune(s[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
		}
		i += size
		if visible := r > ' ' && r < 0x7f; !visible {
			if unicode.IsSpace(r) {
				gap = true
				continue
			}
			if invisible(r) {
				continue
			}
		}
		if gap && n > 0 {
			if n+1 >= previewLen {
				break
			}
			out = append(out, ' ')
			n++
		}
		gap = false
		out = utf8.AppendRune(out, r)
		n++
	}
	if cut && n < previewLen {
		// The last character was cut in two with the body.
		return strings.TrimRight(string(out), "\uFFFD ")
	}
	return string(out)
}

// invisible tells whether r has no place in a preview: control characters, fillers
// newsletters use to push text away, marks that turn the direction of text.
func invisible(r rune) bool {
	switch {
	case r == 0x00ad, r == 0x034f, r == 0x200b, r == 0x2060, r == 0xfeff:
		return true
	case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return true
	}
	return unicode.IsControl(r)
}

// HTMLText reduces HTML to the text a person would read: no tags, comments, styles,
// scripts or titles, character references decoded. Block tags become white space.
// The result is text, not safe HTML. Linear in the length of s.
func HTMLText(s string) string {
	var b strings.Builder
	for s != "" {
		i := strings.IndexByte(s, '<')
		if i < 0 {
			break
		}
		b.WriteString(s[:i])
		s = s[i:]
		if !isTag(s) {
			b.WriteByte('<')
			s = s[1:]
			continue
		}
		if rest, ok := strings.CutPrefix(s, "<!--"); ok {
			_, s, _ = strings.Cut(rest, "-->")
			continue
		}
		var name string
		name, s = cutTag(s)
		switch name {
		case "style", "script", "title", "noscript", "template", "textarea":
			s = afterClose(s, name)
		default:
			if !inline(strings.TrimPrefix(name, "/")) {
				b.WriteByte(' ')
			}
		}
	}
	b.WriteString(s)
	return validUTF8(html.UnescapeString(b.String()))
}

// inline tells whether a tag stands inside a word or line.
func inline(name string) bool {
	switch name {
	case "b", "i", "u", "em", "strong", "span", "a", "font", "small", "sub", "sup", "big", "code", "abbr", "mark":
		return true
	}
	return false
}

// isTag tells whether the "<" at the start of s begins markup.
func isTag(s string) bool {
	if len(s) < 2 {
		return false
	}
	c := s[1] | 0x20
	return c >= 'a' && c <= 'z' || s[1] == '/' || s[1] == '!' || s[1] == '?'
}

// cutTag returns the name of the tag at the start of s in lower case, "/" first if
// it closes, and what follows it. ">" inside a quoted attribute does not end it.
func cutTag(s string) (name, rest string) {
	i := 1
	for i < len(s) && s[i] > ' ' && s[i] != '>' && (s[i] != '/' || i == 1) {
		i++
	}
	name = lower(clip(s[1:i], 16))
	var quote byte
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			if s[i-1] == '=' || s[i-1] <= ' ' {
				quote = c
			}
		case c == '>':
			return name, s[i+1:]
		}
	}
	return name, ""
}

// afterClose returns what follows the closing tag of name, or "".
func afterClose(s, name string) string {
	for {
		i := strings.Index(s, "</")
		if i < 0 {
			return ""
		}
		s = s[i+2:]
		if len(s) >= len(name) && strings.EqualFold(s[:len(name)], name) {
			_, s, _ = strings.Cut(s, ">")
			return s
		}
	}
}
