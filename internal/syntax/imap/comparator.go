package imap

import "strings"

// Comparator is a way in which texts compare: by the bytes of the form that Fold gives
// them (RFC 4790; RFC 5255, 4). The zero value is the default.
type Comparator uint8

const (
	UnicodeCasemap Comparator = iota // RFC 5051
	ASCIICasemap                     // RFC 4790, 9.2: without case in ASCII alone
	Octet                            // RFC 4790, 9.3: as it stands
)

// comparatorNames are in the order in which a wildcard chooses.
var comparatorNames = [...]string{"i;unicode-casemap", "i;ascii-casemap", "i;octet"}

// String returns the registered name.
func (c Comparator) String() string { return comparatorNames[c] }

// Fold returns the form in which a text compares.
func (c Comparator) Fold(s string) string {
	switch c {
	case Octet:
		return s
	case ASCIICasemap:
		return string(c.AppendFold(nil, []byte(s)))
	}
	return Fold(s)
}

// AppendFold appends the form in which s compares to b.
func (c Comparator) AppendFold(b, s []byte) []byte {
	switch c {
	case Octet:
		return append(b, s...)
	case ASCIICasemap:
		for _, x := range s {
			if x >= 'a' && x <= 'z' {
				x -= 'a' - 'A'
			}
			b = append(b, x)
		}
		return b
	}
	return AppendFold(b, s)
}

// MatchComparators returns the comparators that an argument of COMPARATOR means: a
// name, "default", or a pattern in which '*' stands for anything (RFC 5255, 4.7; RFC
// 4790, 4.2). A '+' before it is what is done anyway; reverse order is not offered.
func MatchComparators(order string) []Comparator {
	if strings.EqualFold(order, "default") {
		return []Comparator{UnicodeCasemap}
	}
	parts := strings.Split(strings.ToLower(strings.TrimPrefix(order, "+")), "*")
	var out []Comparator
	for i, name := range comparatorNames {
		if matchParts(name, parts) {
			out = append(out, Comparator(i))
		}
	}
	return out
}

// matchParts tells whether name is the parts with anything between them.
func matchParts(name string, parts []string) bool {
	last := len(parts) - 1
	if last == 0 {
		return name == parts[0]
	}
	rest, ok := strings.CutPrefix(name, parts[0])
	for _, p := range parts[1:last] {
		if !ok {
			return false
		}
		_, rest, ok = strings.Cut(rest, p)
	}
	return ok && strings.HasSuffix(rest, parts[last])
}

// MaxComparators is how many arguments COMPARATOR takes.
const MaxComparators = 32

// ExpectComparators reads the arguments of COMPARATOR with the space before each, if
// there are any (RFC 5255, 4.10).
func (d *Decoder) ExpectComparators(out *[]string) bool {
	var list []string
	for d.SP() {
		var s string
		if !d.expectAString(&s, "a comparator") {
			return false
		}
		if len(list) == MaxComparators {
			return d.Fail("too many comparators")
		}
		list = append(list, s)
	}
	*out = list
	return d.err == nil
}
