//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package main

// lockFolder does nothing where folders cannot be locked.
func lockFolder(string) (free func(), err error) { return func() {}, nil }
