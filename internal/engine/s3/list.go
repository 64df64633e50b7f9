package s3

import (
	"context"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

// Remove removes an object.
func (b *Bucket) Remove(ctx context.Context, key string) error {
	return b.retry(ctx, func(a *attempt) error {
		b.n.removes.Add(1)
		err := b.core.RemoveObject(a, b.opt.Bucket, b.opt.Prefix+key, minio.RemoveObjectOptions{})
		if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
			return nil
		}
		return err
	})
}

// List yields the objects whose keys begin with prefix, in order. Where it is interrupted it
// goes on behind the last one.
func (b *Bucket) List(ctx context.Context, prefix string, fn func(key string, at time.Time, size int64) bool) error {
	after, ended := "", false
	for {
		from := after
		err := b.retry(ctx, func(a *attempt) error {
			b.n.lists.Add(1)
			for o := range b.core.ListObjectsIter(a, b.opt.Bucket, minio.ListObjectsOptions{Prefix: b.opt.Prefix + prefix, Recursive: true, StartAfter: from}) {
				if o.Err != nil {
					if after > from {
						return nil // it got on: begin again from there, with all patience
					}
					return o.Err
				}
				a.rest()
				if !fn(strings.TrimPrefix(o.Key, b.opt.Prefix), o.LastModified, o.Size) {
					ended = true
					return nil
				}
				after = o.Key
				a.alive()
			}
			ended = a.Err() == nil
			if !ended && after == from {
				return a.Err()
			}
			return nil
		})
		if err != nil || ended {
			return err
		}
	}
}

// Abandon removes the parts of objects that were begun before the given time and never
// finished, and tells of how many.
func (b *Bucket) Abandon(ctx context.Context, before time.Time) (n int, err error) {
	err = b.retry(ctx, func(a *attempt) error {
		b.n.lists.Add(1)
		for u := range b.core.Client.ListIncompleteUploads(a, b.opt.Bucket, b.opt.Prefix, true) {
			if u.Err != nil {
				return u.Err
			}
			a.alive()
			if !u.Initiated.Before(before) {
				continue
			}
			if err := b.core.AbortMultipartUpload(a, b.opt.Bucket, u.Key, u.UploadID); err != nil {
				return err
			}
			n++
		}
		return a.Err()
	})
	return n, err
}
