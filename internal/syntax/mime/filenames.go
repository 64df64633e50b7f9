package mime

import (
	"bytes"
	"strconv"
	"strings"
)

// Filenames returns the decoded names that the parts of a message have by its
// BODYSTRUCTURE in wire form: those of Content-Disposition and of Content-Type. It is
// safe on any bytes, and linear in their number.
func Filenames(wire []byte) []string {
	var names []string
	places := []int{0} // in each open list, the place of the next string
	key := ""
	for len(wire) > 0 {
		top := len(places) - 1
		switch c := wire[0]; c {
		case '(':
			places = append(places, 0)
			wire = wire[1:]
			continue
		case ')':
			places = places[:max(top, 1)]
			wire = wire[1:]
			continue
		case '"', '{':
			s, rest, ok := wireString(wire)
			if !ok {
				return names
			}
			if places[top]%2 == 0 {
				key = strings.ToLower(s)
			} else if name := strings.TrimSuffix(key, "*"); name == "filename" || name == "name" {
				if file := (Params{{Name: key, Value: s}}).Get(name); file != "" {
					names = append(names, file)
				}
			}
			places[top]++
			wire = rest
			continue
		}
		if wire[0] == ' ' {
			wire = wire[1:]
			continue
		}
		end := bytes.IndexAny(wire, ` ()"{`) // an atom: NIL or a number
		if end < 0 {
			return names
		}
		places[top]++
		key, wire = "", wire[end:]
	}
	return names
}

// wireString reads a quoted string or a literal.
func wireString(b []byte) (s string, rest []byte, ok bool) {
	if b[0] == '{' {
		digits, rest, found := bytes.Cut(b[1:], []byte("}\r\n"))
		n, err := strconv.Atoi(string(digits[:min(len(digits), 10)]))
		if !found || err != nil || n < 0 || n > len(rest) || len(digits) > 9 {
			return "", nil, false
		}
		return string(rest[:n]), rest[n:], true
	}
	var text []byte
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '"':
			return string(text), b[i+1:], true
		case '\\':
			if i++; i == len(b) {
				return "", nil, false
			}
		}
		text = append(text, b[i])
	}
	return "", nil, false
}
