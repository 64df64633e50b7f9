package imap

import (
	"slices"
	"strings"
)

// SortKey is what SORT orders messages by (RFC 5256, 3; RFC 5957; RFC 6203, 6).
type SortKey uint8

const (
	SortArrival SortKey = iota
	SortCc
	SortDate
	SortFrom
	SortSize
	SortSubject
	SortTo
	SortDisplayFrom
	SortDisplayTo
	SortRelevancy
	SortAnnotation
)

var sortNames = [...]string{
	"ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO", "RELEVANCY", "ANNOTATION",
}

// SortBy is one sort criterion.
type SortBy struct {
	Key     SortKey
	Reverse bool
	Entry   string // of SortAnnotation (RFC 5257, 4.9)
	Private bool   // its value.priv, not value.shared
}

// Sort is the arguments of SORT, those of SEARCH among them.
type Sort struct {
	Search
	By []SortBy // each key once: a key that is named again orders nothing more
}

// ExpectSort reads the arguments of SORT, without the space before them (RFC 5256, 5
// "sort"; RFC 5267, 5 "extended-sort").
func (d *Decoder) ExpectSort(out *Sort) bool {
	var s Sort
	var word string
	if d.letters(&word) {
		if !strings.EqualFold(word, "RETURN") {
			return d.Fail("expected RETURN or a list of sort criteria, found " + clip(word))
		}
		if s.Extended = true; !d.searchReturn(&s.Search) || !d.ExpectSP() {
			return false
		}
	}
	out.Extended, out.Return = s.Extended, s.Return // as ExpectSearch does
	if !d.ExpectList(func() bool { return d.sortBy(&s) }) {
		return false
	}
	if len(s.By) == 0 {
		return d.Fail("SORT needs a criterion")
	}
	if !d.charsetProgram(&s.Search) {
		return false
	}
	*out = s
	return d.err == nil
}

func (d *Decoder) sortBy(s *Sort) bool {
	var by SortBy
	var word string
	if !d.ExpectWord(&word, "a sort criterion") {
		return false
	}
	if word == "REVERSE" {
		by.Reverse = true
		if !d.ExpectSP() || !d.ExpectWord(&word, "a sort criterion") {
			return false
		}
	}
	i := slices.Index(sortNames[:], word)
	if i < 0 {
		return d.Fail("there is no sort criterion " + clip(word))
	}
	by.Key = SortKey(i)
	if by.Key == SortAnnotation && !d.noteSort(&by) {
		return false
	}
	same := func(b SortBy) bool { return b.Key == by.Key && b.Entry == by.Entry && b.Private == by.Private }
	if !slices.ContainsFunc(s.By, same) {
		s.By = append(s.By, by)
	}
	return true
}

// charsetProgram reads a charset and search keys, each with the space before it (RFC
// 5256, 5 "search-criteria").
func (d *Decoder) charsetProgram(s *Search) bool {
	dec := charsetDecoder(nil)
	return d.searchCharset(s, &dec) && d.ExpectSP() && d.searchProgram(&s.Key, dec, "", false)
}

// AppendText appends the arguments as a client writes them, in UTF-8.
func (s Sort) AppendText(b []byte) []byte {
	b = append(s.appendReturn(b), '(')
	for i, by := range s.By {
		if i > 0 {
			b = append(b, ' ')
		}
		if by.Reverse {
			b = append(b, "REVERSE "...)
		}
		b = append(b, sortNames[by.Key]...)
		if by.Key == SortAnnotation {
			attr := NoteValueShared
			if by.Private {
				attr = NoteValuePrivate
			}
			b = append(append(AppendString(append(b, ' '), by.Entry, false, true), ' '), attr.String()...)
		}
	}
	return s.Key.AppendText(append(b, ") UTF-8 "...))
}

// Threading is how THREAD gathers messages.
type Threading uint8

const (
	OrderedSubject Threading = iota // RFC 5256, 3
	References
	Refs // REFERENCES without subjects, the thread with the latest message last
)

var threadNames = [...]string{"ORDEREDSUBJECT", "REFERENCES", "REFS"}

// Thread is the arguments of THREAD. Of Search, only Charset and Key are given.
type Thread struct {
	By Threading
	Search
}

// ExpectThread reads the arguments of THREAD, without the space before them (RFC
// 5256, 5 "thread").
func (d *Decoder) ExpectThread(out *Thread) bool {
	var t Thread
	var word string
	if !d.ExpectWord(&word, "a threading algorithm") {
		return false
	}
	i := slices.Index(threadNames[:], word)
	if i < 0 {
		return d.Fail("there is no threading algorithm " + clip(word))
	}
	t.By = Threading(i)
	if !d.charsetProgram(&t.Search) {
		return false
	}
	*out = t
	return d.err == nil
}

// AppendText appends the arguments as a client writes them, in UTF-8.
func (t Thread) AppendText(b []byte) []byte {
	return t.Key.AppendText(append(append(b, threadNames[t.By]...), " UTF-8 "...))
}
