package store

import (
	"context"
	"sync/atomic"
)

type counterKey struct{}

// Counted returns a context under which the verbs of Account that take a set of any size
// add to n how many messages they have dealt with, as they go.
func Counted(ctx context.Context, n *atomic.Int64) context.Context {
	return context.WithValue(ctx, counterKey{}, n)
}

// dealtWith counts messages under a context of Counted.
func dealtWith(ctx context.Context, messages int) {
	if n, ok := ctx.Value(counterKey{}).(*atomic.Int64); ok {
		n.Add(int64(messages))
	}
}
