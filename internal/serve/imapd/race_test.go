//go:build race

package imapd

// slack multiplies the bounds on memory: the race detector takes its own share.
const slack = 3
