package engine

import "context"

type freeing struct{}

// Freeing returns a context for updates that make room or lead to it, such as the removal
// of records: on a disk that is nearly full they are still carried out when others are
// refused.
func Freeing(ctx context.Context) context.Context { return context.WithValue(ctx, freeing{}, true) }

// IsFreeing tells whether a context is one of Freeing.
func IsFreeing(ctx context.Context) bool { return ctx.Value(freeing{}) != nil }
