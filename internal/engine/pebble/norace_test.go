//go:build !race

package pebble

// effort divides the number of runs.
const effort = 1
