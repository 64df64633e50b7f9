package main

import (
	"bufio"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// limitMemory tells the garbage collector how much memory there is, unless GOMEMLIMIT
// says so already: three quarters of what the machine or its container may use. Below
// that it collects as always; near it, rather more often than be killed.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit := min(machineMemory(), containerMemory())
	if limit < math.MaxInt64 {
		debug.SetMemoryLimit(limit / 4 * 3)
	}
}

// machineMemory returns the bytes of memory of the machine, or MaxInt64 if unknown.
func machineMemory() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return math.MaxInt64
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			if err == nil && n > 0 {
				return n << 10
			}
		}
	}
	return math.MaxInt64
}

// containerMemory returns the limit of the control group, or MaxInt64 if there is none.
func containerMemory() int64 {
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 {
			return n
		}
	}
	return math.MaxInt64
}
