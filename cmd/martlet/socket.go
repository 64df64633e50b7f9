package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"github.com/martlet-mail/martlet/internal/fault"
)

// maxSocketName is how long the name of a unix socket may be everywhere; a path to a
// data folder is easily longer.
const maxSocketName = 100

// shortSocketName returns a name for the socket that the kernel accepts, and what
// releases it. On Linux a folder too deep is named through an open descriptor of it.
func shortSocketName(path string) (name string, done func(), err error) {
	if len(path) <= maxSocketName {
		return path, func() {}, nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, fault.Newf(fault.Invalid, "the admin socket's path %s is longer than %d bytes; set a shorter [admin] socket", path, maxSocketName)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { dir.Close() }, nil
}

// listenSocket makes the admin socket, readable and writable for the server's user
// only. The caller holds the data folder's lock, so a socket that is there already was
// left by a process that has ended.
func listenSocket(path string) (net.Listener, error) {
	// Made under another name and moved into place, so that nobody meets it before
	// its permissions are set, nor a moment without any.
	fresh := path + ".new"
	name, done, err := shortSocketName(fresh)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "cannot make the admin socket "+path, err)
	}
	defer done()
	os.Remove(fresh)
	ln, err := net.Listen("unix", name)
	if err == nil {
		ln.(*net.UnixListener).SetUnlinkOnClose(false)
		if err = os.Chmod(fresh, 0o600); err == nil {
			err = os.Rename(fresh, path)
		}
		if err != nil {
			ln.Close()
		}
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "cannot make the admin socket "+path, err)
	}
	return &socketListener{ln, path}, nil
}

// socketListener removes its file when it is closed.
type socketListener struct {
	net.Listener
	path string
}

func (l *socketListener) Close() error {
	os.Remove(l.path)
	return l.Listener.Close()
}
