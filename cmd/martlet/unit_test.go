package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/martlet-mail/martlet/test/promise"
)

const unitFile = "../../packaging/martlet.service"

// The service file shuts the server in: what systemd itself says of it.
func TestUnitIsHardened(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", unitFile).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := regexp.MustCompile(`exposure level for martlet.service: ([0-9.]+)`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("no level in\n%s", out)
	}
	level, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil || level > 2 {
		t.Errorf("exposure %s, of 10", m[1])
	}
	promise.Kept(t, "R35", "exposure of the service file by systemd-analyze (0 best, 10 worst)", level)
}

// harmless calls are refused by the service file, and the server goes on without.
var harmless = []string{
	"prlimit64",         // the runtime raises the limit of descriptors; LimitNOFILE has done so
	"setrlimit",         // the same
	"sched_setaffinity", // never needed
}

// What the server calls of the kernel while it starts, takes mail and stops is allowed by
// the service file.
func TestUnitAllowsWhatIsNeeded(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	for _, tool := range []string{"systemd-analyze", "strace"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	allowed := syscalls(t, "@system-service")
	for _, group := range []string{"@privileged", "@resources"} {
		for _, name := range syscalls(t, group) {
			allowed = slices.DeleteFunc(allowed, func(a string) bool { return a == name })
		}
	}
	for _, name := range calledOfKernel(t) {
		if !slices.Contains(allowed, name) && !slices.Contains(harmless, name) {
			t.Errorf("the server calls %s, which the service file forbids", name)
		}
	}
}

// syscalls lists a group of system calls, and the groups in it.
func syscalls(t *testing.T, group string) []string {
	out, err := exec.Command("systemd-analyze", "syscall-filter", group).Output()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		name := strings.TrimSpace(line)
		switch {
		case !strings.HasPrefix(line, " ") || strings.HasPrefix(name, "#") || name == "":
		case strings.HasPrefix(name, "@"):
			names = append(names, syscalls(t, name)...)
		default:
			names = append(names, name)
		}
	}
	return names
}

// calledOfKernel runs a server for some mail and returns the names of its system calls.
func calledOfKernel(t *testing.T) []string {
	if out, err := exec.Command("strace", "-o", "/dev/null", "true").CombinedOutput(); err != nil {
		t.Skipf("strace cannot trace here: %s", out)
	}
	dir := t.TempDir()
	trace := filepath.Join(dir, "trace")
	cmd := exec.Command("strace", "-f", "-qq", "-o", trace, built(t), "try", "--json", "--dir", filepath.Join(dir, "data"), "--port-base", strconv.Itoa(freeBase(t)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // strace hands no signal on
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if _, err := out.Read(make([]byte, 1)); err != nil { // the line: welcome mail has been delivered
		t.Fatal(err)
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\d+ +([a-z0-9_]+)\(`).FindAllSubmatch(text, -1) {
		seen[string(m[1])] = true
	}
	var names []string
	for name := range seen {
		names = append(names, name)
	}
	if slices.Sort(names); !slices.Contains(names, "fdatasync") {
		t.Fatalf("only %v were seen", names)
	}
	return names
}
