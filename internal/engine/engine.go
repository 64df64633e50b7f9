// Package engine is the contract between the record layer and whatever keeps its
// bytes: ordered keys in shards, and blobs named by content.
//
// It knows nothing of mail. An engine is a small package that exports Open and
// passes enginetest; the limits below are those of the weakest engine we may ever
// want and hold on every one of them, so that no layer above can come to depend on
// the strength of one.
package engine

import (
	"context"
	"io"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Limits that every engine enforces with a fault of kind TooLarge.
const (
	MaxKey    = 1 << 10   // bytes in a key, at least one
	MaxValue  = 100 << 10 // bytes in a value
	MaxUpdate = 10 << 20  // bytes of keys and values written by one Update
)

// Shard is one independent, ordered key space: one for an account, one for the
// directory, some for the queue. Nothing is atomic across shards.
type Shard uint64

// Engine keeps shards. All methods may be called from many goroutines.
type Engine interface {
	// View runs fn on a consistent snapshot of the shard. View returns nil, or an error
	// of fn, only once all that fn could read is durable, so that a caller may tell the
	// world what it has seen; inside fn it may not be durable yet. fn may be run more than once;
	// what its last run has seen counts. Views never wait for Updates and may run inside
	// nothing.
	View(ctx context.Context, shard Shard, fn func(Reader) error) error

	// Update runs fn alone on the shard and commits what it wrote, atomically and
	// in order, when fn returns nil. It returns nil only when the commit is
	// durable. The shard is free for the next Update before that: many Updates of
	// one shard share a disk sync. An error of kind Unknown means that the commit
	// may or may not come to be; any other error means that nothing was written. An error of
	// fn is returned only once all that fn could read is durable, as by View: it may be
	// about that. fn may be run more than once and must have no effect but through the Writer.
	Update(ctx context.Context, shard Shard, fn func(Writer) error) error

	// Watch returns a channel of capacity one that receives a tick some time after
	// each durable change of the shard, by whatever process; ticks coalesce. stop
	// ends it.
	Watch(shard Shard) (ticks <-chan struct{}, stop func())

	// Shards returns the shards that have a record, in order, at the cost of a Get or two
	// for each.
	Shards(ctx context.Context) ([]Shard, error)

	// Blobs returns the engine's own blob store.
	Blobs() Blobs

	// Size returns about how many bytes the engine occupies on disk, or 0.
	Size() int64

	// Close waits for calls under way and releases everything. Calls after it fail
	// with kind Closed.
	Close() error
}

// Reader reads one shard as of one moment.
type Reader interface {
	// Get returns the value of key; ok is false if there is none. The value is
	// valid until View or Update returns and must not be changed.
	Get(key []byte) (value []byte, ok bool, err error)

	// Scan yields the keys in [from, to) in order, or in reverse. A nil to means
	// the end of the shard. fn returning false ends the scan; key and value are
	// valid only during the call.
	Scan(from, to []byte, reverse bool, fn func(key, value []byte) bool) error
}

// Writer reads and writes one shard. It reads its own writes.
type Writer interface {
	Reader
	Put(key, value []byte) error
	Delete(key []byte) error
	// DeleteRange deletes the keys in [from, to). A nil to means the end.
	DeleteRange(from, to []byte) error
}

// Blobs keeps immutable bytes by name.
type Blobs interface {
	// Put stores size bytes read from r under name, unless the name is there
	// already; then it only makes the blob young again. A blob whose Put returned
	// nil is durable at the latest when any Update that begins afterwards is. r is
	// read at most once and may be left unread. needs are other blobs without which this
	// one is of no use; the engine only keeps their names, for Needs.
	Put(ctx context.Context, name mail.BlobRef, size int64, r io.Reader, needs ...mail.BlobRef) error

	// Needs yields the blobs that need others, with the time of their last Put, in order
	// of name.
	Needs(ctx context.Context, fn func(name mail.BlobRef, at time.Time, needs []mail.BlobRef) bool) error

	// Open returns n bytes of the blob from off on; n < 0 means to the end. A
	// missing blob is NotFound, a range outside it Invalid.
	Open(ctx context.Context, name mail.BlobRef, off, n int64) (io.ReadCloser, error)

	// Delete removes the blob if it was last Put before the given time, and tells
	// whether it did. It never removes one that a Put running beside it relies on.
	Delete(ctx context.Context, name mail.BlobRef, before time.Time) (bool, error)

	// List yields every blob with the time of its last Put (to the accuracy at
	// which Put refreshes it, an hour) and its stored size, in order of name.
	List(ctx context.Context, fn func(name mail.BlobRef, at time.Time, size int64) bool) error
}
