//go:build linux

// Package probe measures how the work of a parser grows with its input. What takes four
// times as long for twice the input is found on small inputs, long before somebody sends a
// large one.
//
// It measures processor time of one thread, so that other work on the machine counts little,
// and takes the best of several tries. What the others take from it still (a cache, a clock
// that is turned down) takes it for a while: a growth is believed when it stays over tries
// that are further and further apart. It knows no parser.
package probe

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a linear parser stays below, with room for caches and chance. A quadratic one
// has 4 and 16.
const (
	mostForTwice = 2.4
	mostForFour  = 6.0
)

const (
	least = 2 * time.Millisecond  // that one measurement takes, repeated as often as that needs
	tries = 40                    // before a growth is believed
	close = 10                    // of them follow one another at once
	pause = 10 * time.Millisecond // before the next, and each time longer by as much
)

// Growth is how much longer twice and four times the input take.
type Growth struct{ Twice, Four float64 }

// Linear fails if the work grows faster than the input: size bytes, twice and four times as
// many. input makes one of about n bytes.
func Linear(t testing.TB, name string, size int, input func(n int) string, work func(in string)) {
	t.Helper()
	g, ok := Grows(size, input, work)
	if !ok {
		t.Errorf("%s: twice the input takes %.1f times as long, four times %.1f", name, g.Twice, g.Four)
	}
}

// Grows measures the growth, and reports whether it is that of linear work.
func Grows(size int, input func(n int) string, work func(in string)) (g Growth, linear bool) {
	runtime.LockOSThread() // whose time is asked for below
	defer runtime.UnlockOSThread()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // or it would be part of the time
	inputs := [3]string{input(size), input(2 * size), input(4 * size)}
	var best [3]time.Duration
	for try := range tries {
		time.Sleep(time.Duration(max(0, try-close)) * pause)
		for i, in := range inputs {
			if d := took(in, work); best[i] == 0 || d < best[i] {
				best[i] = d
			}
		}
		g = Growth{float64(best[1]) / float64(best[0]), float64(best[2]) / float64(best[0])}
		if g.Twice <= mostForTwice && g.Four <= mostForFour {
			return g, true
		}
	}
	return g, false
}

// took is the time of one call, which is made again and again until that can be told.
func took(in string, work func(string)) time.Duration {
	runtime.GC()
	before := threadTime()
	for calls := 1; ; calls++ {
		work(in)
		if all := threadTime() - before; all >= least {
			return all / time.Duration(calls)
		}
	}
}

// threadTime is the processor time of this thread.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(fmt.Sprintf("the time of a thread cannot be asked for: %v", err))
	}
	return time.Duration(ts.Nano())
}
