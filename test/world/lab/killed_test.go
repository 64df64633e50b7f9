package lab

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// child tells a process of this test that it is the one to be killed.
const child = "MARTLET_WORLD_CHILD"

// A run that is killed leaves no process, and so no network and no mount; its folder goes
// when the next world is made.
func TestKilledRun(t *testing.T) {
	if os.Getenv(child) != "" {
		lonely(t)
	}
	w := world(t) // or skipped
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledRun$")
	cmd.Env = append(os.Environ(), child+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "up" {
		if pid, err := strconv.Atoi(lines.Text()); err == nil {
			pids = append(pids, pid)
		}
	}
	folder := filepath.Join(os.TempDir(), prefix+strconv.Itoa(cmd.Process.Pid))
	if _, err := os.Stat(folder); err != nil || len(pids) < 4 {
		t.Fatalf("no world: %v, %v", pids, err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); err != nil {
			t.Fatalf("process %d: %v", pid, err)
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	for _, pid := range pids {
		gone := func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
		if err := Wait(fmt.Sprintf("the end of process %d", pid), 20*time.Second, gone); err != nil {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			t.Errorf("%v\n%s", err, text)
		}
	}
	sweep()
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the folder stays: %v", err)
	}
	if _, err := os.Stat(w.Dir); err != nil {
		t.Errorf("the folder of a living world was swept: %v", err)
	}
}

// lonely makes a world, tells which processes it has, and waits to be killed.
func lonely(t *testing.T) {
	w, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range append(w.Hosts(), w.wire) {
		fmt.Println(h.PID)
	}
	for _, server := range []string{"knotd", "unbound"} { // those that run on hosts
		all, _ := exec.Command("pgrep", "-f", "^"+server+" .*"+w.Dir).Output()
		fmt.Println(strings.TrimSpace(string(all)))
	}
	fmt.Println("up")
	time.Sleep(time.Hour)
}

// A host ends although what has led a program into it stands still, while the program is dead.
func TestHostEndsBesideAStoppedLeader(t *testing.T) {
	w := world(t) // or skipped
	h, err := newHost("halted", w.Dir)
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	for len(h.led()) == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond) // for the program to be there
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { h.close(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		cmd.Process.Signal(syscall.SIGCONT)
		t.Error("the host does not end")
	}
}
