package engine

import (
	"context"
	"time"
)

// Shared is an engine on whose shards several processes (nodes) work at once.
type Shared interface {
	Engine

	// Foreign has fn called when another process has changed the shard: before fn of any
	// View or Update of this process can see the change, and soon after the change even if
	// none comes. Calls coalesce. fn must return at once and not call the engine. It is
	// called from any goroutine, but never twice at a time for one Foreign. stop ends it; a
	// call that is under way may still come.
	Foreign(shard Shard, fn func()) (stop func())
}

type patience struct{}

// Patient returns a context whose calls wait for an engine that cannot be reached, say
// while another machine takes over, no longer than d before they fail with kind
// Unavailable. A commit whose outcome is in doubt is cleared up for as long as the engine
// has been told at Open, whatever d is: giving up on it makes duplicates.
func Patient(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, patience{}, d)
}

// Patience returns what Patient was given, or usual.
func Patience(ctx context.Context, usual time.Duration) time.Duration {
	if d, ok := ctx.Value(patience{}).(time.Duration); ok {
		return d
	}
	return usual
}
