// Package process runs servers that are not ours in the foreground, for the packages
// that know each of them.
//
// A server is a process group: what its master starts ends with it at the latest. The
// package knows nothing of configuration or protocols.
package process

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// patience is how long a server may take until it answers.
const patience = 30 * time.Second

// Process is a server that was started and has not been stopped.
type Process struct {
	PID  int // of the master
	cmd  *exec.Cmd
	done chan struct{} // closed when the master has ended
	err  error         // how
}

// Start runs cmd in a process group of its own and returns when ready says so. A server
// that ends before, or does not get ready within half a minute, is an error with what it
// wrote.
func Start(cmd *exec.Cmd, ready func() bool) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = time.Second // its children may have these, too
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{PID: cmd.Process.Pid, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	for began := time.Now(); time.Since(began) < patience; {
		if p.Ended(20 * time.Millisecond) {
			p.Kill()
			return nil, fmt.Errorf("ended at once: %v\n%s", p.err, said.String())
		}
		if ready() {
			return p, nil
		}
	}
	p.Kill()
	return nil, fmt.Errorf("does not answer\n%s", said.String())
}

// Signal tells the master something.
func (p *Process) Signal(s syscall.Signal) { p.cmd.Process.Signal(s) }

// Ended tells whether the master has ended, for which it waits at most so long.
func (p *Process) Ended(within time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(within):
		return false
	}
}

// Kill ends whoever is left of the group, and waits for the master.
func (p *Process) Kill() {
	syscall.Kill(-p.PID, syscall.SIGKILL)
	<-p.done
}

// FreePorts returns n ports that nobody listens on.
func FreePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // held until all are found, so that they differ
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	return ports, nil
}
