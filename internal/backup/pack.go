package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

// A pack is a file of objects: packMagic; the objects' stored bytes, one after another; an
// index of them; the index's length (8 bytes, big-endian) and packMagic. It is named by the
// SHA-256 of its index, which has that of each object, so that not a bit of it can change
// unseen. docs/backup.md.
const (
	packMagic  = "martlet pack 1\n\x00"
	packEnding = ".pack"
	packSize   = 32 << 20 // bytes from which on the next object goes into another pack
	packSync   = 8 << 20  // bytes after which a pack is synced, so that no sync is long
	footer     = 8 + len(packMagic)
)

// Kinds of objects.
const (
	kindBody  = 'b' // as the engine keeps it
	kindChunk = 'c' // compressed by zstd
	kindTree  = 't' // compressed by zstd
	kindHole  = 'x' // nothing: what was to be stored could not be read to its end
)

type object struct {
	kind byte
	name name
}

func (o object) String() string {
	what := map[byte]string{kindBody: "body", kindChunk: "chunk", kindTree: "list of chunks"}[o.kind]
	return what + " " + o.name.String()
}

// packed is one line of a pack's index.
type packed struct {
	object
	off, size int64
	sum       [sha256.Size]byte // of the stored bytes
	needs     []name            // other bodies that a body is of no use without
}

func encodeIndex(list []packed) []byte {
	var e record.Enc
	for i := range list {
		p := &list[i]
		e.Raw(p.kind)
		e.Raw(p.name[:]...)
		e.U(uint64(p.size))
		e.Raw(p.sum[:]...)
		e.U(uint64(len(p.needs)))
		for _, n := range p.needs {
			e.Raw(n[:]...)
		}
	}
	return e
}

func decodeIndex(b []byte) ([]packed, error) {
	d := record.Dec{Rest: b}
	var list []packed
	at := int64(len(packMagic))
	for len(d.Rest) > 0 {
		p := packed{object: object{d.Byte(), takeName(&d)}, off: at, size: int64(d.U())}
		p.sum = takeName(&d)
		for range d.Count() {
			p.needs = append(p.needs, takeName(&d))
		}
		if p.size < 0 || at+p.size < at {
			return nil, errIndex
		}
		at += p.size
		list = append(list, p)
	}
	if d.Err("index") != nil {
		return nil, errIndex
	}
	return list, nil
}

var errIndex = fault.New(fault.Corrupt, "the index of a pack in the backup is damaged")

// readIndex reads and checks a pack's index. It does not read the objects.
func readIndex(d Disk, path string) ([]packed, error) {
	f, err := d.FS.Open(path)
	if err != nil {
		return nil, unavailable("cannot read the backup", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, unavailable("cannot read the backup", err)
	}
	head, end := make([]byte, len(packMagic)), make([]byte, footer)
	size := info.Size()
	if size < int64(len(head)+len(end)) {
		return nil, errIndex
	}
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, unavailable("cannot read the backup", err)
	}
	if _, err := f.ReadAt(end, size-int64(len(end))); err != nil {
		return nil, unavailable("cannot read the backup", err)
	}
	length := int64(binary.BigEndian.Uint64(end))
	from := size - int64(footer) - length
	if string(head) != packMagic || string(end[8:]) != packMagic || length < 0 || from < int64(len(packMagic)) || from > size {
		return nil, errIndex
	}
	index := make([]byte, length)
	if _, err := f.ReadAt(index, from); err != nil {
		return nil, unavailable("cannot read the backup", err)
	}
	if d.FS.PathBase(path) != packName(index) {
		return nil, errIndex
	}
	list, err := decodeIndex(index)
	if err == nil && from != endOf(list) {
		err = errIndex
	}
	return list, err
}

func endOf(list []packed) int64 {
	if len(list) == 0 {
		return int64(len(packMagic))
	}
	last := &list[len(list)-1]
	return last.off + last.size
}

func packName(index []byte) string {
	sum := sha256.Sum256(index)
	return hex.EncodeToString(sum[:]) + packEnding
}

// packWriter writes one pack.
type packWriter struct {
	disk Disk
	dir  string
	file vfs.File
	buf  *bufio.Writer
	list []packed
	at   int64
	late int64 // bytes since the last sync
}

// newPack is what a pack is called that is not finished. There is one at a time.
const newPack = "pack" + beginning

func newPackWriter(d Disk, dir string) (*packWriter, error) {
	f, err := d.create(d.join(dir, newPack))
	if err != nil {
		return nil, writing(err)
	}
	w := &packWriter{disk: d, dir: dir, file: f, buf: bufio.NewWriterSize(f, 256<<10), at: int64(len(packMagic))}
	_, err = w.buf.WriteString(packMagic)
	return w, writing(err)
}

// put stores what r has as an object. An error of r's leaves a hole.
func (w *packWriter) put(o object, needs []name, r io.Reader) (packed, error) {
	sum := hashing{sha256.New(), w.buf, nil}
	n, err := io.Copy(&sum, r)
	if sum.failed != nil {
		return packed{}, writing(sum.failed)
	}
	p := packed{o, w.at, n, [sha256.Size]byte(sum.Sum(nil)), needs}
	if err != nil {
		p.object, p.needs = object{kindHole, p.sum}, nil
	}
	w.list = append(w.list, p)
	w.at += n
	if err != nil {
		return p, err
	}
	if w.late += n; w.late >= packSync {
		w.late = 0
		if err := w.buf.Flush(); err != nil {
			return p, writing(err)
		}
		return p, writing(w.file.Sync())
	}
	return p, nil
}

// hashing tells a failure to write from one to read.
type hashing struct {
	hash.Hash
	to     io.Writer
	failed error
}

func (h *hashing) Write(b []byte) (int, error) {
	h.Hash.Write(b)
	n, err := h.to.Write(b)
	h.failed = err
	return n, err
}

// finish makes the pack durable under its name.
func (w *packWriter) finish() (string, error) {
	index := encodeIndex(w.list)
	base := packName(index)
	end := binary.BigEndian.AppendUint64(index, uint64(len(index)))
	_, err := io.Copy(w.buf, bytes.NewReader(append(end, packMagic...)))
	if err == nil {
		err = w.buf.Flush()
	}
	if err == nil {
		err = w.file.Sync()
	}
	if closing := w.file.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = w.disk.FS.Rename(w.disk.join(w.dir, newPack), w.disk.join(w.dir, base))
	}
	if err == nil {
		err = w.disk.syncDir(w.dir)
	}
	return base, writing(err)
}

// abandon removes a pack that is not finished.
func (w *packWriter) abandon() {
	w.file.Close()
	_ = w.disk.FS.Remove(w.disk.join(w.dir, newPack)) // the next one clears it away, too
}

// sumStart is as much of a sum as is kept in memory.
func sumStart(sum [sha256.Size]byte) uint64 { return binary.BigEndian.Uint64(sum[:]) }
