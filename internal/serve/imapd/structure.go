package imapd

import (
	"bytes"
	"slices"
	"strconv"
)

// The places of elements in a body structure that is no multipart (RFC 9051, 7.5.2).
const (
	atType = iota
	atSubtype
	atParams
	atID
	atDescription
	_ // the encoding
	atSize
	atLines    // of a text
	atEnvelope = 7
	atBody     = 8
)

// partStructure returns the structure of one part out of the BODYSTRUCTURE of a message
// in wire form, nil if there is no such part. No path is the message's own.
func partStructure(wire []byte, path []uint32) []byte {
	for i, n := range path {
		if i > 0 && wire[1] != '(' { // only a message has parts: those of its body
			e := elements(wire)
			if len(e) <= atBody || !isWord(e[atType], "message") {
				return nil
			}
			wire = e[atBody]
		}
		if len(wire) < 2 {
			return nil
		}
		if wire[1] != '(' { // the only part of a message has the number 1
			if n != 1 {
				return nil
			}
			continue
		}
		children := elements(wire)
		if end := slices.IndexFunc(children, func(e []byte) bool { return e[0] != '(' }); end >= 0 {
			children = children[:end]
		}
		if n == 0 || int64(n) > int64(len(children)) {
			return nil
		}
		wire = children[n-1]
	}
	return wire
}

// decodedStructure returns the structure of a part as it is without its transfer
// encoding: with that many bytes and lines. The encoding named is still the one it had,
// where RFC 5524, 3.2 has an identity encoding: that is how clients know it.
func decodedStructure(wire []byte, size, lines int64) []byte {
	e := elements(wire)
	if len(e) <= atSize || wire[1] == '(' {
		return wire
	}
	e[atSize] = strconv.AppendInt(nil, size, 10)
	if isWord(e[atType], "text") && len(e) > atLines {
		e[atLines] = strconv.AppendInt(nil, lines, 10)
	}
	return append(append([]byte{'('}, bytes.Join(e, []byte(" "))...), ')')
}

func isWord(quoted []byte, word string) bool {
	return len(quoted) > 2 && bytes.EqualFold(quoted[1:len(quoted)-1], []byte(word))
}

// elements returns the members of a list in wire form; none if it is no list. Linear.
func elements(wire []byte) [][]byte {
	if len(wire) < 2 || wire[0] != '(' || wire[len(wire)-1] != ')' {
		return nil
	}
	in := wire[1 : len(wire)-1]
	var out [][]byte
	for len(in) > 0 {
		if in[0] == ' ' {
			in = in[1:]
			continue
		}
		n := element(in)
		if n == 0 {
			return nil
		}
		out = append(out, in[:n])
		in = in[n:]
	}
	return out
}

// element returns the length of the element at the start of b, 0 if it is broken.
func element(b []byte) int {
	depth := 0
	for i := 0; i < len(b); {
		switch b[i] {
		case '(':
			depth++
			i++
		case ')':
			depth--
			i++
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			i++
		case '{':
			end := bytes.IndexByte(b[i:], '\n')
			if end < 3 {
				return 0
			}
			n, err := strconv.Atoi(string(b[i+1 : i+end-2]))
			if err != nil || n < 0 || n > len(b) {
				return 0
			}
			i += end + 1 + n
		case ' ':
			i++
		default:
			for i < len(b) && b[i] != ' ' && b[i] != '(' && b[i] != ')' {
				i++
			}
		}
		if depth < 0 || i > len(b) {
			return 0
		}
		if depth == 0 {
			return i
		}
	}
	return 0
}
