//go:build !unix

package main

import "net"

func storeFiles() int { return 0 }

func enoughFiles() error { return nil }

func scarce(net.Conn) bool { return false }

// descriptors are not known here.
func descriptors() uint64 { return 0 }
