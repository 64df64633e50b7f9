// Package lab is a small internet on one machine: hosts with names and addresses of their
// own, a DNS with a root and signatures that hold, a validating resolver, and real mail
// servers that know each other by nothing else.
//
// Each host is a process with its own network, mounts, processes and name; it ends, and
// with it all that runs there, when the world is closed or the test's process dies,
// however it dies. What the hosts need beyond the machine's own programs comes from
// bin/peers/world, which test/world/packages.sh fills; nothing is installed.
//
// It needs Linux and root. docs/world.md says who lives in it.
package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// World is one small internet.
type World struct {
	Dir string // state of all hosts, one folder each
	CA  *Authority
	DNS *DNS

	wire  *Host // the bridge between all
	mu    sync.Mutex
	hosts []*Host
	ends  []io.Closer // of sockets that the test's process has there
}

// prefix of folders of worlds; the process id follows.
const prefix = "martlet-world-"

// Unable says why no world can be made here, nil if one can.
func Unable() error {
	switch {
	case runtime.GOOS != "linux":
		return errors.New("network namespaces are Linux's")
	case os.Getuid() != 0:
		return errors.New("only root may make network namespaces")
	}
	if _, err := os.Stat(filepath.Join(unpacked(), ".unpacked")); err != nil {
		return errors.New("the programs are not there; run test/world/packages.sh")
	}
	dir, err := os.MkdirTemp("", "martlet-probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	h, err := newHost("probe", dir)
	if err != nil {
		return fmt.Errorf("namespaces cannot be made here: %w", err)
	}
	h.close()
	return nil
}

// root is the folder of the module.
func root() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "..", "..")
}

func unpacked() string { return filepath.Join(root(), "bin", "peers", "world") }

// New makes a world with its wire, its authority, its DNS and its resolver, and nobody
// in it yet. Close ends it.
func New() (w *World, err error) {
	sweep()
	w = &World{Dir: filepath.Join(os.TempDir(), prefix+strconv.Itoa(os.Getpid()))}
	for n := 1; ; n++ { // a process may have several
		if err = os.Mkdir(w.Dir, 0o755); err == nil {
			break
		}
		if !os.IsExist(err) || n > 100 {
			return nil, err
		}
		w.Dir = filepath.Join(os.TempDir(), fmt.Sprintf("%s%d-%d", prefix, os.Getpid(), n))
	}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	if w.CA, err = newAuthority(w.Dir); err != nil {
		return nil, err
	}
	if w.wire, err = newHost("wire", w.Dir); err != nil {
		return nil, err
	}
	if err = w.wire.run("ip link add wire type bridge forward_delay 0 && ip link set wire up"); err != nil {
		return nil, err
	}
	if w.DNS, err = newDNS(w); err != nil {
		return nil, err
	}
	return w, nil
}

// Close ends every host, and removes what they wrote unless MARTLET_WORLD_KEEP is set.
func (w *World) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	var wg sync.WaitGroup
	for _, h := range append(w.hosts, w.wire) {
		if h != nil {
			wg.Go(h.close)
		}
	}
	wg.Wait()
	for _, e := range w.ends {
		e.Close()
	}
	w.hosts, w.wire, w.ends = nil, nil, nil
	if os.Getenv("MARTLET_WORLD_KEEP") == "" {
		os.RemoveAll(w.Dir)
	}
}

// Hosts returns all that are in the world, in the order of their coming.
func (w *World) Hosts() []*Host {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.hosts)
}

// sweep removes the folders of worlds whose process is no more. The worlds themselves
// have gone with it.
func sweep() {
	old, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, dir := range old {
		id, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
		pid, err := strconv.Atoi(id)
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			os.RemoveAll(dir)
		}
	}
}

// Logs returns what all hosts' programs have written lately, for a test that failed.
func (w *World) Logs(lines int) string {
	var b strings.Builder
	for _, h := range w.Hosts() {
		files, _ := filepath.Glob(filepath.Join(h.Dir, "*.log"))
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil && len(text) > 0 {
				all := strings.SplitAfter(string(text), "\n")
				fmt.Fprintf(&b, "--- %s %s\n%s", h.Name, filepath.Base(f), strings.Join(all[max(0, len(all)-lines-1):], ""))
			}
		}
	}
	return b.String()
}

// read returns a file's text, "" if there is none.
func read(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}
