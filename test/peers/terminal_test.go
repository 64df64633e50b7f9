package peers

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// terminal is a program that runs on a terminal and gets its keys from the test.
// script(1) provides the terminal.
type terminal struct {
	t    *testing.T
	name string
	keys io.WriteCloser
	done chan error
	seen int // how much of the drawn text `sees` has gone over

	mu  sync.Mutex
	out bytes.Buffer
}

// Write takes what the program draws.
func (x *terminal) Write(b []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.out.Write(b)
}

// onTerminal starts the program on a terminal of 40 lines and 140 columns.
func (p program) onTerminal(t *testing.T) *terminal {
	t.Helper()
	if _, err := exec.LookPath(p.name); err != nil {
		t.Fatalf("%s is not installed (make test installs it): %v", p.name, err)
	}
	quoted := make([]string, len(p.args))
	for i, a := range p.args {
		quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	x := &terminal{t: t, name: p.name, done: make(chan error, 1)}
	cmd := exec.Command("script", "-qec", "stty rows 40 cols 140; exec "+p.name+" "+strings.Join(quoted, " "), "/dev/null")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Dir = p.home
	cmd.Env = append([]string{"HOME=" + p.home, "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TERM=xterm", "TZ=UTC",
		"SHELL=/bin/sh", "XDG_CONFIG_HOME=" + p.home, "XDG_RUNTIME_DIR=" + p.home, "XDG_CACHE_HOME=" + p.home,
		"TMPDIR=" + p.home}, p.env...) // what it leaves when it is killed goes with the home
	cmd.Stdout, cmd.Stderr = x, x
	var err error
	if x.keys, err = cmd.StdinPipe(); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	programs.add(p.name)
	go func() { x.done <- cmd.Wait() }()
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	return x
}

// press sends keys.
func (x *terminal) press(keys string) {
	x.t.Helper()
	if _, err := io.WriteString(x.keys, keys); err != nil {
		x.t.Fatalf("%s takes no keys: %v\n%s", x.name, err, x.screen())
	}
}

var escapes = regexp.MustCompile(`\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[()][A-Z0-9]|[=>78DEHM])|[\x0e\x0f]`)

// screen returns what was drawn behind what `sees` has found so far, without what
// moves the cursor and sets colours, and without blanks: programs jump over them.
func (x *terminal) screen() string {
	return x.drawn()[x.seen:]
}

func (x *terminal) drawn() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return strings.Join(strings.Fields(escapes.ReplaceAllString(x.out.String(), "")), "")
}

// sees waits until the text is drawn, behind what it has found before.
func (x *terminal) sees(text string) {
	x.t.Helper()
	want := strings.ReplaceAll(text, " ", "")
	x.wait(fmt.Sprintf("%s shows %q", x.name, text), func() bool {
		screen := x.screen()
		i := strings.Index(screen, want)
		if i >= 0 {
			x.seen += i + len(want)
		}
		return i >= 0
	})
}

// wait is within for a program that may end too early.
func (x *terminal) wait(what string, is func() bool) {
	x.t.Helper()
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if is() {
			return
		}
		select {
		case err := <-x.done:
			x.t.Fatalf("%s ended (%v) before: %s\n%s", x.name, err, what, tail(x.screen()))
		default:
		}
	}
	x.t.Fatalf("still not: %s\n%s", what, tail(x.screen()))
}

// ends waits until the program has ended, with code 0.
func (x *terminal) ends() {
	x.t.Helper()
	select {
	case err := <-x.done:
		if err != nil {
			x.t.Errorf("%s: %v\n%s", x.name, err, tail(x.screen()))
		}
	case <-time.After(40 * time.Second):
		x.t.Fatalf("%s does not end\n%s", x.name, tail(x.screen()))
	}
}
