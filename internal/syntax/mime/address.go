package mime

import "strings"

// mailbox is one entry of an address list before decoding. A group is an entry with
// start or end set; its members stand between.
type mailbox struct {
	name        string // display name or group name, quotes taken off
	route       string // obsolete source route, without the colon
	local, host string
	start, end  bool
}

// ParseAddressList reads an address field as tolerantly as a person would: missing
// commas of groups, unquoted names, comments as names, addresses without a domain.
// Group members are returned without their group. At most 1,000 are read.
// RFC 5322, 3.4 and 4.4.
func ParseAddressList(s string) []Address {
	return decodeMailboxes(parseMailboxes(Unfold([]byte(s)), DefaultLimits().Addresses))
}

func decodeMailboxes(list []mailbox) []Address {
	var out []Address
	for _, m := range list {
		if m.start || m.end {
			continue
		}
		a := Address{Name: DecodeWords(m.name), Mailbox: validUTF8(m.local), Host: validUTF8(m.host)}
		if a != (Address{}) { // an encoded word can say nothing
			out = append(out, a)
		}
	}
	return out
}

// firstEntry returns the first address of a list, or the group that stands before it.
func firstEntry(list []mailbox, decoded []Address) Address {
	switch {
	case len(list) > 0 && list[0].start:
		return Address{Mailbox: DecodeWords(list[0].name)}
	case len(decoded) > 0:
		return decoded[0]
	}
	return Address{}
}

// parseMailboxes reads an unfolded address field; it returns at most limit entries
// and the end of a group that is open then.
func parseMailboxes(s string, limit int) []mailbox {
	p := addressParser{sc: scanner{s: s}}
	for p.sc.more() && len(p.out) < limit {
		p.entry()
	}
	if p.inGroup {
		p.out = append(p.out, mailbox{end: true})
	}
	return p.out
}

type addressParser struct {
	sc      scanner
	out     []mailbox
	inGroup bool
}

// words is what stands before "<", "@", ":" or the end of an entry, read both as a
// display name and as a local part.
type words struct {
	name    joined // all words, one space between them
	local   string // the last run of words without white space between
	before  int    // length of name before that run
	comment string // the last comment
}

// joined is strings put together. One alone is not copied.
type joined struct {
	one string
	b   strings.Builder // all of them, once there are several
}

func (j *joined) WriteString(s string) {
	switch {
	case j.Len() == 0:
		j.one = s
		return
	case j.b.Len() == 0:
		j.b.WriteString(j.one)
	}
	j.b.WriteString(s)
}

func (j *joined) String() string {
	if j.b.Len() > 0 {
		return j.b.String()
	}
	return j.one
}

func (j *joined) Len() int { return max(len(j.one), j.b.Len()) }

func (j *joined) Reset() {
	j.one = ""
	j.b.Reset()
}

// entry reads one address, the start of a group or its end.
func (p *addressParser) entry() {
	var w words
	p.words(&w)
	switch p.sc.peek() {
	case '<':
		p.sc.i++
		p.angle(strings.TrimSpace(w.name.String()), w.comment)
	case '@':
		p.sc.i++
		name := strings.TrimSpace(w.name.String()[:w.before])
		host := p.domain(&w)
		if p.sc.eat('<') { // a@b <a@b>: the name should have been quoted
			p.angle(strings.TrimSpace(w.name.String())+"@"+host, w.comment)
			return
		}
		p.add(mailbox{name: name, local: w.local, host: host}, w.comment)
	case ':':
		p.sc.i++
		if !p.inGroup {
			p.inGroup = true
			p.out = append(p.out, mailbox{name: strings.TrimSpace(w.name.String()), start: true})
		}
	default:
		if name := strings.TrimSpace(w.name.String()); name != "" {
			p.add(mailbox{local: name}, w.comment)
		}
		p.separator()
	}
}

// separator takes a comma, or a semicolon, which ends a group; other senders use it
// between addresses.
func (p *addressParser) separator() {
	switch p.sc.peek() {
	case ';':
		if p.inGroup {
			p.inGroup = false
			p.out = append(p.out, mailbox{end: true})
		}
		p.sc.i++
	case ',':
		p.sc.i++
	case '>', ')', ']', '\\':
		p.sc.i++ // nothing else takes these here
	}
}

func (p *addressParser) add(m mailbox, comment string) {
	if m.name == "" {
		m.name = comment
	}
	if m.name == "" && m.local == "" && m.host == "" {
		return
	}
	p.out = append(p.out, m)
}

// words reads atoms, quoted strings, dots and comments.
func (p *addressParser) words(w *words) {
	sc := &p.sc
	gap := true // white space before the word at hand
	var local joined
	defer func() { w.local = local.String() }()
	for sc.more() {
		c := sc.s[sc.i]
		switch c {
		case ' ', '\t', '\r', '\n':
			sc.i++
			gap = true
			continue
		case '(':
			w.comment = sc.comment()
			gap = true
			continue
		case '<', '@', ':', ',', ';', '>':
			return
		}
		// "a . b" is one local part (RFC 5322, 4.4), "a b" is not.
		joins := c == '.' || strings.HasSuffix(local.String(), ".")
		if gap && !joins {
			local.Reset()
			w.before = w.name.Len()
		}
		if gap && w.name.Len() > 0 {
			w.name.WriteString(" ")
		}
		gap = false
		if c == '"' {
			q := sc.quoted()
			w.name.WriteString(q)
			local.WriteString(q)
			continue
		}
		atom := sc.atom()
		w.name.WriteString(atom)
		local.WriteString(atom)
	}
}

// atom reads up to white space or a special; at least one byte.
func (sc *scanner) atom() string {
	start := sc.i
	for sc.i++; sc.more() && strings.IndexByte(" \t\r\n()<>@,;:\"", sc.s[sc.i]) < 0; sc.i++ {
	}
	return sc.s[start:sc.i]
}

// angle reads the rest of <route:local@host> and what stands up to the next
// separator.
func (p *addressParser) angle(name, comment string) {
	sc := &p.sc
	m := mailbox{name: name}
	sc.skipCFWS()
	if sc.peek() == '@' || sc.peek() == ',' {
		m.route = p.route()
	}
	var w words
	p.words(&w)
	for sc.peek() == ':' || sc.peek() == ';' { // not allowed here, so part of the name
		sc.i++
		p.words(&w)
	}
	m.local = strings.TrimSpace(w.name.String())
	if strings.IndexByte(m.local, ' ') >= 0 && w.before == 0 {
		m.local = w.local // spaces around dots
	}
	if sc.eat('@') {
		m.host = p.domain(&w)
	}
	for sc.more() && strings.IndexByte(">,", sc.s[sc.i]) < 0 {
		p.skipOne(&comment)
	}
	sc.eat('>')
	for sc.more() && strings.IndexByte(",;<", sc.s[sc.i]) < 0 {
		p.skipOne(&comment)
	}
	p.add(m, comment)
	p.separator()
}

// skipOne skips a comment, which it keeps, a quoted string or a byte.
func (p *addressParser) skipOne(comment *string) {
	switch p.sc.peek() {
	case '(':
		if c := p.sc.comment(); c != "" {
			*comment = c
		}
	case '"':
		p.sc.quoted()
	default:
		p.sc.i++
	}
}

// route reads @a,@b: and returns it without the colon and white space.
func (p *addressParser) route() string {
	sc := &p.sc
	var b strings.Builder
	for sc.more() && strings.IndexByte(":>", sc.s[sc.i]) < 0 {
		sc.skipCFWS()
		if sc.more() && strings.IndexByte(":>", sc.s[sc.i]) < 0 {
			b.WriteByte(sc.s[sc.i])
			sc.i++
		}
	}
	sc.eat(':')
	return b.String()
}

// domain reads dot-separated atoms or a domain literal, without white space and
// comments; the last comment is kept in w.
func (p *addressParser) domain(w *words) string {
	sc := &p.sc
	if i := strings.IndexAny(sc.s[sc.i:], "( \t\r\n[<>,;:@\""); i >= 0 && strings.IndexByte("<>,;:@\"", sc.s[sc.i+i]) >= 0 {
		start := sc.i
		sc.i += i
		return sc.s[start:sc.i]
	}
	var b strings.Builder
	gap := false
	for sc.more() {
		c := sc.s[sc.i]
		switch {
		case c == '(':
			w.comment = sc.comment()
			gap = b.Len() > 0
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			sc.i++
			gap = b.Len() > 0
		case c == '[' && b.Len() == 0:
			end := strings.IndexAny(sc.s[sc.i:], "]>,")
			if end < 0 {
				end = len(sc.s) - sc.i - 1
			} else if sc.s[sc.i+end] != ']' {
				end--
			}
			b.WriteString(sc.s[sc.i : sc.i+end+1])
			sc.i += end + 1
		case strings.IndexByte("<>,;:@\"", c) >= 0:
			return b.String()
		case gap && c != '.' && !strings.HasSuffix(b.String(), "."):
			return b.String() // a word after the domain is of the next entry
		default:
			b.WriteByte(c)
			sc.i++
			gap = false
		}
	}
	return b.String()
}
