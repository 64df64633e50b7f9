//go:build !linux

package main

import "time"

// elapsed returns a clock that nobody sets: how long it is since then. While the
// machine sleeps it may stand still; then what was begun before is refused where it is written.
func elapsed() func() time.Duration {
	begin := time.Now()
	return func() time.Duration { return time.Since(begin) }
}
