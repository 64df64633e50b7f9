package mime

import "bytes"

// maxWireDepth bounds the nesting BasicStructure follows; ours is far less.
const maxWireDepth = 1000

// BasicStructure makes BODY from BODYSTRUCTURE in wire form by leaving out the
// extension data (RFC 9051, 7.5.2). It returns nil if wire is no body structure.
// Linear in the length of wire.
func BasicStructure(wire []byte) []byte {
	c := cutter{in: wire, out: make([]byte, 0, len(wire))}
	if !c.body(0) || len(c.in) > 0 {
		return nil
	}
	return c.out
}

// cutter copies what stays from in to out.
type cutter struct {
	in, out []byte
}

func (c *cutter) peek() byte {
	if len(c.in) == 0 {
		return 0
	}
	return c.in[0]
}

// eat takes the byte b from in.
func (c *cutter) eat(b byte) bool {
	if c.peek() != b || b == 0 {
		return false
	}
	c.in = c.in[1:]
	return true
}

// pass copies the byte b.
func (c *cutter) pass(b byte) bool {
	if !c.eat(b) {
		return false
	}
	c.out = append(c.out, b)
	return true
}

// body copies one body and leaves out its extension data.
func (c *cutter) body(depth int) bool {
	if depth > maxWireDepth || !c.pass('(') {
		return false
	}
	if c.peek() == '(' {
		for c.peek() == '(' {
			if !c.body(depth + 1) {
				return false
			}
		}
		return c.pass(' ') && c.copy() && c.rest() && c.pass(')')
	}
	typ := c.in
	if !c.copy() {
		return false
	}
	typ = typ[:len(typ)-len(c.in)]
	if !c.pass(' ') {
		return false
	}
	sub := c.in
	if !c.copy() {
		return false
	}
	sub = sub[:len(sub)-len(c.in)]
	for range 5 { // params, id, description, encoding, size
		if !c.pass(' ') || !c.copy() {
			return false
		}
	}
	message := bytes.EqualFold(typ, []byte(`"message"`)) &&
		(bytes.EqualFold(sub, []byte(`"rfc822"`)) || bytes.EqualFold(sub, []byte(`"global"`)))
	if message && !(c.pass(' ') && c.copy() && c.pass(' ') && c.body(depth+1)) {
		return false
	}
	if message || bytes.EqualFold(typ, []byte(`"text"`)) {
		if !c.pass(' ') || !c.copy() {
			return false
		}
	}
	return c.rest() && c.pass(')')
}

// copy copies one value: a string, a number, NIL or a list.
func (c *cutter) copy() bool {
	n := valueLen(c.in)
	if n <= 0 {
		return false
	}
	c.out = append(c.out, c.in[:n]...)
	c.in = c.in[n:]
	return true
}

// rest skips values up to the closing parenthesis.
func (c *cutter) rest() bool {
	for c.eat(' ') {
		n := valueLen(c.in)
		if n <= 0 {
			return false
		}
		c.in = c.in[n:]
	}
	return c.peek() == ')'
}

// valueLen returns the length of the value at the start of b, or 0 if there is none
// or it does not end.
func valueLen(b []byte) int {
	i, depth := 0, 0
	for i < len(b) {
		switch b[i] {
		case '(':
			depth++
			i++
			continue
		case ' ':
			if depth == 0 {
				return 0
			}
			i++
			continue
		case ')':
			if depth == 0 {
				return 0
			}
			depth--
			i++
		default:
			n := stringLen(b[i:])
			if n == 0 {
				return 0
			}
			i += n
		}
		if depth == 0 {
			return i
		}
	}
	return 0
}

// stringLen returns the length of the quoted string, literal or atom at the start of
// b, or 0.
func stringLen(b []byte) int {
	switch b[0] {
	case '"':
		for i := 1; i < len(b); i++ {
			switch b[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
		return 0
	case '{':
		n, i := 0, 1
		for ; i < len(b) && b[i] >= '0' && b[i] <= '9' && n < 1<<28; i++ {
			n = n*10 + int(b[i]-'0')
		}
		if i == 1 || !bytes.HasPrefix(b[i:], []byte("}\r\n")) || n > len(b)-i-3 {
			return 0
		}
		return i + 3 + n
	}
	i := 0
	for i < len(b) && b[i] > ' ' && b[i] < 0x7f && bytes.IndexByte([]byte(`()"{`), b[i]) < 0 {
		i++
	}
	return i
}
