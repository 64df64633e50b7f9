//go:build race

package pebble

// effort divides the number of runs: the race detector makes each many times slower.
const effort = 8
