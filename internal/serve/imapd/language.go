package imapd

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// language is one in which the server can speak (RFC 5255, 3). Every sentence is written
// in English where it is said, and found here by what it says.
type language struct {
	tag   string
	exact map[string]string
	forms []form // sentences with something filled in, the most particular first
}

// form is a sentence in which something is filled in.
type form struct {
	parts []string // what stands between the fillings, those at the ends too
	inner []bool   // of each filling: it is a sentence or a part of one itself
	to    string
	size  int // of all parts
}

// filling is a place in an English sentence: %s for what stays as it is, %t for what is
// to be translated itself.
var filling = regexp.MustCompile(`%[st]`)

// newLanguage makes a language of its table. A key is a sentence in English; in the
// translation %1 is its first filling, %2 its second.
func newLanguage(tag string, table map[string]string) *language {
	l := &language{tag: tag, exact: map[string]string{}}
	for english, to := range table {
		places := filling.FindAllString(english, -1)
		if len(places) == 0 {
			l.exact[english] = to
			continue
		}
		f := form{parts: filling.Split(english, -1), to: to, size: len(english) - 2*len(places)}
		for _, p := range places {
			f.inner = append(f.inner, p == "%t")
		}
		l.forms = append(l.forms, f)
	}
	slices.SortFunc(l.forms, func(a, b form) int {
		if a.size != b.size {
			return b.size - a.size
		}
		return strings.Compare(a.to, b.to)
	})
	return l
}

// translate returns a sentence in the language; one that is not known stays English.
func (l *language) translate(english string) string {
	if to, ok := l.find(english, 2); ok {
		return to
	}
	return english
}

// find looks a sentence up. What is filled in may be sentences, to a depth.
func (l *language) find(english string, depth int) (string, bool) {
	if to, ok := l.exact[english]; ok {
		return to, true
	}
	for i := range l.forms {
		f := &l.forms[i]
		found, ok := f.match(english)
		if !ok {
			continue
		}
		for i := range found {
			if f.inner[i] && depth > 0 {
				if to, ok := l.find(found[i], depth-1); ok {
					found[i] = to
				}
			}
		}
		return f.fill(found), true
	}
	return "", false
}

// match returns what is filled into a sentence, if it is of this form.
func (f *form) match(s string) (found []string, ok bool) {
	if s, ok = strings.CutPrefix(s, f.parts[0]); !ok {
		return nil, false
	}
	last := len(f.parts) - 1
	for _, part := range f.parts[1:last] {
		var before string
		if before, s, ok = strings.Cut(s, part); !ok {
			return nil, false
		}
		found = append(found, before)
	}
	if s, ok = strings.CutSuffix(s, f.parts[last]); !ok {
		return nil, false
	}
	return append(found, s), true
}

// fill puts the fillings into the translation.
func (f *form) fill(found []string) string {
	var b strings.Builder
	for to := f.to; ; {
		before, after, more := strings.Cut(to, "%")
		b.WriteString(before)
		if !more {
			return b.String()
		}
		n, err := strconv.Atoi(after[:min(1, len(after))])
		if err != nil || n < 1 || n > len(found) {
			b.WriteByte('%')
			to = after
			continue
		}
		b.WriteString(found[n-1])
		to = after[1:]
	}
}
