package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

// A small body is a record of its message, so that messages which arrived one after
// the other are read one after the other; a larger one is a blob under the name of its
// content, kept once for all accounts. docs/decisions/0012.
const (
	smallPacked = 4 << 10   // bytes of a small body as it is stored
	smallWhole  = 32 << 10  // bytes of header and of body of such a message
	mayBeSmall  = 128 << 10 // a message of more bytes has no small body, whatever stands in front of it
)

func isSmall(head int, body, packed int64) bool {
	return head <= smallWhole && body <= smallWhole && packed <= smallPacked
}

// small tells whether the body is a record of the message.
func (f *Facts) small() bool { return f.Body.IsZero() && f.Size > f.head }

// kept is where a body is kept: a blob, or the packed bytes themselves.
type kept struct {
	ref   mail.BlobRef
	small []byte
}

// body finds the body of a message. It does not alias the snapshot.
func (s *Snapshot) body(id mail.MessageID, f *Facts) (kept, error) {
	if !f.small() {
		return kept{ref: f.Body}, nil
	}
	v, err := s.smallRecord(id)
	if err != nil {
		return kept{}, err
	}
	packed, err := unseal(recBody, v)
	return kept{small: packed}, err
}

// smallRecord returns the record of a small body, which is the caller's.
func (s *Snapshot) smallRecord(id mail.MessageID) ([]byte, error) {
	v, ok, err := s.r.Get(engine.Key(famBody, uint64(id)))
	if err == nil && !ok {
		err = fault.New(fault.Corrupt, "the body of a message is not there")
	}
	return v, err
}

// open returns n bytes of a body from off on.
func (k kept) open(ctx context.Context, s *Store, off, n int64) (io.ReadCloser, error) {
	if k.small == nil {
		return openBody(ctx, s.eng.Blobs(), s.pack, k.ref, off, n)
	}
	b, err := unpack(s.pack.unbody, nil, k.small)
	if err == nil && off+n > int64(len(b)) {
		err = fault.New(fault.Corrupt, "a body is shorter than its message says")
	}
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(b[off : off+n])), nil
}

// putBody stores a body as a blob: its head and the packed chunks.
func (s *Store) putBody(ctx context.Context, name mail.BlobRef, head []byte, size int64, chunks io.Reader, needs ...mail.BlobRef) error {
	s.seeClock()
	defer s.seeClock()
	return s.eng.Blobs().Put(ctx, name, int64(len(head))+size, io.MultiReader(bytes.NewReader(head), chunks), needs...)
}

// summed turns a packed body into a chunk of a blob.
func summed(packed []byte) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(packed), record.Sum(packed))
}
