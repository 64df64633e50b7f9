//go:build !race

package crash

// effort divides the number of runs.
const effort = 1
