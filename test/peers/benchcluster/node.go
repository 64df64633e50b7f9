package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/peers/process"
)

// node is one Martlet.
type node struct {
	name   string
	binary string
	dir    string
	base   int
	run    *process.Process
}

const (
	domain   = "martlet.test"
	password = "secret of the bench"
	spread   = 10 // accounts that take part
)

// address returns the n-th account.
func address(n int) string { return fmt.Sprintf("user%d@%s", n, domain) }

// configuration is that of a node; url is "" for one with an engine of its own.
func configuration(name, data, url, lmtp, imap, web string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "data = %q\n\n[limits]\nconnections_per_account = 12000\n", data)
	for _, l := range [][2]string{{"lmtp", lmtp}, {"imap", imap}, {"http", web}} {
		fmt.Fprintf(&b, "\n[[listen]]\nprotocol = %q\naddress = \"127.0.0.1:%s\"\ntls = \"none\"\n", l[0], l[1])
	}
	if url != "" {
		fmt.Fprintf(&b, "\n[store]\nengine = \"postgres\"\nurl = %q\n\n[cluster]\nnode = %q\n", url, name)
	}
	return b.String()
}

func newNode(binary, dir, name, url string) (*node, error) {
	base, err := martlet.PortBase()
	if err != nil {
		return nil, err
	}
	n := &node{name: name, binary: binary, dir: filepath.Join(dir, name), base: base}
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return nil, err
	}
	text := configuration(name, filepath.Join(n.dir, "data"), url, n.port(24), n.port(143), n.port(80))
	return n, os.WriteFile(n.config(), []byte(text), 0o600)
}

func (n *node) config() string        { return filepath.Join(n.dir, "martlet.toml") }
func (n *node) port(usual int) string { return strconv.Itoa(n.base + usual) }
func (n *node) at(usual int) string   { return "127.0.0.1:" + n.port(usual) }
func (n *node) log() string           { return filepath.Join(n.dir, "log") }
func (n *node) metrics() string       { return "http://" + n.at(80) + "/metrics" }

// people makes the accounts, before a node runs.
func (n *node) people() error {
	if err := n.command("", "domain", "add", domain); err != nil {
		return err
	}
	for i := range spread {
		if err := n.command(password+"\n", "account", "add", address(i), "--password-stdin"); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) command(input string, args ...string) error {
	cmd := exec.Command(n.binary, append([]string{"--config", n.config()}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("martlet %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func (n *node) start() error {
	cmd := exec.Command("sh", "-c", `exec "$0" serve --config "$1" 2>>"$2"`, n.binary, n.config(), n.log())
	var err error
	n.run, err = process.Start(cmd, func() bool {
		r, err := http.Get("http://" + n.at(80) + "/readyz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	if err != nil {
		said, _ := os.ReadFile(n.log())
		return fmt.Errorf("%s: %w\n%s", n.name, err, said)
	}
	return nil
}

func (n *node) stop() {
	if n.run == nil {
		return
	}
	n.run.Signal(syscall.SIGTERM)
	if !n.run.Ended(20 * time.Second) {
		n.run.Kill()
	}
}
