package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"

	"github.com/minio/minio-go/v7"

	"github.com/martlet-mail/martlet/internal/fault"
)

const (
	// partSize is what one request brings up, and what is held in memory of a body of any
	// size, so that it can be sent again. No part but the last may be smaller than 5 MiB.
	partSize = 5 << 20
	maxParts = 10_000
)

// Put stores an object: in one request, or in parts if it is large. Its checksum goes with
// each request and is verified by the object store (SHA-256, the payload's of Signature V4).
func (b *Bucket) Put(ctx context.Context, key string, size int64, r io.Reader) error {
	if size < 0 || size > maxParts*partSize {
		return fault.New(fault.TooLarge, "an object's size is out of range")
	}
	hold := min(size, partSize)
	if err := b.room.take(ctx, hold); err != nil {
		return err
	}
	defer b.room.give(hold)
	buf := make([]byte, hold)
	if size > partSize {
		return b.putParts(ctx, key, size, r, buf)
	}
	if err := fill(r, buf); err != nil {
		return err
	}
	sum := digest(buf)
	return b.retry(ctx, func(a *attempt) error {
		b.n.puts.Add(1)
		_, err := b.core.PutObject(a, b.opt.Bucket, b.opt.Prefix+key, b.sending(a, buf), size, "", sum, minio.PutObjectOptions{DisableContentSha256: true})
		return err
	})
}

func fill(r io.Reader, buf []byte) error {
	_, err := io.ReadFull(r, buf)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.Wrap(fault.Invalid, "an object is shorter than announced", err)
	}
	return err
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// sending is a body that tells that it moves.
type sending struct {
	bytes.Reader
	b *Bucket
	a *attempt
}

func (b *Bucket) sending(a *attempt, data []byte) *sending {
	s := &sending{b: b, a: a}
	s.Reset(data)
	return s
}

func (s *sending) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.a.alive()
	s.b.n.sent.Add(int64(n))
	return n, err
}

// WriteTo hides that of bytes.Reader, which would say nothing on its way.
func (s *sending) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{s})
}

// putParts stores an object in parts. What is left of it, should it fail, is removed, or
// else by Abandon.
func (b *Bucket) putParts(ctx context.Context, key string, size int64, r io.Reader, buf []byte) error {
	var upload string
	err := b.retry(ctx, func(a *attempt) (err error) {
		b.n.puts.Add(1)
		upload, err = b.core.NewMultipartUpload(a, b.opt.Bucket, b.opt.Prefix+key, minio.PutObjectOptions{})
		return err
	})
	if err != nil {
		return err
	}
	parts, err := b.sendParts(ctx, key, upload, size, r, buf)
	if err == nil {
		err = b.complete(ctx, key, upload, size, parts)
	}
	if err != nil {
		b.abort(context.WithoutCancel(ctx), key, upload)
	}
	return err
}

func (b *Bucket) sendParts(ctx context.Context, key, upload string, size int64, r io.Reader, buf []byte) (parts []minio.CompletePart, err error) {
	for left := size; left > 0; left -= int64(len(buf)) {
		buf = buf[:min(left, partSize)]
		if err := fill(r, buf); err != nil {
			return nil, err
		}
		var part minio.ObjectPart
		sum, number := digest(buf), len(parts)+1
		err := b.retry(ctx, func(a *attempt) (err error) {
			b.n.puts.Add(1)
			part, err = b.core.PutObjectPart(a, b.opt.Bucket, b.opt.Prefix+key, upload, number, b.sending(a, buf), int64(len(buf)),
				minio.PutObjectPartOptions{Sha256Hex: sum, DisableContentSha256: true})
			return err
		})
		if err != nil {
			return nil, err
		}
		parts = append(parts, minio.CompletePart{PartNumber: number, ETag: part.ETag})
	}
	return parts, nil
}

// complete makes an object of the parts. If it is told that there is no such upload, an
// earlier try may have done it, whose answer was lost.
func (b *Bucket) complete(ctx context.Context, key, upload string, size int64, parts []minio.CompletePart) error {
	return b.retry(ctx, func(a *attempt) error {
		b.n.puts.Add(1)
		_, err := b.core.CompleteMultipartUpload(a, b.opt.Bucket, b.opt.Prefix+key, upload, parts, minio.PutObjectOptions{})
		var e minio.ErrorResponse
		if errors.As(err, &e) && e.Code == minio.NoSuchUpload {
			a.alive()
			info, missing := b.core.StatObject(a, b.opt.Bucket, b.opt.Prefix+key, minio.StatObjectOptions{})
			if missing == nil && info.Size == size {
				return nil
			}
		}
		return err
	})
}

func (b *Bucket) abort(ctx context.Context, key, upload string) {
	a := b.begin(ctx)
	defer a.end()
	if err := b.core.AbortMultipartUpload(a, b.opt.Bucket, b.opt.Prefix+key, upload); err != nil {
		b.opt.Log.Info("the parts of an object that was not finished stay for now", "key", key, "err", err)
	}
}
