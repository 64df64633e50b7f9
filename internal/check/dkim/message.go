package dkim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Field is one field of a header.
type Field struct {
	Name  string // lower case
	Raw   []byte // all of it, with the CRLF at its end
	Colon int    // where in Raw
}

// Value returns what follows the colon, folded as it is.
func (f Field) Value() []byte { return f.Raw[f.Colon+1:] }

// Message is a message whose signatures are verified. Its body is read once, at the first
// need, for all hashes that those of its DKIM-Signature and ARC-Message-Signature fields ask for
// that are looked at. It is for one goroutine.
type Message struct {
	open   func(context.Context) (io.ReadCloser, error)
	fields []Field
	above  []int               // by field: the one of the same name above it, or -1
	byName map[string]*samples // in lower case
	run    int                 // of AppendFields
	odd    error
	whole  bool // the empty line is there

	wanted []bodyForm // by the signatures that are looked at
	sums   map[bodyForm]*bodySum
	read   error
	done   bool
}

// NewMessage returns the message with this header, the empty line included; open opens
// what follows.
func NewMessage(header []byte, open func(context.Context) (io.ReadCloser, error)) *Message {
	m := &Message{open: open}
	m.fields, m.whole, m.odd = parseHeader(header)
	m.above = make([]int, len(m.fields))
	m.byName = make(map[string]*samples, len(m.fields))
	for i := range m.fields {
		s := m.byName[m.fields[i].Name]
		if s == nil {
			s = &samples{last: -1}
			m.byName[m.fields[i].Name] = s
		}
		m.above[i], s.last = s.last, i
		s.n++
	}
	return m
}

// samples are the fields of one name.
type samples struct {
	last, n int // the one at the bottom, and how many there are
	next    int // that is not taken yet, or -1
	run     int // for which next counts
}

// count returns how many fields of a name there are.
func (m *Message) count(name string) int {
	if s := m.byName[name]; s != nil {
		return s.n
	}
	return 0
}

// Odd says why header and body are not told apart in the same way by everybody, or is nil.
// The signatures of such a message prove nothing: what one program takes for the signed
// header another shows as text, or the other way round.
func (m *Message) Odd(ctx context.Context) error {
	if m.odd == nil && !m.whole {
		m.odd = m.noBody(ctx)
		m.whole = true
	}
	return m.odd
}

// noBody makes sure that nothing follows a header without its empty line.
func (m *Message) noBody(ctx context.Context) error {
	r, err := m.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 1)); err == nil {
		return errCut
	}
	return nil
}

var errCut = fault.New(fault.Invalid, "no empty line ends the header, or the header is too long")

// Fields returns the fields of a name, from the top down.
func (m *Message) Fields(name string) []Field {
	s := m.byName[strings.ToLower(name)]
	if s == nil {
		return nil
	}
	out := make([]Field, s.n)
	for i, at := s.n-1, s.last; at >= 0; i, at = i-1, m.above[at] {
		out[i] = m.fields[at]
	}
	return out
}

// parseHeader splits a header. whole tells whether the empty line ends it. The error says what
// about it is odd first (Message.Odd); then the fields are a guess.
func parseHeader(header []byte) (fields []Field, whole bool, odd error) {
	oddly := func(why string) {
		if odd == nil {
			odd = fault.New(fault.Invalid, why)
		}
	}
	fields = make([]Field, 0, 1+bytes.Count(header, []byte("\n")))
	start, blank := -1, false // the field at hand, and whether its last line is only white space
	for at := 0; at < len(header); {
		n := 1 + bytes.IndexByte(header[at:], '\n')
		if n < 2 || bytes.IndexByte(header[at:at+n], '\r') != n-2 {
			oddly("a line of the header does not end with CRLF")
		}
		if n == 0 {
			break
		}
		line := header[at : at+n]
		at += n
		if bytes.IndexByte(line, 0) >= 0 {
			oddly("the header holds NUL")
		}
		if n == 2 && line[0] == '\r' {
			if at < len(header) {
				oddly("an empty line stands within the header")
			}
			return fields, true, odd
		}
		if blank {
			oddly("a line of white space stands within the header")
		}
		blank = false
		if isSpace(line[0]) {
			if start < 0 {
				oddly("the header begins with white space")
				continue
			}
			blank = len(trim(line)) == 0
			fields[len(fields)-1].Raw = header[start:at]
			continue
		}
		f, ok := newField(line)
		if !ok {
			oddly("a line of the header is no field")
			continue
		}
		start = at - n
		fields = append(fields, f)
	}
	return fields, odd != nil, odd
}

// newField returns the field that begins with a line. White space before the colon is
// allowed (RFC 5322, 4.5.8).
func newField(line []byte) (Field, bool) {
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return Field{}, false
	}
	name := bytes.TrimRight(line[:colon], " \t")
	lower := make([]byte, 0, 40) // most names have room on the stack
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return Field{}, false
		}
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower = append(lower, c)
	}
	return Field{Name: string(lower), Raw: line, Colon: colon}, len(name) > 0
}

// AppendFields appends the fields that h= lists in their canonical form to b: of each name
// the last that is not taken yet, nothing where there is none (RFC 6376, 5.4.2). The field
// except is passed over.
func (m *Message) AppendFields(b []byte, c Canon, names []string, except Field) []byte {
	m.run++
	for _, name := range names {
		s := m.byName[strings.ToLower(name)]
		if s == nil {
			continue
		}
		if s.run != m.run {
			s.run, s.next = m.run, s.last
		}
		if s.next >= 0 && sameField(m.fields[s.next], except) {
			s.next = m.above[s.next]
		}
		if s.next >= 0 {
			b = c.AppendField(b, m.fields[s.next])
			s.next = m.above[s.next]
		}
	}
	return b
}

// sameField compares places, not bytes.
func sameField(a, b Field) bool {
	return len(a.Raw) > 0 && len(a.Raw) == len(b.Raw) && &a.Raw[0] == &b.Raw[0]
}

// bodyForm is a way to hash a body.
type bodyForm struct {
	canon Canon
	limit int64 // l=, or noLimit
}

const noLimit = -1

// bodySum is a hash of a body that is read.
type bodySum struct {
	hash hash.Hash
	left int64 // bytes still to hash; noLimit
	size int64 // of the canonical body
}

func (s *bodySum) add(p []byte) {
	s.size += int64(len(p))
	if s.left != noLimit {
		p = p[:min(int64(len(p)), s.left)]
		s.left -= int64(len(p))
	}
	s.hash.Write(p)
}

// sumBodies reads a body once and hashes it in all forms.
func sumBodies(r io.Reader, forms []bodyForm) (map[bodyForm]*bodySum, error) {
	sums := map[bodyForm]*bodySum{}
	byCanon := map[Canon][]*bodySum{}
	for _, f := range forms {
		if sums[f] == nil {
			sums[f] = &bodySum{hash: sha256.New(), left: f.limit}
			byCanon[f.canon] = append(byCanon[f.canon], sums[f])
		}
	}
	var all bodies
	for c, to := range byCanon {
		all = append(all, newBody(c, func(p []byte) {
			for _, s := range to {
				s.add(p)
			}
		}))
	}
	if _, err := io.Copy(all, r); err != nil {
		return nil, err
	}
	for _, b := range all {
		b.end()
	}
	return sums, nil
}

// bodies are canonicalisers that are given the same.
type bodies []body

func (all bodies) Write(p []byte) (int, error) {
	for _, b := range all {
		b.Write(p)
	}
	return len(p), nil
}

// sum returns the hash of the body in a form, and the size of the body in it. Forms that no
// signature of the message has are read for apart.
func (m *Message) sum(ctx context.Context, form bodyForm) ([]byte, int64, error) {
	if err := m.sumAll(ctx, form); err != nil {
		return nil, 0, err
	}
	s := m.sums[form]
	return s.hash.Sum(nil), s.size, nil
}

func (m *Message) sumAll(ctx context.Context, wanted bodyForm) error {
	if m.done && (m.read != nil || m.sums[wanted] != nil) {
		return m.read
	}
	m.done = true
	r, err := m.open(ctx)
	if err != nil {
		m.read = err
		return err
	}
	defer r.Close()
	m.sums, m.read = sumBodies(r, append(append(m.wanted, m.chainForms()...), wanted))
	return m.read
}

// chainForms returns the ways that ARC-Message-Signature fields ask for. Those with l= are worth
// nothing whatever the hash is.
func (m *Message) chainForms() (forms []bodyForm) {
	all := m.Fields("arc-message-signature")
	for _, f := range all[:min(len(all), 50)] {
		if tags, err := ParseTags(f.Value()); err == nil {
			if form, err := formOf(tags, Relaxed); err == nil && form.limit == noLimit {
				forms = append(forms, form)
			}
		}
	}
	return forms
}
