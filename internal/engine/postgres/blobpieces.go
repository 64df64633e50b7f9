package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

const (
	pieceBytes = 256 << 10 // of an upload in one row, its checksum apart
	pieceBatch = 3         // rows in one statement
)

var (
	stPiecesPut = &statement{"b_pieces", `INSERT INTO pieces (name, upload, n, at, data)
		SELECT $1::bytea, $2::text, t.n, ` + nowMS + `, t.data FROM unnest($3::bigint[], $4::bytea[]) AS t (n, data)
		ON CONFLICT (name, upload, n) DO NOTHING`}
	stPiecesDelete = &statement{"b_pieces_delete", `DELETE FROM pieces WHERE name = $1::bytea AND upload = $2::text`}
	stPiece        = &statement{"b_piece", `SELECT data FROM pieces WHERE name = $1::bytea AND upload = $2::text AND n = $3::bigint`}
)

// pieces are uploads in a database: rows of a table, each with its CRC-32C in front. They are
// written statement by statement, so that one of any size takes no more memory than a small
// one and each can be tried again.
type pieces struct{ shelf shelf }

func (p pieces) put(ctx context.Context, name mail.BlobRef, upload string, size int64, r io.Reader) error {
	buf := make([]byte, 0, min(size, pieceBatch*pieceBytes)+4*pieceBatch)
	for n, left := int64(0), size; left > 0; {
		var numbers []int64
		var rows [][]byte
		buf = buf[:0]
		for len(rows) < pieceBatch && left > 0 {
			start := len(buf)
			buf = buf[:start+4+int(min(left, pieceBytes))]
			piece := buf[start:]
			if _, err := io.ReadFull(r, piece[4:]); err != nil {
				if n >= pieceBatch {
					_ = p.remove(ctx, name, upload) // else Orphans does
				}
				return short(err)
			}
			binary.BigEndian.PutUint32(piece, crc32.Checksum(piece[4:], castagnoli))
			rows, numbers = append(rows, piece), append(numbers, n)
			left -= int64(len(piece)) - 4
			n++
		}
		err := p.shelf.change(ctx, nil, stPiecesPut, name[:], upload, numbers, rows)
		if err != nil {
			return err
		}
	}
	return nil
}

func (p pieces) remove(ctx context.Context, name mail.BlobRef, upload string) error {
	return p.shelf.change(ctx, nil, stPiecesDelete, name[:], upload)
}

// open returns a reader that holds one piece at a time.
func (p pieces) open(ctx context.Context, name mail.BlobRef, upload string, off, n int64) io.ReadCloser {
	return &pieceReader{p: p, ctx: ctx, name: name, upload: upload, off: off, end: off + n}
}

type pieceReader struct {
	p        pieces
	ctx      context.Context
	name     mail.BlobRef
	upload   string
	off, end int64
	data     []byte // from off on, of the piece that off lies in
	err      error
}

func (r *pieceReader) Read(b []byte) (int, error) {
	if r.off == r.end {
		return 0, io.EOF
	}
	if len(r.data) == 0 && r.err == nil {
		r.data, r.err = r.piece(r.off / pieceBytes)
	}
	if r.err != nil {
		return 0, r.err
	}
	n := copy(b, r.data[:min(int64(len(r.data)), r.end-r.off)])
	r.data = r.data[n:]
	r.off += int64(n)
	return n, nil
}

// piece reads a piece, from off on.
func (r *pieceReader) piece(n int64) ([]byte, error) {
	var v []byte
	err := r.p.shelf.ask(r.ctx, func(row [][]byte) error {
		if v = nil; row != nil {
			v = bytes.Clone(row[0])
		}
		return nil
	}, stPiece, r.name[:], r.upload, n)
	switch skip := r.off - n*pieceBytes; {
	case err != nil:
		return nil, err
	case v == nil:
		return nil, fault.New(fault.NotFound, "a piece of a blob is missing")
	case len(v) < 4 || binary.BigEndian.Uint32(v) != crc32.Checksum(v[4:], castagnoli) || int64(len(v))-4 <= skip:
		return nil, errChecksum
	default:
		return v[4+skip:], nil
	}
}

func (r *pieceReader) Close() error {
	r.data, r.err = nil, errReaderClosed
	return nil
}
