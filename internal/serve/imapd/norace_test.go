//go:build !race

package imapd

// slack multiplies the bounds on memory.
const slack = 1
