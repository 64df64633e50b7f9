package inject

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kind is a call to the system and how it names its file.
type kind struct {
	nr   uintptr
	path int // argument that is a path, behind that which is its directory; -1: the first argument is an open file
}

var kinds = map[string]kind{
	"open": {unix.SYS_OPENAT, 1}, "openat": {unix.SYS_OPENAT, 1}, "write": {unix.SYS_WRITE, -1}, "pwrite64": {unix.SYS_PWRITE64, -1},
	"fsync": {unix.SYS_FSYNC, -1}, "fdatasync": {unix.SYS_FDATASYNC, -1}, "sync_file_range": {unix.SYS_SYNC_FILE_RANGE, -1},
	"renameat": {unix.SYS_RENAMEAT, 3}, "linkat": {unix.SYS_LINKAT, 3}, "unlinkat": {unix.SYS_UNLINKAT, 1},
	"mkdirat": {unix.SYS_MKDIRAT, 1}, "ftruncate": {unix.SYS_FTRUNCATE, -1}, "fallocate": {unix.SYS_FALLOCATE, -1},
	"read": {unix.SYS_READ, -1}, "pread64": {unix.SYS_PREAD64, -1},
}

// What the kernel tells and is told (linux/seccomp.h).
type (
	notice struct {
		id    uint64
		tid   uint32
		flags uint32
		nr    int32
		arch  uint32
		ip    uint64
		args  [6]uint64
	}
	verdict struct {
		id    uint64
		val   int64
		err   int32
		flags uint32
	}
)

// pair returns the two ends of the way by which the listener comes to the test.
func pair() (ours int, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, err
	}
	return fds[0], os.NewFile(uintptr(fds[1]), "inject"), nil
}

// enter is carried out in front of the program.
func enter(how string) error {
	runtime.LockOSThread() // the filter is this thread's, which becomes the program
	words := strings.Fields(how)
	way, err := strconv.Atoi(words[0])
	if err != nil {
		return err
	}
	filter, err := compile(words[1:])
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// Once told, a call waits through signals: the runtime sends some all the time, and a
	// call begun again would be counted again.
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if err := unix.Sendmsg(way, []byte{1}, unix.UnixRights(int(fd)), nil, 0); err != nil {
		return err
	}
	_ = unix.Close(way)
	env := os.Environ()
	for i := range env {
		if strings.HasPrefix(env[i], entry+"=") {
			env[i] = entry + "="
		}
	}
	return syscall.Exec(os.Args[1], os.Args[1:], env)
}

// compile writes the filter: these calls are told of, all else may be.
func compile(names []string) ([]unix.SockFilter, error) {
	const nr, arch = 0, 4 // offsets
	machine := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if machine == 0 {
		return nil, errors.New("not on " + runtime.GOARCH)
	}
	load := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	equal := func(k uint32, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: no}
	}
	prog := []unix.SockFilter{load(arch), equal(machine, 2), load(nr), {Code: unix.BPF_JMP | unix.BPF_JA, K: 1}, ret(unix.SECCOMP_RET_ALLOW)}
	for _, name := range names {
		k, ok := kinds[name]
		if !ok {
			return nil, errors.New("no call is named " + name)
		}
		prog = append(prog, equal(uint32(k.nr), 1), ret(unix.SECCOMP_RET_USER_NOTIF))
	}
	return append(prog, ret(unix.SECCOMP_RET_ALLOW)), nil
}

// listen receives the listener and answers what it tells until the program has ended.
func (t *Tap) listen(ours int, theirs *os.File) {
	fd, err := receive(ours)
	_ = theirs.Close()
	if err != nil {
		return // the program was not started, or says itself what was wrong
	}
	defer unix.Close(fd)
	for {
		n := notice{}
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err != nil && !errors.Is(err, unix.EINTR) || poll[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 {
			return
		}
		if poll[0].Revents == 0 || ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)) != nil {
			continue // interrupted, or the thread has gone
		}
		name := t.kind(&n)
		a := Answer{}
		if name != "" {
			a = t.answer(Call{name, n.path(kinds[name].path)})
		}
		v := verdict{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		switch {
		case a.Kill:
			if a.Half {
				n.half(name)
			}
			_ = unix.Kill(leader(n.tid), unix.SIGKILL)
			continue // without an answer the call is never made
		case a.Errno != 0:
			v.flags, v.err = 0, -int32(a.Errno)
		case a.Lie:
			v.flags, v.val = 0, 0
			if name == "write" || name == "pwrite64" {
				v.val = int64(n.args[2])
			}
		}
		_ = ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&v)) // fails if the thread has gone
	}
}

// kind returns the name of a call, or "" if it is not one of the tap's. To open a file is
// "openat" if that may make or change it, else "open".
func (t *Tap) kind(n *notice) string {
	const changing = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC
	for _, name := range t.kinds {
		if int32(kinds[name].nr) == n.nr && (n.nr != unix.SYS_OPENAT || (name == "openat") == (n.args[2]&changing != 0)) {
			return name
		}
	}
	return ""
}

func receive(ours int) (int, error) {
	defer unix.Close(ours)
	poll := []unix.PollFd{{Fd: int32(ours), Events: unix.POLLIN}}
	for end := time.Now().Add(30 * time.Second); ; {
		n, err := unix.Poll(poll, int(time.Until(end).Milliseconds()))
		if err == nil && n > 0 {
			break
		}
		if !errors.Is(err, unix.EINTR) || time.Now().After(end) {
			return 0, errors.Join(err, os.ErrDeadlineExceeded)
		}
	}
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(ours, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return 0, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return 0, errors.Join(err, errors.New("no listener came"))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return 0, err
	}
	return fds[0], nil
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR {
			return errno
		}
	}
}

// path returns the file of a call, or "" if it is none with a name.
func (n *notice) path(arg int) string {
	if arg < 0 {
		return link(fmt.Sprintf("/proc/%d/fd/%d", n.tid, int32(n.args[0])))
	}
	name := n.text(n.args[arg])
	if strings.HasPrefix(name, "/") || name == "" {
		return name
	}
	dir := link(fmt.Sprintf("/proc/%d/cwd", n.tid))
	if at := int32(n.args[arg-1]); at != unix.AT_FDCWD {
		dir = link(fmt.Sprintf("/proc/%d/fd/%d", n.tid, at))
	}
	return dir + "/" + name
}

func link(path string) string {
	to, _ := os.Readlink(path) // "" if the program has gone
	return strings.TrimSuffix(to, " (deleted)")
}

// text reads a string of the program's.
func (n *notice) text(at uint64) string {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", n.tid))
	if err != nil {
		return ""
	}
	defer mem.Close()
	buf := make([]byte, unix.PathMax)
	got, _ := mem.ReadAt(buf, int64(at)) // less at the end of a mapping
	if end := bytes.IndexByte(buf[:got], 0); end >= 0 {
		return string(buf[:end])
	}
	return ""
}

// half carries out the first half of a write in place of the program, with its own open
// file. Where that is not allowed it does nothing.
func (n *notice) half(name string) {
	if name != "write" && name != "pwrite64" {
		return
	}
	process, err := unix.PidfdOpen(leader(n.tid), 0)
	if err != nil {
		return
	}
	defer unix.Close(process)
	fd, err := unix.PidfdGetfd(process, int(int32(n.args[0])), 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", n.tid))
	if err != nil {
		return
	}
	defer mem.Close()
	bytes := make([]byte, n.args[2]/2)
	if _, err := mem.ReadAt(bytes, int64(n.args[1])); err != nil {
		return
	}
	if name == "write" {
		_, _ = unix.Write(fd, bytes)
	} else {
		_, _ = unix.Pwrite(fd, bytes, int64(n.args[3]))
	}
}

// leader returns the process of a thread.
func leader(tid uint32) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if _, rest, ok := strings.Cut(string(status), "\nTgid:"); ok {
		line, _, _ := strings.Cut(rest, "\n")
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
			return pid
		}
	}
	return int(tid) // the first thread, or gone
}
