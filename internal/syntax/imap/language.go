package imap

import "strings"

// MaxLanguages is how many languages one LANGUAGE may ask for.
const MaxLanguages = 32

// ExpectLanguages reads the arguments of LANGUAGE with the space before each, if there
// are any (RFC 5255, 3.5): language ranges, of which "default" is one by its form.
func (d *Decoder) ExpectLanguages(out *[]string) bool {
	var list []string
	for d.SP() {
		var s string
		if !d.expectAString(&s, "a language") {
			return false
		}
		if !isLanguageRange(s) {
			return d.Fail("not a language: " + clip(s))
		}
		if len(list) == MaxLanguages {
			return d.Fail("too many languages")
		}
		list = append(list, s)
	}
	*out = list
	return d.err == nil
}

// isLanguageRange tells whether s is an extended language range (RFC 4647, 2.2).
func isLanguageRange(s string) bool {
	for i, sub := range strings.Split(s, "-") {
		if sub == "*" {
			continue
		}
		if sub == "" || len(sub) > 8 {
			return false
		}
		for _, c := range []byte(sub) {
			letter := c|0x20 >= 'a' && c|0x20 <= 'z'
			if !letter && (i == 0 || !isDigit(c)) {
				return false
			}
		}
	}
	return true
}

// LookUpLanguage returns the first of the tags there are that a range means: the range
// itself or, if that is not there, what is left of it when subtags are taken off its
// end (RFC 4647, 3.4). "*" alone means the first tag.
func LookUpLanguage(tags []string, wanted string) (tag string, ok bool) {
	if wanted == "*" && len(tags) > 0 {
		return tags[0], true
	}
	longest := 0
	for _, tag := range tags {
		longest = max(longest, len(tag))
	}
	for left := strings.ReplaceAll(wanted, "-*", ""); left != ""; left = shorter(left) {
		if len(left) > longest {
			continue
		}
		for _, tag := range tags {
			if strings.EqualFold(tag, left) {
				return tag, true
			}
		}
	}
	return "", false
}

// shorter takes the last subtag off a range, and a single letter before it, which leads
// what is gone.
func shorter(tag string) string {
	tag = tag[:max(0, strings.LastIndexByte(tag, '-'))]
	if n := strings.LastIndexByte(tag, '-'); n > 0 && len(tag)-n == 2 {
		return tag[:n]
	}
	return tag
}
