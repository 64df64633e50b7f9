package mime

import (
	"slices"
	"strings"
)

// BaseSubject returns the base subject of a decoded subject and whether a reply or
// forward mark was taken off (RFC 5256, 2.1). Linear in the length.
func BaseSubject(subject string) (base string, reply bool) {
	s := collapse(subject)
	for {
		s, reply = cutTrailers(s, reply)
		s, reply = cutLeaders(s, reply)
		inner, ok := cutForward(s)
		if !ok {
			return s, reply
		}
		s, reply = inner, true
	}
}

// collapse makes every run of white space one space (step 1).
func collapse(s string) string {
	if !strings.ContainsAny(s, "\t\r\n") && !strings.Contains(s, "  ") && !strings.HasSuffix(s, " ") {
		return strings.TrimLeft(s, " ")
	}
	var b strings.Builder
	gap := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ', '\t', '\r', '\n':
			gap = true
		default:
			if gap {
				b.WriteByte(' ')
				gap = false
			}
			b.WriteByte(c)
		}
	}
	return strings.TrimLeft(b.String(), " ")
}

// cutTrailers takes off "(fwd)" and white space at the end (step 2).
func cutTrailers(s string, reply bool) (string, bool) {
	for {
		s = strings.TrimRight(s, " ")
		n := len(s) - len("(fwd)")
		if n < 0 || !strings.EqualFold(s[n:], "(fwd)") {
			return s, reply
		}
		s, reply = s[:n], true
	}
}

// cutLeaders takes off "Re:", "Fwd:" with blobs and blobs alone (steps 3 to 5). When
// no mark follows a row of blobs, none can follow a part of the row: so each blob is
// looked at once.
func cutLeaders(s string, reply bool) (string, bool) {
	for {
		s = strings.TrimLeft(s, " ")
		rest, last := s, s
		for {
			after, ok := cutBlob(rest)
			if !ok {
				break
			}
			last, rest = rest, after
		}
		if after, ok := cutMark(rest); ok {
			s, reply = after, true
			continue
		}
		if rest == "" {
			return last, reply // the last blob is the subject
		}
		return rest, reply
	}
}

// cutBlob takes off "[...]" and the spaces after it.
func cutBlob(s string) (string, bool) {
	if s == "" || s[0] != '[' {
		return s, false
	}
	i := strings.IndexAny(s[1:], "[]")
	if i < 0 || s[1+i] == '[' {
		return s, false
	}
	return strings.TrimLeft(s[i+2:], " "), true
}

// cutMark takes off "re:", "fw:" or "fwd:", with a blob before the colon.
func cutMark(s string) (string, bool) {
	var rest string
	switch {
	case len(s) >= 3 && strings.EqualFold(s[:3], "fwd"):
		rest = s[3:]
	case len(s) >= 2 && (strings.EqualFold(s[:2], "re") || strings.EqualFold(s[:2], "fw")):
		rest = s[2:]
	default:
		return s, false
	}
	rest = strings.TrimLeft(rest, " ")
	rest, _ = cutBlob(rest)
	if rest == "" || rest[0] != ':' {
		return s, false
	}
	return rest[1:], true
}

// cutForward takes off "[fwd: ... ]" (step 6).
func cutForward(s string) (string, bool) {
	if len(s) < 6 || !strings.EqualFold(s[:5], "[fwd:") || s[len(s)-1] != ']' {
		return s, false
	}
	return s[5 : len(s)-1], true
}

// ParseMessageIDs returns the message ids of a Message-ID, In-Reply-To or References
// field, without <>, white space, comments and the quotes of a quoted local part
// (RFC 5256, 3; RFC 5322, 3.6.4). Of more than limit the first and the last ones are
// returned. An id of over 1 KB is left out; a field without any <> is one id if it
// is one word with an @.
func ParseMessageIDs(s string, limit int) []string {
	var ids []string
	over := 0
	s = Unfold([]byte(s))
	sc := scanner{s: s}
	for sc.more() {
		switch sc.s[sc.i] {
		case '(':
			sc.comment()
		case '"':
			sc.quoted() // a phrase (obsolete In-Reply-To)
		case '<':
			sc.i++
			id := sc.messageID()
			if id == "" || len(id) > maxMsgID {
				continue
			}
			if len(ids) < max(limit, 1) {
				ids = append(ids, id)
			} else if limit > 1 { // ids[1:] becomes a ring
				ids[1+over%(limit-1)] = id
				over++
			}
		default:
			sc.i++
		}
	}
	if ids == nil && strings.IndexByte(s, '@') > 0 && len(s) <= maxMsgID && !strings.ContainsAny(s, " \t<>()\"") {
		ids = []string{validUTF8(s)}
	}
	if over > 0 {
		k := 1 + over%(limit-1)
		ids = slices.Concat(ids[:1], ids[k:], ids[1:k])
	}
	return ids
}

// messageID reads up to ">" or a second "<".
func (sc *scanner) messageID() string {
	if i := strings.IndexAny(sc.s[sc.i:], "><\" \t\r\n("); i >= 0 && sc.s[sc.i+i] == '>' {
		id := sc.s[sc.i : sc.i+i]
		sc.i += i + 1
		return validUTF8(id)
	}
	var b strings.Builder
	for sc.more() {
		switch c := sc.s[sc.i]; c {
		case '>':
			sc.i++
			return validUTF8(b.String())
		case '<':
			return "" // the first one was not closed
		case '"':
			b.WriteString(sc.quoted())
		case ' ', '\t', '\r', '\n':
			sc.i++
		case '(':
			sc.comment()
		default:
			b.WriteByte(c)
			sc.i++
		}
	}
	return validUTF8(b.String())
}
