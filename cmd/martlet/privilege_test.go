package main

import (
	"bufio"
	"fmt"
	"io"
	"net/textproto"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// asNobody runs the program as root with a configuration that names a user.
type asNobody struct {
	t      *testing.T
	config string
	data   string
}

func newAsNobody(t *testing.T, name string) *asNobody {
	if os.Geteuid() != 0 {
		t.Skip("only root has something to give up")
	}
	if _, err := user.Lookup(name); err != nil {
		t.Skipf("there is no user %s here", name)
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // the user must get there
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a := &asNobody{t, filepath.Join(dir, "martlet.toml"), filepath.Join(dir, "data")}
	a.write("user = %q\nhostname = \"mx.example.org\"\ndata = \"data\"\n[[listen]]\nprotocol = \"lmtp\"\naddress = \"127.0.0.1:0\"\n", name)
	return a
}

func (a *asNobody) write(format string, args ...any) {
	if err := os.WriteFile(a.config, fmt.Appendf(nil, format, args...), 0o644); err != nil {
		a.t.Fatal(err)
	}
}

func (a *asNobody) run(args ...string) (string, error) {
	out, err := exec.Command(built(a.t), append(args, "--config", a.config)...).CombinedOutput()
	return string(out), err
}

// owners tells whose the files of the data folder are.
func (a *asNobody) owners() map[uint32]int {
	found := map[uint32]int{}
	err := filepath.WalkDir(a.data, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			found[info.Sys().(*syscall.Stat_t).Uid]++
		}
		return err
	})
	if err != nil {
		a.t.Error(err)
	}
	return found
}

// A server that root starts is root no longer when it is ready, in none of its threads,
// and nothing in its folder is root's, not even what root's own commands wrote.
func TestRootIsGivenUp(t *testing.T) {
	a := newAsNobody(t, "nobody")
	if out, err := a.run("domain", "add", "example.org"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	server := exec.Command(built(t), "serve", "--json", "--config", a.config)
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Wait()
	defer server.Process.Signal(os.Interrupt)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	go io.Copy(io.Discard, out)
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", server.Process.Pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("%d threads, %v", len(threads), err)
	}
	for _, file := range threads {
		checkUnprivileged(t, file)
	}
	if out, err := a.run("account", "add", "carol@example.org"); err != nil {
		t.Errorf("a command of root's does not reach the server: %v\n%s", err, out)
	}
	if owners := a.owners(); owners[0] != 0 || len(owners) != 1 {
		t.Errorf("files by their owners: %v", owners)
	}
}

func checkUnprivileged(t *testing.T, file string) {
	f, err := os.Open(file)
	if err != nil {
		return // a thread that has ended
	}
	defer f.Close()
	status, _ := textproto.NewReader(bufio.NewReader(f)).ReadMIMEHeader()
	if uids := strings.Fields(status.Get("Uid")); len(uids) != 4 || strings.Contains(" "+strings.Join(uids, " ")+" ", " 0 ") {
		t.Errorf("%s: the users are %v", file, uids)
	}
	for _, set := range []string{"CapPrm", "CapEff", "CapAmb"} {
		if caps := status.Get(set); strings.Trim(caps, "0") != "" || caps == "" {
			t.Errorf("%s: %s is %q", file, set, caps)
		}
	}
}

// A folder of somebody else's is not taken, and a user who is not there is named.
func TestRootIsNotGivenUp(t *testing.T) {
	a := newAsNobody(t, "nobody")
	if err := os.Mkdir(a.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := a.run("domain", "add", "example.org"); err == nil || !strings.Contains(out, "chown -R") {
		t.Errorf("%v: %s", err, out)
	}
	a.write("user = \"nobody\"\ndata = \"srv/mail/data\"\n")
	if out, err := a.run("domain", "add", "example.org"); err == nil || !strings.Contains(out, "mkdir -p") {
		t.Errorf("%v: %s", err, out)
	}
	a.write("user = \"nobody-of-that-name\"\ndata = \"other\"\n")
	if out, err := a.run("domain", "add", "example.org"); err == nil || !strings.Contains(out, "useradd") {
		t.Errorf("%v: %s", err, out)
	}
}

// A repair that root starts leaves nothing of root's, neither the new store nor the old one.
func TestRepairGivesUpRoot(t *testing.T) {
	a := newAsNobody(t, "nobody")
	if out, err := a.run("domain", "add", "example.org"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	logs, err := filepath.Glob(filepath.Join(a.data, "store", "MANIFEST-*"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("%v, %v", logs, err)
	}
	b, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(logs[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _ := a.run("verify", "--repair"); !strings.Contains(out, `"event":"damaged"`) || !strings.Contains(out, `"event":"done"`) {
		t.Fatal(out)
	}
	if owners := a.owners(); owners[0] != 0 || len(owners) != 1 {
		t.Errorf("files by their owners: %v", owners)
	}
	if out, err := a.run("domain", "list"); err != nil || !strings.Contains(out, "example.org") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Without a user in the configuration root leaves another user's store alone.
func TestRepairOfAnothersStore(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can")
	}
	config := server(t, "example.org", "")
	cfg, _, err := loadConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(engineLock(cfg), 54321, 54321); err != nil {
		t.Fatal(err)
	}
	if got := command(t, "", "verify", "--repair", "--config", config); got.code != 1 || !strings.Contains(got.err, "sudo -u '#54321' martlet") {
		t.Errorf("repair of another user's data: %+v", got)
	}
}
