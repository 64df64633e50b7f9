package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/martlet-mail/martlet/test/peers/process"
	"github.com/martlet-mail/martlet/test/world/lab"
)

// Program is a server on a host that can be started again. Its log is NAME.log in the
// host's folder.
type Program struct {
	Host *lab.Host
	Name string

	args  []string
	ready func() bool
	run   *process.Process
}

// Start runs it; it is ready when Start returns.
func (p *Program) Start() (err error) {
	shell := []string{"-c", `exec "$@" >>"$0" 2>&1`, filepath.Join(p.Host.Dir, p.Name+".log")}
	p.run, err = process.Start(p.Host.Command("sh", append(shell, p.args...)...), p.ready)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", p.Host.Name, p.Name, err)
	}
	return nil
}

// Kill is kill -9.
func (p *Program) Kill() { p.run.Kill() }

// Signal tells the program and what it has started something.
func (p *Program) Signal(s syscall.Signal) { syscall.Kill(-p.run.PID, s) }

// processes returns the numbers, as the machine itself counts, of a host's processes whose
// command line contains a text.
func processes(h *lab.Host, text string) (pids []int) {
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", h.PID))
	if err != nil {
		return nil
	}
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		if s, err := os.Readlink(dir + "/ns/pid"); err != nil || s != space {
			continue
		}
		line, err := os.ReadFile(dir + "/cmdline")
		if err != nil || !strings.Contains(strings.ReplaceAll(string(line), "\x00", " "), text) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// signal tells all of a host's processes whose command line contains a text something.
func signal(h *lab.Host, text string, s syscall.Signal) error {
	pids := processes(h, text)
	if len(pids) == 0 {
		return fmt.Errorf("%s: nobody runs %q", h.Name, text)
	}
	for _, pid := range pids {
		syscall.Kill(pid, s)
	}
	return nil
}
