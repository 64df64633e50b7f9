package dkim

import (
	"bytes"
	"encoding/base64"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// maxTags is how many tags one list may have.
const maxTags = 64

// Tags is a list of tags (RFC 6376, 3.2), in its order.
type Tags []Tag

// Tag is one of them. Start and End say where its value stands in the list, with the white
// space around it.
type Tag struct {
	Name       string
	Value      string // without white space around it; folded as it was
	Start, End int
}

// ParseTags reads a list of tags strictly: no tag twice, no empty tag but the last, no control
// characters. Faults: Invalid.
func ParseTags(list []byte) (Tags, error) {
	var tags Tags
	for at := 0; ; {
		end := bytes.IndexByte(list[at:], ';')
		last := end < 0
		if last {
			end = len(list) - at
		}
		spec := list[at : at+end]
		if last && len(trim(spec)) == 0 && len(tags) > 0 {
			return tags, nil
		}
		tag, err := parseTag(spec)
		if err != nil {
			return nil, err
		}
		tag.Start, tag.End = tag.Start+at, tag.End+at
		if _, twice := tags.Get(tag.Name); twice {
			return nil, fault.Newf(fault.Invalid, "the tag %s= is there twice", tag.Name)
		}
		if tags = append(tags, tag); len(tags) > maxTags {
			return nil, fault.New(fault.Invalid, "there are too many tags")
		}
		if last {
			return tags, nil
		}
		at += end + 1
	}
}

func parseTag(spec []byte) (Tag, error) {
	eq := bytes.IndexByte(spec, '=')
	if eq < 0 {
		return Tag{}, fault.New(fault.Invalid, "a tag has no value")
	}
	name := trim(spec[:eq])
	if !isTagName(name) {
		return Tag{}, fault.New(fault.Invalid, "the name of a tag is not valid")
	}
	for _, c := range spec[eq+1:] {
		if c < ' ' && c != '\t' && c != '\r' && c != '\n' || c == 0x7f {
			return Tag{}, fault.Newf(fault.Invalid, "the tag %s= holds a control character", name)
		}
	}
	return Tag{Name: string(name), Value: string(trim(spec[eq+1:])), Start: eq + 1, End: len(spec)}, nil
}

func isTagName(name []byte) bool {
	for i, c := range name {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return len(name) > 0
}

func trim(b []byte) []byte { return bytes.Trim(b, " \t\r\n") }

// Get returns the value of a tag and whether it is there.
func (t Tags) Get(name string) (string, bool) {
	for i := range t {
		if t[i].Name == name {
			return t[i].Value, true
		}
	}
	return "", false
}

// need is Get of a tag that must be there with a value.
func (t Tags) need(name string) (string, error) {
	v, ok := t.Get(name)
	switch {
	case !ok:
		return "", fault.Newf(fault.Invalid, "the tag %s= is missing", name)
	case v == "":
		return "", fault.Newf(fault.Invalid, "the tag %s= is empty", name)
	}
	return v, nil
}

// bytes is need of a tag in base64, white space in it left out.
func (t Tags) bytes(name string) ([]byte, error) {
	v, err := t.need(name)
	if err != nil {
		return nil, err
	}
	b, err := decode64(v)
	if err != nil || len(b) == 0 {
		return nil, fault.Newf(fault.Invalid, "the tag %s= is not base64", name)
	}
	return b, nil
}

func decode64(s string) ([]byte, error) {
	return base64.StdEncoding.Strict().DecodeString(withoutSpace(s))
}

func withoutSpace(s string) string {
	if !strings.ContainsAny(s, " \t\r\n") {
		return s
	}
	return strings.Map(func(c rune) rune {
		if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
			return -1
		}
		return c
	}, s)
}

// list returns the parts of a list with colons, at most limit.
func list(s string, limit int) ([]string, error) {
	parts := strings.SplitN(s, ":", limit+1)
	if len(parts) > limit {
		return nil, fault.Newf(fault.Invalid, "a list has more than %d names", limit)
	}
	for i := range parts {
		parts[i] = strings.Trim(parts[i], " \t\r\n")
	}
	return parts, nil
}
