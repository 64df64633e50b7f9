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

// family returns a process and all that descend from it.
func family(pid int) ([]int, error) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		return nil, fault.New(fault.Unsupported, "memory and processor time can be read only where there is a /proc")
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/stat", pid)); err != nil {
		return nil, noProcess(pid)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)); err != nil {
		return searchFamily(pid)
	}
	all := []int{pid}
	for i := 0; i < len(all); i++ { // by generation
		threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", all[i]))
		for _, t := range threads {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", all[i], t.Name()))
			for _, f := range bytes.Fields(b) {
				child, _ := strconv.Atoi(string(f))
				all = append(all, child)
			}
		}
	}
	return all, nil
}

// searchFamily is family for kernels that do not list children: it reads all processes.
func searchFamily(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	parents := map[int]int{}
	for _, path := range stats {
		id, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parents[id] = readStat(id).parent
	}
	var all []int
	for id := range parents {
		if descends(parents, id, pid) {
			all = append(all, id)
		}
	}
	return all, nil
}

// readStat reads one process; one that is gone has used nothing.
func readStat(pid int) process {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	p, _ := parseStat(b)
	return p
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

func descends(parents map[int]int, p, from int) bool {
	for range 64 {
		if p == from {
			return true
		}
		if p <= 1 {
			return false
		}
		p = parents[p]
	}
	return false
}

// ProcessorTime returns the processor time that a process and all that descend from it
// have used, those that have ended too.
func ProcessorTime(pid int) (time.Duration, error) {
	all, err := family(pid)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, id := range all {
		sum += ownTime(id) + readStat(id).children
	}
	return sum, nil
}

// ownTime returns the processor time of one process without its children.
func ownTime(pid int) time.Duration {
	if exact, ok := processClock(pid); ok {
		return exact
	}
	return readStat(pid).own
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
	all, err := family(pid)
	if err != nil {
		return memory{}, err
	}
	var m memory
	for _, p := range all {
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
