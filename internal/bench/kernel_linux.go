package bench

import (
	"io/fs"
	"net"
	"syscall"
	"time"
	"unsafe"

	"github.com/martlet-mail/martlet/internal/fault"
)

// processClock reads the processor time of a process in nanoseconds, where
// /proc/PID/stat has hundredths of a second (clock_getcpuclockid(3)).
func processClock(pid int) (time.Duration, bool) {
	const scheduled = 2 // CPUCLOCK_SCHED: user and system time of all threads
	var ts syscall.Timespec
	clock := int32(^pid<<3 | scheduled)
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&ts)), 0)
	return time.Duration(ts.Nano()), errno == 0
}

// spare is how many files the client needs besides its connections.
const spare = 64

// allowFiles sees to it that n connections may be open at once.
func allowFiles(n int) error {
	need := uint64(n + spare)
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur >= need {
		return nil
	}
	l.Cur, l.Max = need, max(l.Max, need) // more than the hard limit is root's alone
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fault.Newf(fault.Limited, "%d connections need as many open files: raise the limit with `ulimit -n %d` first", n, need)
	}
	return nil
}

// fileID tells one file from another.
type fileID struct{ device, inode uint64 }

// blocks returns what a file uses of the disk, in bytes.
func blocks(info fs.FileInfo) (fileID, int64) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, info.Size()
	}
	return fileID{uint64(st.Dev), st.Ino}, st.Blocks * 512
}

// prompt is a connection on which a piece of an answer is acknowledged before the next
// is waited for. Otherwise a server that sends an answer in two small pieces may wait
// for up to 40 ms between them, for the client's delayed acknowledgement (tcp(7),
// TCP_QUICKACK): what is to be measured is the server and not that timer. It is for one
// goroutine.
type prompt struct {
	net.Conn
	raw  syscall.RawConn
	more bool // something has been read since the last request
}

func newPrompt(c net.Conn) net.Conn {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return c
	}
	return &prompt{Conn: c, raw: raw}
}

func (p *prompt) Read(b []byte) (int, error) {
	if p.more {
		p.raw.Control(acknowledge)
	}
	p.more = true
	return p.Conn.Read(b)
}

func (p *prompt) Write(b []byte) (int, error) {
	p.more = false
	return p.Conn.Write(b)
}

func acknowledge(fd uintptr) {
	syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
}
