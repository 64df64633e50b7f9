package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// process is what the kernel says of one.
type process struct {
	parent   int
	own      time.Duration // processor time, user and system, of all its threads
	children time.Duration // of children that have ended
}

// jiffy is the unit of times in /proc/PID/stat, on every Linux.
const jiffy = 10 * time.Millisecond

// processes reads all processes from /proc.
func processes() (map[int]process, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		return nil, fault.Wrap(fault.Unsupported, "memory and processor time can be read only where there is a /proc", err)
	}
	all := map[int]process{}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // gone meanwhile
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if p, ok := parseStat(b); ok {
			all[pid] = p
		}
	}
	return all, nil
}

// parseStat reads the line of /proc/PID/stat (proc_pid_stat(5)).
func parseStat(b []byte) (process, bool) {
	i := bytes.LastIndex(b, []byte(") ")) // the name before it may hold anything
	if i < 0 {
		return process{}, false
	}
	f := bytes.Fields(b[i+2:])
	if len(f) < 15 {
		return process{}, false
	}
	number := func(i int) time.Duration {
		n, _ := strconv.ParseInt(string(f[i]), 10, 64)
		return time.Duration(n)
	}
	return process{
		parent:   int(number(1)),
		own:      (number(11) + number(12)) * jiffy,
		children: (number(13) + number(14)) * jiffy,
	}, true
}

func descends(all map[int]process, p, from int) bool {
	for range 64 {
		if p == from {
			return true
		}
		if p <= 1 {
			return false
		}
		p = all[p].parent
	}
	return false
}

// processorTime returns the processor time that a process and all that descend from it
// have used, those that have ended too.
func processorTime(pid int) (time.Duration, error) {
	all, err := processes()
	if err != nil {
		return 0, err
	}
	if _, ok := all[pid]; !ok {
		return 0, noProcess(pid)
	}
	var sum time.Duration
	for id, p := range all {
		if !descends(all, id, pid) {
			continue
		}
		if exact, ok := processClock(id); ok {
			p.own = exact
		}
		sum += p.own + p.children
	}
	return sum, nil
}

func noProcess(pid int) error {
	return fault.Newf(fault.NotFound, "there is no process %d on this machine", pid)
}

// memory is what a process and all that descend from it hold, in bytes.
type memory struct {
	rss int64 // resident
	pss int64 // resident, a page that n processes have in common counted as 1/n in each
}

// processMemory reads the memory of a process and its descendants from /proc.
func processMemory(pid int) (memory, error) {
	all, err := processes()
	if err != nil {
		return memory{}, err
	}
	var m memory
	for p := range all {
		if !descends(all, p, pid) {
			continue
		}
		one, err := rollup(p)
		if err != nil && p == pid {
			return m, fault.Wrap(fault.Unavailable, fmt.Sprintf("cannot read the memory of process %d: run this as its user, or as root", pid), err)
		}
		m.rss += one.rss
		m.pss += one.pss
	}
	if m.rss == 0 {
		return m, noProcess(pid)
	}
	return m, nil
}

// rollup reads one process.
func rollup(pid int) (memory, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return memory{}, err
	}
	defer f.Close()
	var m memory
	for s := bufio.NewScanner(f); s.Scan(); {
		key, rest, _ := strings.Cut(s.Text(), ":")
		kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		switch key {
		case "Rss":
			m.rss = kb << 10
		case "Pss":
			m.pss = kb << 10
		}
	}
	return m, nil
}
