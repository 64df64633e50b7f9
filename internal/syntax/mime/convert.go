package mime

import (
	"bufio"
	"bytes"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Target is what a road can carry.
type Target uint8

const (
	// SevenBit is a host without 8BITMIME: no bytes over 127, and what EightBit
	// excludes (RFC 6152, 3; RFC 2045, 2.7).
	SevenBit Target = iota
	// EightBit is a host without BINARYMIME, or a reader of IMAP literals: no NUL, CR
	// and LF only together, lines of at most 998 bytes (RFC 2045, 2.8; RFC 3516, 4.2).
	EightBit
)

// maxContentLine is the longest line that 7bit and 8bit content may have, in bytes
// without the line ending.
const maxContentLine = 998

// content is a set of things that some roads cannot carry.
type content uint8

const (
	eightBit content = 1 << iota // a byte over 127
	nul
	bareCR
	bareLF
	longLine
)

// seen is what the places of a part hold.
type seen struct {
	header     content
	body       content // of a multipart: the preamble
	after      content // of a multipart: the epilogue
	delimiters content // with the line endings before them
}

// ending is what a line ending of eol bytes holds.
func ending(eol int64) content {
	if eol == 1 {
		return bareLF
	}
	return 0
}

// excludes returns what a body must not hold.
func (to Target) excludes() content {
	if to == SevenBit {
		return eightBit | nul | bareCR | bareLF | longLine
	}
	return nul | bareCR | bareLF | longLine
}

// label returns the label of content that the target can carry in place of one that
// promises too much, or "" if the old one may stay.
func (to Target) label(old string) string {
	switch {
	case to == SevenBit && (old == "8bit" || old == "binary"):
		return "7bit"
	case to == EightBit && old == "binary":
		return "8bit"
	}
	return ""
}

// Needs tells whether Convert would change anything, or fail.
func Needs(msg *Message, to Target) bool {
	pl := planner{to: to}
	_, err := pl.part(msg.Root, true, false)
	return err != nil || pl.changes
}

// Convertible tells whether Convert can do its work: nil, or a fault of kind
// Unsupported that says why not.
func Convertible(msg *Message, to Target) error {
	pl := planner{to: to}
	_, err := pl.part(msg.Root, true, false)
	return err
}

// Convert copies a message from src to dst so that its body is what the target can
// carry. msg is what a Parser found in the same bytes.
//
// A leaf whose content the target cannot carry becomes quoted-printable if it is
// text, base64 otherwise; decoding it gives the same bytes as before. The header of
// such a part gets another Content-Transfer-Encoding, that of its message a
// MIME-Version if there is none. Labels of 8bit and binary that the target does not
// know, of multiparts and messages too, are set to what is now true. A preamble or
// epilogue that cannot be carried is left out: it means nothing (RFC 2046, 5.1.1).
// Bare LFs in headers and delimiters become CRLF. All else stays byte for byte; so
// do 8-bit bytes, bare CRs and long lines in headers, which are no content and take
// another remedy (SMTPUTF8).
//
// A fault of kind Unsupported comes before the first byte is written: something
// would have to change in a multipart/signed or multipart/encrypted (RFC 1847, 2.1),
// in a message/partial, or under a transfer encoding that is not known; or a NUL
// stands in a header, or a boundary is no ASCII. A src that ends early is Corrupt.
//
// Memory is a few KB and a few bytes per part; time is linear.
func Convert(dst io.Writer, src io.Reader, msg *Message, to Target) error {
	pl := planner{to: to}
	if _, err := pl.part(msg.Root, true, false); err != nil {
		return err
	}
	c := converter{src: bufio.NewReaderSize(src, 8<<10), dst: bufio.NewWriterSize(dst, 8<<10), steps: pl.steps}
	if err := c.part(msg.Root); err != nil {
		return err
	}
	return c.dst.Flush()
}

// step is what becomes of one part.
type step struct {
	label    string // new Content-Transfer-Encoding; "" leaves it
	encode   string // encoding to put on the body; "" leaves it
	version  bool   // the header needs a MIME-Version
	preamble bool   // the preamble is left out
	epilogue bool
}

// planner decides about each part, in preorder.
type planner struct {
	to      Target
	steps   []step
	changes bool
}

// part plans p and what is inside. message tells that p is the root of a message,
// sealed that nothing may change. It returns whether some content is encoded anew.
func (pl *planner) part(p *Part, message, sealed bool) (encodes bool, err error) {
	i := len(pl.steps)
	pl.steps = append(pl.steps, step{})
	bad := pl.to.excludes()
	structure := p.seen.header & (nul | bareLF)
	structure |= p.seen.delimiters & bad
	switch {
	case structure&^bareLF != 0:
		return false, fault.New(fault.Unsupported, "the message has a header or a boundary that cannot be converted")
	case structure != 0 && sealed:
		return false, errSealed
	case structure != 0:
		pl.changes = true
	}
	var st step
	if len(p.Children) == 0 {
		st, err = pl.leaf(p, sealed)
		encodes = st.encode != ""
	} else {
		st, encodes, err = pl.inside(p, sealed)
	}
	if err != nil {
		return false, err
	}
	if st.label == "" && !sealed {
		st.label = pl.to.label(p.Encoding)
	}
	pl.changes = pl.changes || st != step{}
	st.version = message && encodes
	pl.steps[i] = st
	return encodes, nil
}

var errSealed = fault.New(fault.Unsupported, "a signed or encrypted part cannot be converted without breaking it")

// inside plans the parts of a multipart or message.
func (pl *planner) inside(p *Part, sealed bool) (st step, encodes bool, err error) {
	bad := pl.to.excludes()
	st.preamble, st.epilogue = p.seen.body&bad != 0, p.seen.after&bad != 0
	if sealed && (st.preamble || st.epilogue) {
		return st, false, errSealed
	}
	sealed = sealed || p.IsMultipart() && (p.Subtype == "signed" || p.Subtype == "encrypted")
	for _, child := range p.Children {
		e, err := pl.part(child, p.IsMessage(), sealed)
		if err != nil {
			return st, false, err
		}
		encodes = encodes || e
	}
	return st, encodes, nil
}

// leaf plans a part without parts.
func (pl *planner) leaf(p *Part, sealed bool) (step, error) {
	if p.seen.body&pl.to.excludes() == 0 {
		return step{}, nil
	}
	if sealed {
		return step{}, errSealed
	}
	switch p.Encoding {
	case "base64", "quoted-printable": // it is not what it should be; decoding tells what was meant
		return step{encode: p.Encoding}, nil
	case "", "7bit", "8bit", "binary":
	default:
		return step{}, fault.New(fault.Unsupported, "a part has a transfer encoding that is not known here")
	}
	switch {
	case p.composite || p.Type == "message" && (p.Subtype == "partial" || p.Subtype == "external-body"):
		// No encoding is allowed (RFC 2045, 6.4; RFC 2046, 5.2.2 and 5.2.3).
		return step{}, fault.New(fault.Unsupported, "a part cannot be converted because of its type")
	case p.Type == "text" || p.Type == "message":
		return step{label: "quoted-printable", encode: "quoted-printable"}, nil
	}
	return step{label: "base64", encode: "base64"}, nil
}

// converter carries the plan out.
type converter struct {
	src   *bufio.Reader
	dst   *bufio.Writer
	pos   int64 // bytes read
	last  byte  // the last byte of structure written
	steps []step
}

func (c *converter) part(p *Part) error {
	st := c.steps[0]
	c.steps = c.steps[1:]
	if err := c.header(p, st); err != nil {
		return err
	}
	if len(p.Children) == 0 {
		return c.body(p, st)
	}
	for i, child := range p.Children {
		if i == 0 && st.preamble {
			if err := c.skipPreamble(child.Header); err != nil {
				return err
			}
		} else if err := c.lines(child.Header); err != nil {
			return err
		}
		if err := c.part(child); err != nil {
			return err
		}
	}
	if st.epilogue {
		return c.skipEpilogue(p.End)
	}
	return c.lines(p.End)
}

// body copies or encodes the content of a leaf.
func (c *converter) body(p *Part, st step) error {
	c.last = 0
	n := p.End - c.pos
	c.pos = p.End
	if st.encode == "" {
		return short(io.CopyN(c.dst, c.src, n))
	}
	in := &io.LimitedReader{R: c.src, N: n}
	w := newEncoder(st.encode, c.dst)
	if _, err := io.Copy(w, NewDecoder(p.Encoding, in)); err != nil {
		return err
	}
	if in.N > 0 {
		return errShort
	}
	return w.Close()
}

var errShort = fault.New(fault.Corrupt, "the message is shorter than it should be")

func short(_ int64, err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errShort
	}
	return err
}

// piece reads the next line of structure, which must end before or at offset end; of
// a long line it reads a part, 4 KB at least. It is valid until the next read.
func (c *converter) piece(end int64) ([]byte, error) {
	most := int(min(end-c.pos, 4<<10))
	b, _ := c.src.Peek(min(most, c.src.Buffered()))
	if bytes.IndexByte(b, '\n') < 0 {
		var err error
		if b, err = c.src.Peek(most); err != nil {
			return nil, short(0, err)
		}
	}
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		b = b[:i+1]
	}
	c.src.Discard(len(b))
	c.pos += int64(len(b))
	return b, nil
}

// write writes structure: every LF gets its CR.
func (c *converter) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	before := c.last
	c.last = b[len(b)-1]
	if c.last == '\n' {
		if len(b) > 1 {
			before = b[len(b)-2]
		}
		if before != '\r' {
			c.dst.Write(b[:len(b)-1])
			b = []byte("\r\n")
		}
	}
	_, err := c.dst.Write(b)
	return err
}

// lines copies structure up to offset end.
func (c *converter) lines(end int64) error {
	for c.pos < end {
		b, err := c.piece(end)
		if err == nil {
			err = c.write(b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// skipPreamble leaves out what is before the delimiter line that ends at offset end.
func (c *converter) skipPreamble(end int64) error {
	for {
		b, err := c.piece(end)
		if err != nil {
			return err
		}
		if c.pos == end {
			return c.write(b)
		}
	}
}

// skipEpilogue leaves out what comes after the close delimiter, up to offset end.
func (c *converter) skipEpilogue(end int64) error {
	for keep := true; c.pos < end; {
		b, err := c.piece(end)
		if err != nil {
			return err
		}
		if keep {
			keep = isEmptyLine(b) // the line ending before the delimiter
			if err := c.write(b); err != nil {
				return err
			}
		}
	}
	return nil
}
