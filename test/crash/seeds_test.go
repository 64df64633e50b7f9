// Package crash takes the power from the store, and kills the server, in the middle
// of their work, and looks whether all that was acknowledged is there afterwards:
// each message exactly once, none by half, nothing that verify complains of.
//
// The power cuts run on a file system in memory that forgets what was not synced.
// The kills are of the real program and need MARTLET_PEERS=1. MARTLET_CRASH_SEEDS,
// MARTLET_R1 and its like make the runs longer; `make crash` sets them.
package crash

import (
	"os"
	"strconv"
	"testing"
)

// number returns the number in an environment variable, or the short form's.
func number(t *testing.T, env string, short int) int {
	s := os.Getenv(env)
	if s == "" {
		return short
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	return n
}
