package netsrv

import (
	"encoding/binary"
	"errors"
	"io"
)

// inflater undoes DEFLATE (RFC 1951) for a conversation. Unlike compress/flate, which
// may keep what it has decoded until the next block begins, it never waits for input
// while it has output: whatever way a peer flushes (zlib's Z_SYNC_FLUSH or
// Z_PARTIAL_FLUSH), all that can be decoded from the bytes that have come is handed out.
//
// Decoding goes in steps: the head of a block, one symbol, some stored bytes. A step that
// runs out of input changes nothing and is taken again when there is more. An error of
// the source is returned and may be followed by more reading, as after a deadline.
//
// Memory: 4 KB of input and, as the peer sends more, up to 64 KB of window.
type inflater struct {
	src io.Reader
	in  []byte // read and not used up
	at  uint   // bits of in used up

	win  []byte // the last output, of which the end from out on has not been read
	out  int
	step step
	last bool // this block is the last one
	mark bool // an empty stored block is over: the peer has flushed
	left int  // bytes of a stored block still to come
	lit  *huffman
	dist *huffman
	own  [2]huffman // codes that a block has brought
	bad  error      // what ended the stream for good
}

// step is what is decoded next.
type step uint8

const (
	blockHead step = iota
	storedBytes
	codedSymbol
)

const (
	windowSize  = 32 << 10 // how far back a match may reach
	inflateRead = 4 << 10  // most bytes read at once
	longestHead = 512      // bytes of a block's head, at the very most
)

var (
	errMore    = errors.New("more input is needed")
	errDeflate = errors.New("not a stream of DEFLATE")
)

func newInflater(src io.Reader) *inflater {
	return &inflater{src: src}
}

// Read returns what could be decoded, at least a byte; it waits only if there is none.
func (f *inflater) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for f.out == len(f.win) {
		if f.bad != nil {
			return 0, f.bad
		}
		f.slide()
		err := f.decode()
		if err != nil && !errors.Is(err, errMore) {
			f.bad = err
		}
		if f.out == len(f.win) && errors.Is(err, errMore) {
			if err := f.fill(); err != nil {
				return 0, err
			}
		}
	}
	n := copy(p, f.win[f.out:])
	f.out += n
	return n, nil
}

// decode takes steps until the window is full, the input used up or wrong, or there is
// output and the peer has flushed: then the stream may be at its end.
func (f *inflater) decode() error {
	for len(f.win) < 2*windowSize-258 && !(f.mark && f.out < len(f.win)) {
		if err := f.next(); err != nil {
			return err
		}
	}
	return nil
}

// next takes one step.
func (f *inflater) next() error {
	f.mark = false
	switch f.step {
	case blockHead:
		return f.head()
	case storedBytes:
		return f.stored()
	}
	return f.symbol()
}

// finish reads to the end of a stream of which nothing but that is expected: its last
// block, or where the peer has flushed. It returns what had been read beyond.
func (f *inflater) finish() (rest []byte, err error) {
	for !f.mark && !(f.last && f.step == blockHead) {
		err := f.next()
		switch {
		case f.out < len(f.win):
			return nil, errDeflate
		case errors.Is(err, errMore):
			err = f.fill()
		}
		if err != nil {
			return nil, err
		}
	}
	return f.in[(f.at+7)/8:], nil
}

// slide makes room in a window that is nearly full. All of it has been read.
func (f *inflater) slide() {
	if len(f.win) >= 2*windowSize-258 {
		f.win = f.win[:copy(f.win, f.win[len(f.win)-windowSize:])]
		f.out = len(f.win)
	}
}

// fill reads once, keeping the bytes of which bits are left.
func (f *inflater) fill() error {
	used := int(f.at / 8)
	f.in = f.in[:copy(f.in, f.in[used:])]
	f.at %= 8
	if len(f.in) > longestHead {
		f.bad = errDeflate // no step needs so much
		return f.bad
	}
	have := len(f.in)
	if cap(f.in) == 0 {
		f.in = make([]byte, 0, longestHead+inflateRead)
	}
	n, err := f.src.Read(f.in[have:min(cap(f.in), have+inflateRead)])
	f.in = f.in[:have+n]
	if n > 0 {
		err = nil // it will be there at the next read
	}
	return err
}

// peek returns the next bits, lowest first, and how many of them are good: 57 if there
// are so many.
func (f *inflater) peek() (bits uint64, n uint) {
	b := f.in[f.at/8:]
	if len(b) >= 8 {
		return binary.LittleEndian.Uint64(b) >> (f.at % 8), 57
	}
	for i, c := range b {
		bits |= uint64(c) << (8 * i)
	}
	return bits >> (f.at % 8), uint(len(b))*8 - f.at%8
}

// take reads n bits, at most 32.
func (f *inflater) take(n uint) (int, error) {
	bits, have := f.peek()
	if have < n {
		return 0, errMore
	}
	f.at += n
	return int(bits & (1<<n - 1)), nil
}

// head reads the head of a block (RFC 1951, 3.2.3).
func (f *inflater) head() (err error) {
	if f.last {
		return io.EOF
	}
	start := f.at
	defer func() {
		if err != nil {
			f.at = start
		}
	}()
	kind, err := f.take(3)
	if err != nil {
		return err
	}
	switch kind >> 1 {
	case 0:
		if f.left, err = f.storedHead(); err == nil {
			f.step = storedBytes
		}
	case 1:
		f.lit, f.dist = &fixedLit, &fixedDist
		f.step = codedSymbol
	case 2:
		if err = f.dynamicHead(); err == nil {
			f.step = codedSymbol
		}
	default:
		err = errDeflate
	}
	if err == nil {
		f.last = kind&1 != 0
	}
	return err
}

// storedHead reads the length of a stored block, which begins at a byte (3.2.4).
func (f *inflater) storedHead() (int, error) {
	f.at = (f.at + 7) &^ 7
	both, err := f.take(32)
	if err == nil && both&0xffff != both>>16^0xffff {
		err = errDeflate
	}
	return both & 0xffff, err
}

func (f *inflater) stored() error {
	empty := f.left == 0
	b := f.in[f.at/8:]
	n := min(f.left, len(b), 2*windowSize-258-len(f.win))
	f.win = append(f.win, b[:n]...)
	f.at += 8 * uint(n)
	switch f.left -= n; {
	case f.left == 0:
		f.step, f.mark = blockHead, empty
	case n == 0:
		return errMore
	}
	return nil
}

// lengthOrder is the order of the code lengths of code lengths (3.2.7).
var lengthOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamicHead reads the codes of a block (3.2.7).
func (f *inflater) dynamicHead() error {
	counts, err := f.take(14)
	if err != nil {
		return err
	}
	lits, dists, codes := counts&31+257, counts>>5&31+1, counts>>10+4
	if lits > 286 || dists > 30 {
		return errDeflate
	}
	var lengths [320]uint8
	for _, place := range lengthOrder[:codes] {
		n, err := f.take(3)
		if err != nil {
			return err
		}
		lengths[place] = uint8(n)
	}
	var code huffman
	if err := code.build(lengths[:19], false); err != nil {
		return err
	}
	clear(lengths[:])
	for i := 0; i < lits+dists; {
		bits, have := f.peek()
		sym, n, err := code.decode(bits, have)
		if err != nil {
			return err
		}
		f.at += n
		if sym < 16 {
			lengths[i] = uint8(sym)
			i++
			continue
		}
		value, times := uint8(0), 0
		switch sym {
		case 16:
			if i == 0 {
				return errDeflate
			}
			value = lengths[i-1]
			times, err = f.take(2)
			times += 3
		case 17:
			times, err = f.take(3)
			times += 3
		default:
			times, err = f.take(7)
			times += 11
		}
		if err != nil {
			return err
		}
		if i+times > lits+dists {
			return errDeflate
		}
		for ; times > 0; times-- {
			lengths[i] = value
			i++
		}
	}
	if lengths[256] == 0 { // such a block has no end
		return errDeflate
	}
	f.lit, f.dist = &f.own[0], &f.own[1]
	if err := f.lit.build(lengths[:lits], false); err != nil {
		return err
	}
	return f.dist.build(lengths[lits:lits+dists], true)
}

// What length and distance symbols begin at, and how many bits they add (3.2.5).
var (
	lengthBase = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthBits = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase   = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distBits   = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// symbol decodes a literal, a match or the end of the block. No match takes more than
// 48 bits: it fits into what peek returns.
func (f *inflater) symbol() error {
	bits, have := f.peek()
	sym, n, err := f.lit.decode(bits, have)
	switch {
	case err != nil:
		return err
	case sym < 256:
		f.win = append(f.win, byte(sym))
		f.at += n
		return nil
	case sym == 256:
		f.at += n
		f.step = blockHead
		return nil
	case sym > 285:
		return errDeflate
	}
	used := n
	extra := func(count uint8) int {
		v := bits >> used & (1<<count - 1)
		used += uint(count)
		return int(v)
	}
	length := int(lengthBase[sym-257]) + extra(lengthBits[sym-257])
	if used > have {
		return errMore
	}
	dsym, n, err := f.dist.decode(bits>>used, have-used)
	if err != nil {
		return err
	}
	if dsym > 29 {
		return errDeflate
	}
	used += n
	back := int(distBase[dsym]) + extra(distBits[dsym])
	if used > have {
		return errMore
	}
	if back > len(f.win) {
		return errDeflate
	}
	f.at += used
	for from := len(f.win) - back; length > 0; length-- {
		f.win = append(f.win, f.win[from])
		from++
	}
	return nil
}

// huffman is a canonical code (3.2.2): how many codes there are of each length, and
// the symbols in order of their codes.
type huffman struct {
	count  [16]uint16
	symbol [288]uint16
}

// build makes the code of the lengths of its symbols. An incomplete one is an error,
// but for one of a single symbol, in one bit as others read it, or none where that is
// allowed: distances may be unused (3.2.7).
func (h *huffman) build(lengths []uint8, mayLack bool) error {
	h.count = [16]uint16{}
	for _, n := range lengths {
		h.count[n]++
	}
	used := len(lengths) - int(h.count[0])
	h.count[0] = 0
	room := 1
	var next [16]uint16
	for n := 1; n < 16; n++ {
		room = room<<1 - int(h.count[n])
		if room < 0 {
			return errDeflate
		}
		next[n] = next[n-1] + h.count[n-1]
	}
	if room > 0 && !(used == 0 && mayLack || used == 1 && h.count[1] == 1) {
		return errDeflate
	}
	for sym, n := range lengths {
		if n != 0 {
			h.symbol[next[n]] = uint16(sym)
			next[n]++
		}
	}
	return nil
}

// decode returns the symbol that the bits begin with and the length of its code.
func (h *huffman) decode(bits uint64, have uint) (sym int, n uint, err error) {
	code, first, index := 0, 0, 0
	for n = 1; n < 16; n++ {
		if n > have {
			return 0, 0, errMore
		}
		code |= int(bits & 1)
		bits >>= 1
		count := int(h.count[n])
		if code-first < count {
			return int(h.symbol[index+code-first]), n, nil
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, 0, errDeflate
}

// The codes of blocks that bring none (3.2.6).
var fixedLit, fixedDist = fixedCodes()

func fixedCodes() (lit, dist huffman) {
	var lengths [288]uint8
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	lit.build(lengths[:], false)
	for i := range 32 { // the last two are in the code, but stand for nothing
		lengths[i] = 5
	}
	dist.build(lengths[:32], true)
	return lit, dist
}
