package pebble

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// census is what a manifest says of the files that count.
type census struct {
	minLog uint64               // logs with lower numbers do not count
	tables map[uint64]tableInfo // by number
	blobs  map[uint64]blobInfo  // by id, which a table names

	files map[string]uint64 // what needed has returned
}

type tableInfo struct {
	level   int
	size    uint64
	backing uint64 // number of the file
	refs    []uint64

	least, most []byte // its first and last key
}

type blobInfo struct {
	file uint64
	size uint64
}

// Tags of an edit, and of what a new table has besides.
const (
	tagComparer      = 1
	tagMinLog        = 2
	tagNextFile      = 3
	tagLastSequence  = 4
	tagDeletedTable  = 6
	tagPrevLog       = 9
	tagNewTable      = 103
	tagNewTableRange = 104
	tagBacking       = 105
	tagBackingGone   = 106
	tagNewBlob       = 107
	tagDeletedBlob   = 108

	keyNumber = 8 // bytes of a number behind a key

	moreEnd    = 1
	moreVirt   = 66
	moreRefs   = 69
	moreUnsafe = 1 << 6
)

// readCensus reads a manifest. What it does not know is an error: then nothing follows
// from it.
func readCensus(fs vfs.FS, path string) (*census, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := &census{tables: map[uint64]tableInfo{}, blobs: map[uint64]blobInfo{}}
	records := record.NewReader(f, 0)
	for {
		r, err := records.Next()
		if errors.Is(err, io.EOF) || record.IsInvalidRecord(err) {
			return c, nil // as the database reads it
		}
		if err != nil {
			return nil, err
		}
		e := edit{in: bufio.NewReader(r)}
		for e.next(c) {
		}
		if record.IsInvalidRecord(e.err) {
			return c, nil
		}
		if e.err != nil {
			return nil, e.err
		}
	}
}

// edit reads one record of a manifest.
type edit struct {
	in  *bufio.Reader
	err error
}

func (e *edit) num() uint64 {
	if e.err != nil {
		return 0
	}
	n, err := binary.ReadUvarint(e.in)
	e.err = err
	return n
}

// key reads a key with its number, without that.
func (e *edit) key() []byte {
	n := e.num()
	if n > 1<<20 {
		e.err = errors.Join(e.err, io.ErrUnexpectedEOF)
	}
	if e.err != nil {
		return nil
	}
	b := make([]byte, n)
	_, e.err = io.ReadFull(e.in, b)
	return b[:max(0, len(b)-keyNumber)]
}

func (e *edit) skip() {
	n := e.num()
	if n > math.MaxInt64 {
		e.err = errors.Join(e.err, io.ErrUnexpectedEOF) // CopyN would copy nothing, and be content
	}
	if e.err == nil {
		_, e.err = io.CopyN(io.Discard, e.in, int64(n))
	}
}

// next reads one field into the census, and tells whether there may be more.
func (e *edit) next(c *census) bool {
	if _, err := e.in.Peek(1); errors.Is(err, io.EOF) {
		return false
	}
	switch tag := e.num(); tag {
	case tagComparer:
		e.skip()
	case tagMinLog:
		c.minLog = e.num()
	case tagNextFile, tagLastSequence, tagPrevLog, tagBackingGone:
		e.num()
	case tagBacking:
		e.num()
		e.num()
	case tagDeletedTable:
		e.num()
		delete(c.tables, e.num())
	case tagNewTable, tagNewTableRange:
		e.table(c, tag)
	case tagNewBlob:
		id, b := e.num(), blobInfo{file: e.num(), size: e.num()}
		e.num()
		e.num()
		c.blobs[id] = b
	case tagDeletedBlob:
		id, file := e.num(), e.num()
		if c.blobs[id].file == file { // it may live on in another file
			delete(c.blobs, id)
		}
	default:
		e.err = errors.Join(e.err, fmt.Errorf("the manifest has an unknown field %d", tag))
	}
	return e.err == nil
}

func (e *edit) table(c *census, tag uint64) {
	t := tableInfo{level: int(e.num())}
	number := e.num()
	t.backing, t.size = number, e.num()
	points := true
	if tag == tagNewTableRange {
		var marker byte
		if e.err == nil {
			marker, e.err = e.in.ReadByte()
		}
		points = marker&1 != 0
		if points {
			t.least, t.most = e.key(), e.key()
		}
	}
	least, most := e.key(), e.key()
	if tag == tagNewTable {
		t.least, t.most = least, most
	}
	e.num()
	e.num()
	for e.err == nil {
		switch more := e.num(); {
		case more == moreEnd:
			c.tables[number] = t
			return
		case more == moreVirt:
			t.backing, t.size = e.num(), 0
		case more == moreRefs:
			e.num()
			for n := e.num(); n > 0 && e.err == nil; n-- {
				t.refs = append(t.refs, e.num())
				e.num()
			}
		case more&moreUnsafe != 0:
			e.err = fmt.Errorf("the manifest has an unknown field %d of a table", more)
		default:
			e.skip()
		}
	}
}
