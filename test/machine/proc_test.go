//go:build linux

package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// descriptors counts those that a process has open.
func descriptors(t *testing.T, pid int) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(t, err)
	return len(list)
}

// limitDescriptors sets how many a running process may have open, as far as it may.
func limitDescriptors(t *testing.T, pid int, n uint64) {
	t.Helper()
	var limit unix.Rlimit
	must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit))
	limit.Cur = min(n, limit.Max)
	must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil))
}

// tick is the unit of the times in /proc, on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// processor is the processor time a process has used.
func processor(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * tick
}

// group is a control group of the kernel that holds one server.
type group struct {
	dir   string
	files map[string]string // by what they hold
}

// newGroup makes one that limits "pids" or "memory", or skips the test where the kernel
// lets us make none.
func newGroup(t *testing.T, what string) group {
	t.Helper()
	v1 := group{filepath.Join("/sys/fs/cgroup", what), map[string]string{
		"pids": "pids.max", "pids now": "pids.current", "memory": "memory.limit_in_bytes", "memory now": "memory.usage_in_bytes",
	}}
	v2 := group{"/sys/fs/cgroup", map[string]string{
		"pids": "pids.max", "pids now": "pids.current", "memory": "memory.max", "memory now": "memory.current",
	}}
	for _, g := range []group{v1, v2} {
		g.dir = filepath.Join(g.dir, fmt.Sprintf("martlet-test-%d", os.Getpid()))
		if os.Mkdir(g.dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { within(t, "the control group is empty", func() bool { return os.Remove(g.dir) == nil }) })
		if _, err := os.Stat(filepath.Join(g.dir, g.files[what])); err == nil {
			return g
		}
	}
	t.Skipf("no control group can be made here, so running out of %s is NOT tested", what)
	return group{}
}

func (g group) set(t *testing.T, what string, n int64) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(g.dir, g.files[what]), []byte(fmt.Sprint(n)), 0o644))
}

func (g group) now(t *testing.T, what string) int64 {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(g.dir, g.files[what+" now"]))
	must(t, err)
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	must(t, err)
	return n
}

func (g group) take(t *testing.T, pid int) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(g.dir, "cgroup.procs"), []byte(fmt.Sprint(pid)), 0o644))
}
