package pebble

import "encoding/binary"

// The form of a log: blocks of 32 KB, in them chunks of a header and a part of a record. The
// header is a checksum of what follows behind the length, a length, a type, the number of the
// log and, in newer chunks, how much of the log had been synced.
const (
	logBlock     = 32 << 10
	shortHeader  = 11
	longHeader   = 19
	shortChunks  = 5 // the type of the first of four: whole, first, middle, last
	longChunks   = 9
	chunkWhole   = 0
	chunkFirst   = 1
	chunkLast    = 3
	headerLength = 4
	headerType   = 6
	headerLog    = 7
)

// chunkAt returns the part of a record in the chunk that begins at a place of a block.
func chunkAt(block []byte, at int, number uint32) (part []byte, kind int, next int, ok bool) {
	if at+shortHeader > len(block) {
		return nil, 0, 0, false
	}
	h := block[at:]
	size := shortHeader
	switch t := int(h[headerType]); {
	case t >= longChunks && t < longChunks+4:
		kind, size = t-longChunks, longHeader
	case t >= shortChunks && t < shortChunks+4:
		kind = t - shortChunks
	default:
		return nil, 0, 0, false
	}
	end := size + int(binary.LittleEndian.Uint16(h[headerLength:]))
	if end > len(h) || binary.LittleEndian.Uint32(h[headerLog:]) != number || binary.LittleEndian.Uint32(h) != blockSum(h[headerType:end]) {
		return nil, 0, 0, false
	}
	return h[size:end], kind, at + end, true
}

// salvageLog returns the records of a log that are whole, also those behind damage.
func salvageLog(b []byte, number uint32) (records [][]byte) {
	var part []byte // of a record whose last chunk has not come
	open := false
	for ; len(b) > 0; b = b[min(logBlock, len(b)):] {
		block := b[:min(logBlock, len(b))]
		for at := 0; at+shortHeader <= len(block); {
			p, kind, next, ok := chunkAt(block, at, number)
			if !ok {
				open = open && len(block)-at < longHeader // a part is lost; that little is left empty
				at++                                      // what is here belongs to nothing; a chunk may begin anywhere behind it
				continue
			}
			at = next
			switch {
			case kind == chunkWhole:
				records, open = append(records, p), false
			case kind == chunkFirst:
				part, open = append([]byte(nil), p...), true
			case open:
				if part = append(part, p...); kind == chunkLast {
					records, open = append(records, part), false
				}
			}
		}
	}
	return records
}

// writeLog returns a log of records.
func writeLog(records [][]byte, number uint32) (b []byte) {
	for _, r := range records {
		for first := true; first || len(r) > 0; first = false {
			room := logBlock - len(b)%logBlock
			if room < shortHeader {
				b = append(b, make([]byte, room)...)
				room = logBlock
			}
			n := min(len(r), room-shortHeader)
			kind := chunkFirst
			switch last := n == len(r); {
			case first && last:
				kind = chunkWhole
			case last:
				kind = chunkLast
			case !first:
				kind = chunkLast - 1
			}
			at := len(b)
			b = append(b, make([]byte, shortHeader)...)
			h := b[at:]
			binary.LittleEndian.PutUint16(h[headerLength:], uint16(n))
			h[headerType] = byte(shortChunks + kind)
			binary.LittleEndian.PutUint32(h[headerLog:], number)
			b = append(b, r[:n]...)
			binary.LittleEndian.PutUint32(b[at:], blockSum(b[at+headerType:]))
			r = r[n:]
		}
	}
	return b
}
