package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// memory is what a process and all that descend from it hold, in bytes.
type memory struct {
	rss int64 // resident
	pss int64 // resident, a page that n processes have in common counted as 1/n in each
}

// processMemory reads the memory of a process and its descendants from /proc.
func processMemory(pid int) (memory, error) {
	parents, err := parentsOf()
	if err != nil {
		return memory{}, err
	}
	var m memory
	for p := range parents {
		if !descends(parents, p, pid) {
			continue
		}
		one, err := rollup(p)
		if err != nil && p == pid {
			return m, fault.Wrap(fault.Unavailable, "cannot read the memory of process "+strconv.Itoa(pid), err)
		}
		m.rss += one.rss
		m.pss += one.pss
	}
	if m.rss == 0 {
		return m, fault.Newf(fault.NotFound, "there is no process %d", pid)
	}
	return m, nil
}

// parentsOf returns the parent of each process.
func parentsOf() (map[int]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		return nil, fault.Wrap(fault.Unsupported, "memory can be read only where there is a /proc", err)
	}
	parents := map[int]int{}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // gone meanwhile
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		_, rest, ok := bytes.Cut(b, []byte(") ")) // the name before it may hold anything but this
		f := bytes.Fields(rest)
		if !ok || len(f) < 2 {
			continue
		}
		parents[pid], _ = strconv.Atoi(string(f[1]))
	}
	return parents, nil
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

// settle is the time a server is given before its memory is read.
const settle = 2 * time.Second

// runIdleMemory opens sessions that have INBOX selected and wait in IDLE, and reports
// what memory the server's processes have more than before.
func runIdleMemory(ctx context.Context, r *runner) error {
	const what = "idle connections"
	before, err := processMemory(r.target.PID)
	if err != nil {
		return err
	}
	var conns []*imapConn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	var s samples
	res := Result{Scenario: "idle-memory", Connections: r.opt.Idle, Base: before.pss}
	start := time.Now()
	for i := range r.opt.Idle {
		if err := ctx.Err(); err != nil {
			return err
		}
		began := time.Now()
		c, err := dialIMAPBuffered(ctx, r.target, 4096)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i+1, err)
		}
		conns = append(conns, c)
		if err := c.idle(); err != nil {
			return fmt.Errorf("connection %d: %w", i+1, err)
		}
		s.add(time.Since(began))
		if i%20 == 0 {
			r.opt.Progress(what, i, r.opt.Idle)
		}
	}
	r.opt.Progress(what, r.opt.Idle, r.opt.Idle)
	s.fill(&res, time.Since(start))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settle):
	}
	after, err := processMemory(r.target.PID)
	if err != nil {
		return err
	}
	res.RSS, res.PSS = after.rss-before.rss, after.pss-before.pss
	r.report(res)
	return nil
}

// idle selects INBOX and begins to wait (RFC 2177).
func (c *imapConn) idle() error {
	if err := c.do("SELECT INBOX", nil); err != nil {
		return err
	}
	c.tag++
	c.buf = fmt.Appendf(c.buf[:0], "b%d IDLE\r\n", c.tag)
	return c.goAhead()
}
