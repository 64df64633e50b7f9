package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// sink is Postfix's smtp-sink, which takes everything and keeps nothing.
type sink struct {
	addr  string
	cmd   *exec.Cmd
	taken atomic.Int64
	last  atomic.Int64 // nanoseconds, when the last message was taken
}

func newSink() (*sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return &sink{addr: l.Addr().String()}, nil
}

// start runs the program, which counts on its standard output.
func (s *sink) start() error {
	s.cmd = exec.Command("smtp-sink", "-c", "-u", "nobody", s.addr, "1000")
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("smtp-sink: %w (Debian: apt-get install postfix)", err)
	}
	go s.count(out)
	for range 200 {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			return c.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("smtp-sink does not listen on %s", s.addr)
}

var counter = regexp.MustCompile(`mesg=(\d+)`)

func (s *sink) count(out io.Reader) {
	b := make([]byte, 64<<10)
	for {
		n, err := out.Read(b)
		if all := counter.FindAllSubmatch(bytes.TrimRight(b[:n], "0123456789"), -1); len(all) > 0 || n > 0 {
			if all = counter.FindAllSubmatch(b[:n], -1); len(all) > 0 {
				if taken, _ := strconv.ParseInt(string(all[len(all)-1][1]), 10, 64); taken > s.taken.Load() {
					s.taken.Store(taken)
					s.last.Store(time.Now().UnixNano())
				}
			}
		}
		if err != nil {
			return
		}
	}
}

// wait waits for so many messages and returns how long they took from a moment on.
func (s *sink) wait(began time.Time, messages int) (time.Duration, error) {
	for still := time.Now(); s.taken.Load() < int64(messages); time.Sleep(2 * time.Millisecond) {
		if last := time.Unix(0, s.last.Load()); last.After(still) {
			still = last
		}
		if time.Since(still) > time.Minute {
			return 0, fmt.Errorf("the sink has %d of %d messages and gets no more", s.taken.Load(), messages)
		}
	}
	return time.Unix(0, s.last.Load()).Sub(began), nil
}

func (s *sink) stop() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}
