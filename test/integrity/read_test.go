package integrity

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
)

// content is all that a store says: records by shard and key, blobs by name.
type content map[string]string

// broken stands where reading failed: nothing is claimed.
const broken = "\x00cannot be read"

// all reads every record and every blob. failed says that a scan did not come to its
// end, so that what is missing is not denied.
func (h *floors) all(ctx context.Context, shards []engine.Shard) (c content, failed bool) {
	c = content{}
	for _, id := range shards {
		err := h.engine.View(ctx, id, func(r engine.Reader) error {
			return r.Scan(nil, nil, false, func(k, v []byte) bool {
				c[fmt.Sprintf("%d/%q", id, k)] = string(v)
				return true
			})
		})
		failed = failed || err != nil
	}
	var names []mail.BlobRef
	err := h.engine.Blobs().List(ctx, func(name mail.BlobRef, _ time.Time, size int64) bool {
		names = append(names, name)
		return true
	})
	failed = failed || err != nil
	for _, name := range names {
		c[fmt.Sprintf("blob %x", name)] = h.blob(ctx, name)
	}
	return c, failed
}

func (h *floors) blob(ctx context.Context, name mail.BlobRef) string {
	r, err := h.engine.Blobs().Open(ctx, name, 0, -1)
	if err != nil {
		return broken
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return broken
	}
	return string(b)
}

// shards are those that a built house has.
func (h *floors) shards(ctx context.Context) ([]engine.Shard, error) {
	list := []engine.Shard{store.DirectoryShard, store.QueueShard, 2}
	ids, err := h.store.Accounts(ctx)
	for _, id := range ids {
		list = append(list, 1<<32+engine.Shard(id))
	}
	return list, err
}

// verify reads everything as the command does and returns what is wrong.
func (h *floors) verify(ctx context.Context) (problems []string) {
	note := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if _, err := h.engine.Check(ctx, func(file, what string) { note("%s %s", file, what) }); err != nil {
		note("files: %v", err)
	}
	if err := h.directory.Verify(ctx, func(what string) { note("directory: %s", what) }, func(mail.AccountID) {}); err != nil {
		note("directory: %v", err)
	}
	if _, err := h.queue.Verify(ctx, func(id queue.ID, what string) { note("queue %v: %s", id, what) }); err != nil {
		note("queue: %v", err)
	}
	if _, err := h.store.Verify(ctx, func(p store.Problem) { note("%v %s %d: %s", p.Account, p.Mailbox, p.UID, p.What) }, nil); err != nil {
		note("store: %v", err)
	}
	return problems
}
