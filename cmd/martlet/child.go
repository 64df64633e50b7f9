package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// childPause is how long a process that has ended stays away.
const childPause = 10 * time.Second

// child is a process that this one keeps running: it is started again when it ends, and
// ends with this one, however that ends.
type child struct {
	name string
	make func() *exec.Cmd // anew for each start
	out  io.Writer        // for what it says, line by line under its name
	log  *slog.Logger
	stop os.Signal // that ends it in order

	mu     sync.Mutex
	now    *exec.Cmd     // running, else nil
	ended  chan struct{} // closed when now has
	closed bool
	said   string // last line
}

// start starts the process. Its standard input is a pipe that nobody writes to: it ends when
// this process does. The lines of its standard output go to lines, if that is not nil.
func (c *child) start(lines func(string)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errors.New("it is being stopped")
	}
	cmd := c.make()
	outR, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, outR.Close(), outW.Close())
	}
	if _, err := cmd.StdinPipe(); err != nil {
		return errors.Join(err, outR.Close(), outW.Close(), errR.Close(), errW.Close())
	}
	cmd.Stdout, cmd.Stderr = outW, errW
	started, ended, heard := make(chan error, 1), make(chan struct{}), make(chan struct{})
	go func() {
		// The system watches the thread that has started a process, not the program.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		outW.Close()
		errW.Close()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			select {
			case <-heard:
			case <-time.After(time.Second): // its own children may still have something to say
			}
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		return errors.Join(err, outR.Close(), errR.Close())
	}
	c.now, c.ended = cmd, ended
	var ears sync.WaitGroup
	ears.Go(func() { c.relay(errR, nil) })
	ears.Go(func() { c.relay(outR, lines) })
	go func() { ears.Wait(); close(heard) }()
	return nil
}

// relay passes lines on under the name of the process.
func (c *child) relay(from io.ReadCloser, lines func(string)) {
	defer from.Close()
	for s := bufio.NewReader(from); ; {
		line, err := s.ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			if lines != nil {
				lines(line)
			} else {
				c.mu.Lock()
				c.said = line
				c.mu.Unlock()
				fmt.Fprintf(c.out, "%s | %s\n", c.name, line)
			}
		}
		if err != nil {
			return
		}
	}
}

// pid is 0 while it does not run.
func (c *child) pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil {
		return 0
	}
	return c.now.Process.Pid
}

// died is closed when the process that runs now has ended.
func (c *child) died() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// last is the last line that it said.
func (c *child) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said
}

// keep starts the process again whenever it has ended, until ctx ends.
func (c *child) keep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.died():
		}
		if ctx.Err() != nil {
			return
		}
		c.log.Warn("a process has ended; it is started again", "process", c.name, "in", childPause, "state", c.state())
		select {
		case <-ctx.Done():
			return
		case <-time.After(childPause):
		}
		if err := c.start(func(string) {}); err != nil && ctx.Err() == nil {
			c.log.Error("a process cannot be started again", "process", c.name, "err", err)
			return
		}
		c.log.Info("a process is started again", "process", c.name, "pid", c.pid())
	}
}

// state says how the process ended.
func (c *child) state() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil || c.now.ProcessState == nil {
		return ""
	}
	return c.now.ProcessState.String()
}

// end asks the process to end, and kills it when patience is over. It is not started again.
func (c *child) end(patience time.Duration) {
	c.mu.Lock()
	c.closed = true
	now, ended := c.now, c.ended
	c.mu.Unlock()
	if now == nil {
		return
	}
	_ = now.Process.Signal(c.stop) // it may have ended
	select {
	case <-ended:
	case <-time.After(patience):
		_ = now.Process.Kill()
		<-ended
	}
}

// processUser is another user whose process it is to be.
type processUser struct {
	uid, gid int
	groups   []uint32
}
