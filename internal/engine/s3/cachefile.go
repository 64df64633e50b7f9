package s3

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/fault"
)

// A cached file is the object in blocks, each with a CRC-32C of the key, its number and its
// bytes behind it, and a trailer: the size, and a CRC-32C of the key, the size and the magic. A file that
// has lost a part of itself does not end with one.
const (
	blockData  = 64 << 10
	blockBytes = blockData + 4
	trailer    = 8 + 4
	magic      = "martlet object 1"
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errDamaged = fault.New(fault.Corrupt, "a cached object fails its checksum")
	blocks     = sync.Pool{New: func() any { return new([blockBytes]byte) }}
)

// fileSize is the size of the file of an object.
func fileSize(size int64) int64 {
	return size + 4*((size+blockData-1)/blockData) + trailer
}

func keySum(key string) uint32 { return crc32.Checksum([]byte(key), castagnoli) }

// blockSum is the checksum of a block; key is that of the key.
func blockSum(key uint32, number int64, data []byte) uint32 {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(number))
	return crc32.Update(crc32.Update(key, castagnoli, n[:]), castagnoli, data)
}

func trailerOf(key string, size int64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, trailer), uint64(size))
	sum := crc32.Update(crc32.Update(keySum(key), castagnoli, b), castagnoli, []byte(magic))
	return binary.BigEndian.AppendUint32(b, sum)
}

// readTrailer returns the size of the object in a file, which is whole to all appearance.
func readTrailer(f vfs.File, key string) (size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	var b [trailer]byte
	at := info.Size() - trailer
	if at < 0 {
		return 0, errDamaged
	}
	if _, err := f.ReadAt(b[:], at); err != nil {
		return 0, err
	}
	size = int64(binary.BigEndian.Uint64(b[:]))
	if size < 0 || string(trailerOf(key, size)) != string(b[:]) || fileSize(size) != info.Size() {
		return 0, errDamaged
	}
	return size, nil
}

// readBlock reads block number i of an object of a size into buf and returns its bytes.
func readBlock(f vfs.File, sum uint32, size, i int64, buf *[blockBytes]byte) ([]byte, error) {
	n := min(blockData, size-i*blockData)
	b := buf[:n+4]
	if _, err := f.ReadAt(b, i*blockBytes); err != nil {
		return nil, err
	}
	if binary.BigEndian.Uint32(b[n:]) != blockSum(sum, i, b[:n]) {
		return nil, errDamaged
	}
	return b[:n], nil
}

// writer writes a cached file. Its first error is kept; after it nothing is written, and
// Write says nothing of it, for whom the bytes are for does not care.
type writer struct {
	f     vfs.File
	sum   uint32
	key   string
	block *[blockBytes]byte
	n     int   // bytes in block
	size  int64 // bytes of the object in whole blocks
	err   error
	wrote func() // called after each block
}

func newWriter(fs vfs.FS, path, key string) *writer {
	w := &writer{sum: keySum(key), key: key, block: blocks.Get().(*[blockBytes]byte), wrote: func() {}}
	w.f, w.err = fs.Create(path, vfs.WriteCategoryUnspecified)
	return w
}

func (w *writer) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 && w.err == nil {
		n := copy(w.block[w.n:blockData], p)
		w.n += n
		p = p[n:]
		if w.n == blockData {
			w.flush()
		}
	}
	return total, nil
}

func (w *writer) flush() {
	data := w.block[:w.n]
	b := binary.BigEndian.AppendUint32(data, blockSum(w.sum, w.size/blockData, data))
	if _, w.err = w.f.Write(b); w.err == nil {
		w.size += int64(w.n)
		w.n = 0
		w.wrote()
	}
}

// finish closes the file, which is whole if it has size bytes and no error comes.
func (w *writer) finish(size int64) error {
	if w.err == nil && w.n > 0 {
		w.flush()
	}
	if w.err == nil && w.size != size {
		w.err = io.ErrUnexpectedEOF
	}
	if w.err == nil {
		_, w.err = w.f.Write(trailerOf(w.key, size))
	}
	if w.f != nil {
		if err := w.f.Close(); w.err == nil {
			w.err = err
		}
		w.f = nil
	}
	if w.block != nil {
		blocks.Put(w.block)
		w.block = nil
	}
	return w.err
}
