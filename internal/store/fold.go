package store

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"

	"github.com/klauspost/compress"
	"github.com/klauspost/compress/zstd"

	"github.com/martlet-mail/martlet/internal/fault"
)

// An attachment comes in base64, which is a third longer than what it says, and the
// best compressor takes no more than that off. So a chunk of a body is kept decoded
// where coding it again gives the same bytes: wherever lines of base64 of one length
// follow each other, whatever the message says of itself. Nothing but the chunk is
// needed to read it. docs/decisions/0016.

// run is lines of base64 in a chunk, and the text before them.
type run struct {
	text  int  // bytes before the first line
	quads int  // of a line: four characters that say three bytes
	lf    bool // lines end with LF alone
	lines int
	tail  int // bytes that the line after them says, which may be shorter and has no end here
}

const (
	foldLine = 32      // characters in the shortest line that is looked at
	foldRun  = 96      // characters in the shortest run that is worth its entry
	foldMost = 1 << 20 // bytes of a chunk at most, so that a broken entry cannot ask for memory
)

var strict = base64.StdEncoding.Strict()

// folder turns a chunk into runs and the bytes they say.
type folder struct {
	runs  []run
	plain []byte // text and decoded bytes, in order
	again []byte // the chunk, coded again
	entry []byte
}

// fold reads a chunk. It is false if there is nothing to gain.
func (f *folder) fold(b []byte) bool {
	f.runs, f.plain = f.runs[:0], f.plain[:0]
	text := 0 // where it begins
	for pos := 0; ; {
		n := bytes.IndexByte(b[pos:], '\n')
		if n < 0 {
			break
		}
		length, lf := n, true
		if n > 0 && b[pos+n-1] == '\r' {
			length, lf = n-1, false
		}
		if length >= foldLine && length%4 == 0 && inBase64(b[pos:pos+8]) {
			if taken := f.run(b[text:], pos-text, run{quads: length / 4, lf: lf}); taken > 0 {
				pos += taken
				text = pos
				continue
			}
		}
		pos += n + 1
	}
	if len(f.runs) == 0 {
		return false
	}
	f.plain = append(f.plain, b[text:]...)
	var err error
	f.again, err = unfold(f.again[:0], f.runs, f.plain)
	return err == nil && bytes.Equal(f.again, b)
}

// inBase64 looks at a few characters, so that text is passed over quickly.
func inBase64(b []byte) bool {
	for _, c := range b {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '+' && c != '/' {
			return false
		}
	}
	return true
}

// run takes up the run that begins after so many bytes of text, and returns how many
// bytes it takes, 0 if it is none.
func (f *folder) run(b []byte, text int, r run) (taken int) {
	start := len(f.plain)
	f.plain = append(f.plain, b[:text]...)
	b, r.text = b[text:], text
	ending, length := r.ending(), 4*r.quads
	at := 0
	for ; len(b)-at >= length+len(ending); at += length + len(ending) {
		line, end := b[at:at+length], b[at+length:]
		if string(end[:len(ending)]) != ending || !f.decode(line, 3*r.quads) {
			break
		}
		r.lines++
	}
	last := b[at:min(len(b), at+length)]
	if n := bytes.IndexAny(last, "\r\n"); n >= 0 {
		last = last[:n]
	}
	last = last[:len(last)&^3]
	if n := len(last) / 4 * 3; n > 0 {
		for pad := len(last); pad > 0 && last[pad-1] == '='; pad-- {
			n--
		}
		if n > 0 && f.decode(last, n) {
			r.tail = n
			at += len(last)
		}
	}
	if at < foldRun {
		f.plain = f.plain[:start]
		return 0
	}
	f.runs = append(f.runs, r)
	return at
}

// decode appends what a line says if that is so many bytes, and tells whether it is.
func (f *folder) decode(line []byte, want int) bool {
	start := len(f.plain)
	out, err := strict.AppendDecode(f.plain, line)
	if err != nil || len(out)-start != want {
		f.plain = f.plain[:start]
		return false
	}
	f.plain = out
	return true
}

func (r *run) ending() string {
	if r.lf {
		return "\n"
	}
	return "\r\n"
}

// plain and coded return how long a run is without its text, decoded and coded.
func (r *run) plain() int { return 3*r.quads*r.lines + r.tail }
func (r *run) coded() int {
	return (4*r.quads+len(r.ending()))*r.lines + base64.StdEncoding.EncodedLen(r.tail)
}

// unfold appends the chunk to dst.
func unfold(dst []byte, runs []run, plain []byte) ([]byte, error) {
	for i := range runs {
		r := &runs[i]
		if len(plain) < r.text+r.plain() {
			return nil, errFolded
		}
		dst = append(dst, plain[:r.text]...)
		plain = plain[r.text:]
		at := len(dst)
		dst = append(dst, make([]byte, r.coded())...)
		ending, size, length := r.ending(), 3*r.quads, 4*r.quads
		for range r.lines {
			base64.StdEncoding.Encode(dst[at:], plain[:size])
			at += length
			at += copy(dst[at:], ending)
			plain = plain[size:]
		}
		base64.StdEncoding.Encode(dst[at:], plain[:r.tail])
		plain = plain[r.tail:]
	}
	return append(dst, plain...), nil
}

var errFolded = fault.New(fault.Corrupt, "a stored body has broken runs of base64")

// appendRuns writes the entry of a chunk: the number of runs, then for each the
// numbers of text, quads (times two, and one if lines end with LF), lines and tail.
func appendRuns(dst []byte, runs []run) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(runs)))
	for _, r := range runs {
		quads := uint64(r.quads) << 1
		if r.lf {
			quads |= 1
		}
		for _, n := range [...]uint64{uint64(r.text), quads, uint64(r.lines), uint64(r.tail)} {
			dst = binary.AppendUvarint(dst, n)
		}
	}
	return dst
}

// packBody appends a chunk of a body to dst, folded if it can be, and compressed if that
// makes it shorter.
func (p *packer) packBody(dst, src []byte) []byte {
	f := p.folders.Get().(*folder)
	defer p.folders.Put(f)
	kinds, rest := [...]byte{packedRaw, packedZstd}, src
	var entry []byte
	if f.fold(src) {
		f.entry = appendRuns(f.entry[:0], f.runs)
		kinds, rest, entry = [...]byte{packedFolded, packedFoldedZstd}, f.plain, f.entry
	}
	start := len(dst)
	if !dense(rest) {
		dst = append(append(dst, kinds[1]), entry...)
		begin := len(dst)
		if dst = p.body.EncodeAll(rest, dst); len(dst)-begin < len(rest) {
			return dst
		}
	}
	return append(append(append(dst[:start], kinds[0]), entry...), rest...)
}

// unpack appends to dst the chunk that packBody folded into src.
func (f *folder) unpack(d *zstd.Decoder, dst, src []byte) (_ []byte, err error) {
	kind := src[0]
	var rest []byte
	if f.runs, rest, err = parseRuns(f.runs[:0], src[1:]); err != nil {
		return nil, err
	}
	if kind == packedFoldedZstd {
		if f.plain, err = d.DecodeAll(rest, f.plain[:0]); err != nil {
			return nil, fault.Wrap(fault.Corrupt, "stored bytes do not decompress", err)
		}
		rest = f.plain
	}
	return unfold(dst, f.runs, rest)
}

// parseRuns reads what appendRuns wrote and returns the rest.
func parseRuns(runs []run, b []byte) ([]run, []byte, error) {
	d := dec{Rest: b}
	total := 0
	for range d.Count() {
		text, quads, lines, tail := d.U(), d.U(), d.U(), d.U()
		if max(text, quads, lines, tail) > foldMost || quads>>1*lines > foldMost {
			return nil, nil, errFolded
		}
		r := run{text: int(text), quads: int(quads >> 1), lf: quads&1 != 0, lines: int(lines), tail: int(tail)}
		if total += r.text + r.coded(); total > foldMost {
			return nil, nil, errFolded
		}
		runs = append(runs, r)
	}
	return runs, d.Rest, d.Err("body")
}

// dense tells whether bytes look as if no compressor could make them shorter, as
// pictures and archives do. It looks at samples of a longer chunk.
func dense(b []byte) bool {
	const sample, most = 2 << 10, 0.05
	if len(b) < 2*sample {
		return false // too few to be sure, and cheap to try
	}
	for i := range 4 {
		at := (len(b) - sample) / 3 * i
		if compress.Estimate(b[at:at+sample]) > most {
			return false
		}
	}
	return true
}
