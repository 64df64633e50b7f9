package process

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a master has started does not outlive it.
func TestKill(t *testing.T) {
	p, err := Start(exec.Command("sh", "-c", "sleep 600 & sleep 600"), func() bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if p.Ended(10 * time.Millisecond) {
		t.Fatal("it has ended by itself")
	}
	p.Signal(syscall.SIGTERM) // ends the shell alone
	if !p.Ended(10 * time.Second) {
		t.Fatal("the shell goes on")
	}
	p.Kill()
	for range 1000 {
		if syscall.Kill(-p.PID, 0) == syscall.ESRCH {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("a child goes on")
}

func TestEndsAtOnce(t *testing.T) {
	_, err := Start(exec.Command("sh", "-c", "echo no such thing >&2; exit 3"), func() bool { return false })
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no such thing") {
		t.Error(err)
	}
}
