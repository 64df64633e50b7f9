//go:build !unix

package main

// becomeOwner has nothing to give up.
func becomeOwner(string) error { return nil }
