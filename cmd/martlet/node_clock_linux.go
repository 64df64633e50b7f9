package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// elapsed returns a clock that nobody sets and that goes on while the machine sleeps: how long
// it is since then.
func elapsed() func() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		begin := time.Now()
		return func() time.Duration { return time.Since(begin) }
	}
	begin := t.Nano()
	return func() time.Duration {
		var t unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // it could be read before
		return time.Duration(t.Nano() - begin)
	}
}
