package mime

import (
	"bytes"
	"encoding/binary"
)

// Parser is a push parser: an io.Writer that is fed a whole message in pieces of
// any size; how it is cut has no influence on the result. It keeps the header field
// at hand, the part tree, at most one boundary line and the start of one text part.
// It is for one message and one goroutine.
type Parser struct {
	lim Limits
	msg *Message

	pos       int64 // bytes seen
	lineStart int64
	lf        int64 // LF bytes before lineStart
	eol       int64 // length of the line ending just read: 0, 1 or 2
	prevEOL   int64 // of the one before lineStart
	lastCR    bool  // the last byte seen was a CR

	line     []byte  // the current line, up to maxLine bytes of it
	has      content // what the current line holds, but for a bare LF at its end
	inHeader bool
	head     header // of the innermost open part, while inHeader

	frames []frame        // open parts, the root first
	bounds map[string]int // boundary -> frame that takes it
	parts  int
	used   int // bytes of field values kept so far
	wire   int // bytes of address lists made so far

	capture    []byte // start of the body of the leaf at hand, for the preview
	capturing  int    // bytes still wanted; 0 is none
	plain, web string // previews found
	done       bool
	scratch    []byte // for what is made piece by piece
}

// maxLine is how much of a line is kept to compare with boundaries: "--", the
// boundary, "--", and some white space.
const maxLine = maxBoundary + 64

// frame is an open part.
type frame struct {
	part     *Part
	message  bool   // the root of a message: its header has the envelope fields
	digest   bool   // children default to message/rfc822 (RFC 2046, 5.1.5)
	captured bool   // a leaf whose start is in Parser.capture
	full     bool   // no more parts are made here
	boundary string // "" when this part takes no delimiters (any more)
	outer    int    // frame that had the same boundary before, or -1
	lfBody   int64  // LF bytes before Body
}

// NewParser returns a Parser for one message.
func NewParser(lim Limits) *Parser {
	p := &Parser{lim: lim.orDefaults(), bounds: map[string]int{}}
	p.begin()
	return p
}

func (p *Parser) begin() {
	p.msg = &Message{}
	p.open(&Part{}, true)
	p.msg.Root = p.frames[0].part
}

// Reset makes p ready for another message, with the memory that it has and the same
// Limits.
func (p *Parser) Reset() {
	clear(p.bounds)
	clear(p.frames[:cap(p.frames)]) // they hold parts of the last message
	*p = Parser{
		lim: p.lim, bounds: p.bounds, frames: p.frames[:0],
		line: kept(p.line), capture: kept(p.capture), scratch: kept(p.scratch), head: p.head,
	}
	p.begin()
}

// kept returns a buffer for the next message, unless it is a large one.
func kept(b []byte) []byte {
	if cap(b) > 16<<10 {
		return nil
	}
	return b[:0]
}

// Write takes the next bytes of the message. It never fails.
func (p *Parser) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 && !p.done {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			p.take(b)
			break
		}
		p.take(b[:i+1])
		p.endLine()
		b = b[i+1:]
	}
	return n, nil
}

// Finish ends the message and returns what was found. Later calls return the same.
func (p *Parser) Finish() *Message {
	if p.done {
		return p.msg
	}
	if p.pos > p.lineStart {
		if p.lastCR {
			p.has |= bareCR
		}
		p.endLine()
	}
	p.done = true
	if p.prevEOL == 1 && !p.inHeader {
		*p.place() |= bareLF
	}
	for p.inHeader {
		p.endHeader(p.pos, p.lf)
	}
	p.closeTo(0, p.pos, p.lf)
	m := p.msg
	m.Size = p.pos
	m.HeaderSize = m.Root.Body
	m.Preview = p.plain
	if m.Preview == "" {
		m.Preview = p.web
	}
	p.scratch = appendStructure(p.scratch[:0], m.Root)
	m.BodyStructure = bytes.Clone(p.scratch)
	return m
}

// take reads a piece of one line; only its last byte can be LF.
func (p *Parser) take(b []byte) {
	if p.inHeader {
		if p.pos == p.lineStart && b[0] != ' ' && b[0] != '\t' {
			p.endField()
		}
		p.head.add(b, p.lim.HeaderBytes)
	}
	// Only a line that may be a delimiter is kept.
	if len(p.bounds) > 0 && (len(p.line) > 0 || p.pos == p.lineStart && b[0] == '-') {
		p.line = append(p.line, b[:min(maxLine-len(p.line), len(b))]...)
	}
	if p.capturing > 0 {
		n := min(p.capturing, len(b))
		p.capture = append(p.capture, b[:n]...)
		p.capturing -= n
	}
	p.inspect(b)
	p.pos += int64(len(b))
}

// inspect notes the line ending, and what the line holds that is not known yet of
// the place it belongs to.
func (p *Parser) inspect(b []byte) {
	last := len(b) - 1
	p.eol = 0
	if b[last] == '\n' {
		p.eol = 1
		if last > 0 && b[last-1] == '\r' || last == 0 && p.lastCR {
			p.eol = 2
		}
	}
	known := p.has
	if len(p.line) == 0 { // else it may be a delimiter, which belongs to another part
		known |= *p.place()
	}
	if known&bareCR == 0 {
		i := bytes.IndexByte(b, '\r')
		if i >= 0 && i < last && b[i+1] != '\n' || p.lastCR && b[0] != '\n' {
			p.has |= bareCR
		}
	}
	p.lastCR = b[last] == '\r'
	if known&nul == 0 && bytes.IndexByte(b, 0) >= 0 {
		p.has |= nul
	}
	if known&eightBit == 0 && has8Bit(b) {
		p.has |= eightBit
	}
}

// place is where the content of a line belongs that is no delimiter.
func (p *Parser) place() *content {
	part := p.top().part
	switch {
	case p.inHeader:
		return &part.seen.header
	case len(part.Children) > 0:
		return &part.seen.after
	}
	return &part.seen.body
}

// note records what the line at hand holds, for the whole message.
func (p *Parser) note() {
	m := p.msg
	m.HasBareCR = m.HasBareCR || p.has&bareCR != 0
	m.HasNUL = m.HasNUL || p.has&nul != 0
	if p.has&eightBit != 0 {
		m.Has8Bit = true
		m.HeaderHas8Bit = m.HeaderHas8Bit || p.inHeader
	}
	m.HasBareLF = m.HasBareLF || p.eol == 1
}

func has8Bit(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b)&0x8080808080808080 != 0 {
			return true
		}
	}
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// endLine acts on the line [lineStart, pos), which ends with LF except at the end
// of the message.
func (p *Parser) endLine() {
	eol := p.eol
	size := p.pos - p.lineStart
	p.msg.LongestLine = max(p.msg.LongestLine, int(size-eol))
	if size-eol > maxContentLine {
		p.has |= longLine
	}
	p.note()

	level, closing, found := p.match(size)
	switch {
	case found:
		// The line ending before a delimiter is the delimiter's.
		p.frames[level].part.seen.delimiters |= p.has | ending(eol) | ending(p.prevEOL)
		p.delimiter(level, closing, eol)
	case p.inHeader:
		*p.place() |= p.has | ending(eol)
		if size == eol {
			p.endHeader(p.pos, p.lf+1)
		}
	default:
		if p.lineStart > p.top().part.Body {
			p.has |= ending(p.prevEOL)
		}
		*p.place() |= p.has
	}
	if eol > 0 {
		p.lf++
	}
	p.line, p.has = p.line[:0], 0
	p.lineStart, p.prevEOL = p.pos, eol
}

// match tells whether the line at hand is a delimiter, and of which frame.
func (p *Parser) match(size int64) (level int, closing, found bool) {
	if len(p.line) < 3 || int64(len(p.line)) != size || p.line[1] != '-' {
		return 0, false, false
	}
	s := bytes.TrimRight(p.line[2:], " \t\r\n")
	level, found = p.bounds[string(s)]
	found = found && !p.frames[level].full
	if cut, has := bytes.CutSuffix(s, []byte("--")); has {
		// Of the boundaries "x--" and "x" the inner one takes the line "--x--".
		if l, ok := p.bounds[string(cut)]; ok && (!found || l > level) {
			return l, true, true
		}
	}
	return level, false, found
}

// delimiter ends every part inside frames[level] at the line at hand and opens the
// next one, or none after a close delimiter.
func (p *Parser) delimiter(level int, closing bool, eol int64) {
	p.head.drop()
	end, lf := p.lineStart-p.prevEOL, p.lf
	if p.prevEOL > 0 {
		lf--
	}
	for p.inHeader {
		// A header that ends here has no empty line, and a body of no bytes.
		if end < p.top().part.Header {
			end, lf = p.lineStart, p.lf
		}
		p.endHeader(end, lf)
	}
	if end < p.top().part.Body {
		end, lf = p.lineStart, p.lf
	}
	p.closeTo(level+1, end, lf)
	f := p.top()
	switch {
	case closing:
		p.forget(f)
	case p.parts < p.lim.Parts:
		p.open(&Part{Header: p.pos}, false)
	default:
		f.full = true
		p.opaqueRest(p.lf + min(eol, 1))
	}
}

func (p *Parser) top() *frame { return &p.frames[len(p.frames)-1] }

// open adds a part to the innermost frame and starts to read its header.
func (p *Parser) open(part *Part, message bool) {
	p.parts++
	if len(p.frames) > 0 {
		parent := p.top().part
		parent.Children = append(parent.Children, part)
	}
	p.frames = append(p.frames, frame{part: part, message: message, outer: -1})
	p.inHeader = true
	p.head.reset(message)
}

// opaqueRest adds a part without a header that takes the rest of the multipart.
func (p *Parser) opaqueRest(lf int64) {
	p.open(&Part{Type: "application", Subtype: "octet-stream", Header: p.pos, Body: p.pos, composite: true}, false)
	p.inHeader = false
	p.top().lfBody = lf
}

// endField hands the field at hand to the header.
func (p *Parser) endField() {
	p.used += p.head.end(p.lim.HeaderFields, p.lim.TotalBytes-p.used)
}

// endHeader ends the header of the innermost part: its body starts at offset off,
// before which there were lf LF bytes.
func (p *Parser) endHeader(off, lf int64) {
	p.endField()
	p.inHeader = false
	i := len(p.frames) - 1
	f := &p.frames[i]
	part := f.part
	part.Body, f.lfBody = off, lf
	digest := i > 0 && p.frames[i-1].digest
	boundary := p.head.describe(part, digest)
	if f.message {
		p.describeMessage(part, i == 0)
	}
	switch {
	case part.IsMultipart() && boundary == "":
		part.becomeText()
	case part.IsMultipart() && i+1 >= p.lim.Depth:
		part.becomeOpaque()
	case part.IsMultipart():
		f.boundary, f.outer = boundary, -1
		if level, ok := p.bounds[boundary]; ok {
			f.outer = level
		}
		p.bounds[boundary] = i
		f.digest = part.Subtype == "digest"
		return
	case part.IsMessage() && (part.encoded() || i+1 >= p.lim.Depth || p.parts >= p.lim.Parts):
		part.becomeOpaque()
	case part.IsMessage():
		// Digests and delivery reports carry messages without attaching them.
		within := ""
		if i > 0 {
			within = p.frames[i-1].part.Subtype
		}
		p.msg.HasAttachment = p.msg.HasAttachment || i > 0 && part.Disposition != "inline" && within != "digest" && within != "report"
		p.open(&Part{Header: off}, true)
		return
	}
	p.msg.HasAttachment = p.msg.HasAttachment || i > 0 && part.isAttachment() || part.Disposition == "attachment"
	p.wantPreview(f)
}

// closeTo closes the parts from the innermost down to frames[level] at offset end,
// before which there were lf LF bytes.
func (p *Parser) closeTo(level int, end, lf int64) {
	for i := len(p.frames) - 1; i >= level; i-- {
		f := &p.frames[i]
		f.part.End, f.part.Lines = end, lf-f.lfBody
		if f.captured {
			p.readPreview(f.part)
		}
		p.forget(f)
		if f.part.IsMultipart() && len(f.part.Children) == 0 {
			f.part.becomeText()
		}
		p.frames = p.frames[:i]
	}
}

// forget makes f take no more delimiters.
func (p *Parser) forget(f *frame) {
	if f.boundary == "" {
		return
	}
	if f.outer >= 0 {
		p.bounds[f.boundary] = f.outer
	} else {
		delete(p.bounds, f.boundary)
	}
	f.boundary = ""
}
