package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// bootID names this start of the system; "" if it cannot be read.
func bootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// fileID tells a file from a copy of it.
func fileID(about os.FileInfo) string {
	s, ok := about.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d %d", s.Dev, s.Ino)
}
