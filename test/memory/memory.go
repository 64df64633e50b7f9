// Package memory holds code that reads what others wrote to the memory it may ask for.
package memory

import (
	"runtime/metrics"
	"testing"
)

// slack is for what other goroutines of the process ask for meanwhile.
const slack = 1 << 20

// Bounded runs fn and fails the test if the process asked for more than limit bytes, and a
// megabyte, meanwhile, whether or not they were freed again. It finds lengths that are
// believed before the bytes are there, not a few bytes too many.
func Bounded(t testing.TB, limit int, fn func()) {
	t.Helper()
	before := asked()
	fn()
	if got := asked() - before; got > uint64(limit)+slack {
		t.Fatalf("%d bytes of memory were asked for, %d are allowed", got, limit)
	}
}

// asked returns how many bytes the process has ever asked for.
func asked() uint64 {
	s := [1]metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s[:])
	return s[0].Value.Uint64()
}
