package store

import (
	"context"
	"io"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Open returns n bytes of a message from off on; n < 0 means to the end. The range
// is cut to what there is. Reading costs up to five chunks of 64 KB in memory whatever n.
// A message expunged after Open can be read to its end. Faults: NotFound; Read may
// fail with Corrupt.
func (a *Account) Open(ctx context.Context, id mail.MessageID, off, n int64) (io.ReadCloser, error) {
	var head []byte
	var f Facts
	var body kept
	err := a.View(ctx, func(s *Snapshot) (err error) {
		if f, err = s.Facts(id); err != nil {
			return err
		}
		if body, err = s.body(id, &f); err != nil {
			return err
		}
		if off < f.head {
			head, err = s.Head(head[:0], id)
		} else {
			head = make([]byte, f.head) // its length counts, its bytes are not read
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return openJoined(ctx, a.store, head, body, f.Size, off, n)
}
