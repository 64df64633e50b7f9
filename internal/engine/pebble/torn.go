package pebble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"

	db "github.com/cockroachdb/pebble/v2"

	"github.com/martlet-mail/martlet/internal/mail"
)

// soundPiece tells whether a value under the key of a piece is one.
func soundPiece(value []byte) bool {
	return len(value) >= 4 && binary.BigEndian.Uint32(value) == crc32.Checksum(value[4:], castagnoli)
}

// dropTorn removes bodies of which a piece is lost, or whose header is damaged. Who puts one
// again would be told that it is there already, and lose it.
func (r *repair) dropTorn() error {
	heads, err := r.to.NewIter(&db.IterOptions{LowerBound: []byte{spaceHeaders}, UpperBound: []byte{spaceHeaders + 1}})
	if err != nil {
		return err
	}
	pieces, err := r.to.NewIter(&db.IterOptions{LowerBound: []byte{spacePieces}, UpperBound: []byte{spacePieces + 1}})
	if err != nil {
		return errors.Join(err, heads.Close())
	}
	batch := r.to.NewBatch()
	pieces.First()
	for ok := heads.First(); ok && err == nil; ok = heads.Next() {
		var value []byte
		if value, err = heads.ValueAndErr(); err == nil {
			err = r.tornOne(batch, heads.Key(), value, pieces)
		}
	}
	if err = errors.Join(err, heads.Error(), pieces.Error(), heads.Close(), pieces.Close()); err != nil {
		return err
	}
	return batch.Commit(db.NoSync)
}

// tornOne removes a body if it is torn, and goes on behind its pieces.
func (r *repair) tornOne(batch *db.Batch, head, value []byte, pieces *db.Iterator) error {
	if len(head) != 1+len(mail.BlobRef{}) {
		return batch.Delete(head, nil)
	}
	name := mail.BlobRef(head[1:])
	h, err := decodeHeader(name, value)
	first := pieceKey(name, 0)
	for pieces.Valid() && bytes.Compare(pieces.Key(), first) < 0 {
		pieces.Next() // of a body whose header is lost
	}
	n, total := int64(0), (h.size+pieceBytes-1)/pieceBytes
	var there [][]byte
	for ; pieces.Valid() && bytes.HasPrefix(pieces.Key(), first[:len(first)-4]); pieces.Next() {
		there = append(there, bytes.Clone(pieces.Key()))
		if n < total && bytes.Equal(pieces.Key(), pieceKey(name, uint32(n))) {
			n++
		}
	}
	if err == nil && n == total {
		return nil
	}
	r.hole("", head, nil)
	for _, key := range append(there, head) {
		if err := batch.Delete(key, nil); err != nil {
			return err
		}
	}
	return nil
}
