package engine

import "context"

type foreseen struct{}

// Foresee returns a context whose Update is going to ask for these keys. An engine that is
// not on this machine reads them together, before the Update's turn comes, instead of one
// after another while all others wait. It changes nothing else: keys that are foreseen may
// be left alone, and others asked for.
func Foresee(ctx context.Context, keys [][]byte) context.Context {
	return context.WithValue(ctx, foreseen{}, keys)
}

// Foreseen returns the keys that Foresee was given.
func Foreseen(ctx context.Context) [][]byte {
	keys, _ := ctx.Value(foreseen{}).([][]byte)
	return keys
}
