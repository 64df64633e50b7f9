// Package inject makes calls of a real program to the system fail, or end the program, at
// a moment that a test chooses: the fifth sync of a file in its folder, every write from
// the twelfth on, a rename.
//
// The kernel tells it of the calls (seccomp, user notification), whichever thread makes
// them, so the program is as it is shipped, and calls are counted for the whole process
// and by file: what goes to a socket or to the log is no call that counts. Nothing is known
// here of mail. It cannot take back what the kernel has already: a killed program loses
// nothing that it wrote, synced or not.
//
// A test's own binary stands in front of the program for the moment in which the filter is
// set up, so its TestMain begins with Enter.
package inject

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// Call is a call that the program is about to make on a file of the folder.
type Call struct {
	Kind string // its name: "fsync", "write", ...
	Path string // from the folder on
}

// Answer says what becomes of a call.
type Answer struct {
	Errno syscall.Errno // it fails with this and does nothing
	Kill  bool          // the program ends here, by SIGKILL, and the call does nothing
	Half  bool          // with Kill: a write writes its first half
	Lie   bool          // it does nothing and seems to succeed
}

// Rule answers a call; the zero Answer lets it be. Calls are asked about one at a time.
type Rule func(Call) Answer

// Changes are the calls that change what is on the disk, or wait for it.
var Changes = []string{"openat", "write", "pwrite64", "fsync", "fdatasync", "sync_file_range",
	"renameat", "linkat", "unlinkat", "mkdirat", "ftruncate", "fallocate"}

// Reads are those that read.
var Reads = []string{"open", "read", "pread64"}

// Tap is what a test holds of one program.
type Tap struct {
	folder string
	kinds  []string

	mu   sync.Mutex
	rule Rule
}

// New returns a tap for a program that works in folder. Only calls of these kinds are
// seen: each makes the program slower by a little.
func New(folder string, kinds ...string) *Tap { return &Tap{folder: folder, kinds: kinds} }

// Set makes a rule hold from the next call on; nil lets all calls be.
func (t *Tap) Set(r Rule) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rule = r
}

// Wrap changes a command that is not yet started into one under the tap.
func (t *Tap) Wrap(cmd *exec.Cmd) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ours, theirs, err := pair()
	if err != nil {
		return err
	}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d %s", entry, 3+len(cmd.ExtraFiles), strings.Join(t.kinds, " ")))
	cmd.Args = append([]string{self, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = self
	cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
	go t.listen(ours, theirs)
	return nil
}

// entry names the environment variable by which a binary knows that it stands in front.
const entry = "MARTLET_INJECT"

// Enter, in front of a program, sets up the filter and becomes the program; it does not
// return then. Elsewhere it does nothing.
func Enter() {
	how := os.Getenv(entry)
	if how == "" {
		return
	}
	err := enter(how)
	fmt.Fprintf(os.Stderr, "no filter for system calls: %v\n", err)
	os.Exit(3)
}

// Works returns nil, or why calls cannot be seen on this machine.
func Works() error {
	cmd := exec.Command("true")
	if cmd.Err != nil {
		return cmd.Err
	}
	if err := New("/nowhere", Changes...).Wrap(cmd); err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// answer asks the rule about a call.
func (t *Tap) answer(c Call) Answer {
	rest, ok := strings.CutPrefix(c.Path, t.folder+"/")
	if !ok {
		return Answer{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rule == nil {
		return Answer{}
	}
	c.Path = rest
	return t.rule(c)
}
