// Package memory holds code that reads what others wrote to the memory it may ask for.
package memory

import (
	"runtime/metrics"
	"testing"
)

// slack is for what other goroutines of the process ask for meanwhile.
const slack = 1 << 20

// looks is how often Bounded measures before it believes what it sees.
const looks = 3

// Bounded runs fn and fails the test if the process asked for more than limit bytes, and a
// megabyte, meanwhile, whether or not they were freed again. It finds lengths that are
// believed before the bytes are there, not a few bytes too many.
//
// What fn asks for it asks for every time, and what other goroutines ask for it does not:
// fn runs again before the test fails, so it has to be a thing that can be done again. What
// can not is for Once.
func Bounded(t testing.TB, limit int, fn func()) {
	t.Helper()
	got := during(fn)
	for i := 1; i < looks && got > uint64(limit)+slack; i++ {
		got = min(got, during(fn))
	}
	judge(t, got, limit)
}

// Once is Bounded for what can be done only once.
func Once(t testing.TB, limit int, fn func()) {
	t.Helper()
	judge(t, during(fn), limit)
}

func during(fn func()) uint64 {
	before := asked()
	fn()
	return asked() - before
}

func judge(t testing.TB, got uint64, limit int) {
	t.Helper()
	if got > uint64(limit)+slack {
		t.Fatalf("%d bytes of memory were asked for, %d are allowed", got, limit)
	}
}

// asked returns how many bytes the process has ever asked for.
func asked() uint64 {
	s := [1]metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s[:])
	return s[0].Value.Uint64()
}
