package rfc822

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"
	"strconv"
	"unicode/utf8"
)

// Digest is what tells contents apart: the first half of a SHA-256.
type Digest [16]byte

// Keys names messages by their content and by how many of the same content came before.
// It remembers eight bytes of each message of a mailbox, about 20 MB of a million.
type Keys struct {
	seen  map[uint64]struct{}
	again map[uint64]uint32
}

// Key returns the name of the next message with that content.
func (k *Keys) Key(d Digest) string {
	if k.seen == nil {
		k.seen, k.again = map[uint64]struct{}{}, map[uint64]uint32{}
	}
	short := binary.BigEndian.Uint64(d[:8])
	n := uint32(1)
	if _, ok := k.seen[short]; ok {
		n = k.again[short] + 2
		k.again[short]++
	}
	k.seen[short] = struct{}{}
	return hex.EncodeToString(d[:]) + "." + strconv.FormatUint(uint64(n), 10)
}

// KeyOfName returns a key for what has a name of its own: the name, if it is short.
func KeyOfName(name string) string {
	if len(name) > 0 && len(name) <= 56 {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return "#" + hex.EncodeToString(sum[:16])
}

// Look is what was found in going once through a message.
type Look struct {
	Digest Digest
	Size   int64  // bytes that are handed over
	Header []byte // with the fields that are left out; valid until the next Look
}

// Looker goes through messages. Its memory is that of one header.
type Looker struct {
	r    *Reader
	sum  hash.Hash
	drop bool
	buf  []byte
}

// NewLooker returns one for messages that are handed over in the form. Two messages have the
// same digest if they differ in nothing but the fields that ignore names, whether or not
// they are left out of what is handed over; if form leaves any out, then all of these.
func NewLooker(form Form, ignore func(name string) bool) *Looker {
	l := &Looker{sum: sha256.New(), drop: form.Drop != nil, buf: make([]byte, pieces)}
	form.Drop = ignore
	l.r = NewReader(nil, form)
	return l
}

// Look reads a message to its end.
func (l *Looker) Look(raw io.Reader) (Look, error) {
	l.r.Reset(raw)
	l.sum.Reset()
	n, err := io.CopyBuffer(l.sum, onlyReader{l.r}, l.buf)
	if err != nil {
		return Look{}, err
	}
	out := Look{Size: n, Header: l.r.Header()}
	l.sum.Sum(l.buf[:0])
	copy(out.Digest[:], l.buf)
	if !l.drop {
		out.Size += l.r.Dropped
	}
	return out, nil
}

type onlyReader struct{ io.Reader }

// SourceName names a file or folder for move.Mailbox.Source: by its path, unless that is too
// long or no text.
func SourceName(path string) string {
	if len(path) <= 400 && utf8.ValidString(path) {
		return path
	}
	sum := sha256.Sum256([]byte(path))
	return "#" + hex.EncodeToString(sum[:16])
}
