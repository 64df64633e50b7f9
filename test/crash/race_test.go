//go:build race

package crash

// effort divides the number of runs: the race detector makes each many times slower.
const effort = 8
