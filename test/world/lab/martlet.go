package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/martlet-mail/martlet/test/peers/process"
)

// Martlet is a host that runs our real binary, `martlet serve`.
type Martlet struct {
	*Host
	Domain string
	Config string
	Log    string
	Cert   Issued
	Binary string // path of the program

	run *process.Process
}

// Password is that of all accounts.
const Password = "correct horse"

const martletConf = `hostname = "%[1]s"
data = "%[2]s/data"
user = "martlet"

[tls]
certificate = "%[2]s/cert.pem"
key = "%[2]s/key.pem"

[queue]
resolver = "%[3]s:53"
resolver_validates = true
retry = ["2s", "2s", "5s"]

[dns]
addresses = [%[4]s]

[[dns.update]]
zone = "%[5]s"
server = "%[6]s"
key_name = "%[7]s"
key_file = "%[2]s/update.key"

[doctor]
probe = ["postfix.example"]
signed = ["postfix.example"]
blocklists = ["bl.example"]
domain_lists = ["dbl.example"]
ntp = ["ns.example"]
`

// doors of a Martlet.
var doors = map[string]int{
	"smtp": 25, "submissions": 465, "submission": 587, "imap": 143, "imaps": 993, "pop3s": 995, "http": 80, "https": 443,
}

// names that mail programs ask for, at the one host there is.
var names = []string{"mail", "imap", "smtp", "pop", "autoconfig", "autodiscover", "mta-sts", "ua-auto-config"}

// Martlet brings our server into the world, as the host mx.DOMAIN, whose zone must be
// there, with the accounts alice and bob. Its domain is added, and the domain's records are
// made, by the program's own commands. Settings go to the end of the configuration.
func (w *World) Martlet(binary, domain string, at Place, settings ...string) (*Martlet, error) {
	h, err := w.Host("mx."+domain, at)
	if err != nil {
		return nil, err
	}
	m := &Martlet{Host: h, Domain: domain, Binary: binary, Config: filepath.Join(h.Dir, "martlet.toml"), Log: filepath.Join(h.Dir, "martlet.log")}
	all := append([]string{h.Name}, at.Alias...)
	for _, n := range names {
		all = append(all, n+"."+domain)
	}
	if err := m.Certificate(all...); err != nil {
		return nil, err
	}
	addresses := fmt.Sprintf("%q", h.IPv4)
	if h.IPv6.IsValid() {
		addresses += fmt.Sprintf(", %q", h.IPv6)
	}
	if err := os.WriteFile(filepath.Join(h.Dir, "update.key"), []byte(UpdateSecret+"\n"), 0o644); err != nil {
		return nil, err
	}
	if err := own(filepath.Join(h.Dir, "data"), ourUser); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(martletConf, h.Name, h.Dir, Resolver4, addresses, domain, UpdateServer, strings.TrimSuffix(UpdateKey, "."))
	for protocol, port := range doors {
		conf += fmt.Sprintf("\n[[listen]]\nprotocol = %q\naddress = \":%d\"\n", protocol, port)
	}
	if err := os.WriteFile(m.Config, []byte(conf+"\n"+strings.Join(settings, "\n")+"\n"), 0o644); err != nil {
		return nil, err
	}
	if err := m.Start(); err != nil {
		return nil, err
	}
	if _, err := m.Do("domain", "add", domain); err != nil {
		return nil, err
	}
	if _, err := m.Do("domain", "set", domain, "dmarc=reject", "mta-sts=enforce"); err != nil {
		return nil, err
	}
	for _, who := range []string{"alice", "bob"} {
		if err := m.Account(who + "@" + domain); err != nil {
			return nil, err
		}
	}
	if _, err := m.Do("alias", "add", "abuse@"+domain, "alice@"+domain); err != nil {
		return nil, err
	}
	return m, m.Publish()
}

// Publish makes the records of the domain as they have to be now.
func (m *Martlet) Publish() error {
	_, err := m.Do("dns", "apply", m.Domain, "--all", "--yes")
	return err
}

// Certificate gives the server a new certificate, for these names.
func (m *Martlet) Certificate(names ...string) (err error) {
	if m.Cert, err = m.world.CA.Issue(90*24*time.Hour, names...); err != nil {
		return err
	}
	for from, to := range map[string]string{m.Cert.File: "cert.pem", m.Cert.Key: "key.pem"} {
		if err := os.WriteFile(filepath.Join(m.Dir, to), []byte(read(from)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Start runs the server; it is ready when Start returns.
func (m *Martlet) Start() error {
	log, err := os.OpenFile(m.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := m.Command("sh", "-c", `exec "$@" 2>>"$0"`, m.Log, m.Binary, "serve", "--config", m.Config)
	m.run, err = process.Start(cmd, m.Greets("127.0.0.1:25"))
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", m.Name, err, m.world.Logs(20))
	}
	return nil
}

// Stop ends the server, as systemd would.
func (m *Martlet) Stop() error {
	syscall.Kill(-m.run.PID, syscall.SIGTERM)
	if !m.run.Ended(patience) {
		m.run.Kill()
		return fmt.Errorf("%s does not stop", m.Name)
	}
	return nil
}

// Do runs one of the program's commands on the host, as an administrator.
func (m *Martlet) Do(args ...string) (string, error) {
	return m.Output(m.Binary, append(args, "--config", m.Config)...)
}

// Account makes an account.
func (m *Martlet) Account(address string) error {
	cmd := m.Command(m.Binary, "account", "add", address, "--password-stdin", "--config", m.Config)
	cmd.Stdin = strings.NewReader(Password + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("account %s: %w: %s", address, err, out)
	}
	return nil
}

// Submit hands in a message as somebody who logs in, from another host.
func (m *Martlet) Submit(from *Host, login, to, message string) error {
	cmd := from.Command("swaks", "--silent", "2", "--server", m.address().String(), "--port", "587", "--tls", "--auth", "PLAIN", "--auth-user", login, "--auth-password", Password,
		"--from", login, "--to", to, "--data", "-", "--helo", from.Name)
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(message, "\r\n", "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("submission as %s: %w: %s", login, err, out)
	}
	return nil
}

func (m *Martlet) address() netip.Addr { return m.IPv4 }

// Mail returns what lies in a mailbox of an account.
func (m *Martlet) Mail(user, mailbox string) ([]string, error) {
	c, err := m.Dial("127.0.0.1:143")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	return fetchAll(c, user+"@"+m.Domain, mailbox)
}

// Await waits for a message that contains something, and returns it.
func (m *Martlet) Await(user, mailbox, what string) (message string, err error) {
	err = wait(fmt.Sprintf("a message with %q in %s of %s@%s", what, mailbox, user, m.Domain), func() bool {
		all, _ := m.Mail(user, mailbox)
		message = find(all, what)
		return message != ""
	})
	return message, err
}

// AwaitTrace waits until `martlet trace --json` of a message, given its token, contains
// something, and returns all it says.
func (m *Martlet) AwaitTrace(token, from, what string) (story string, err error) {
	id := messageID(token, from)
	err = wait(fmt.Sprintf("%q in the trace of %s", what, id), func() bool {
		story, _ = m.Do("trace", id, "--json")
		return strings.Contains(story, what)
	})
	if err != nil {
		err = fmt.Errorf("%w:\n%s", err, story)
	}
	return story, err
}

// AwaitQueue waits until a row of `martlet queue list --json` contains something, and
// returns that row.
func (m *Martlet) AwaitQueue(what string) (row string, err error) {
	err = wait(fmt.Sprintf("%q in the queue of %s", what, m.Name), func() bool {
		out, _ := m.Do("queue", "list", "--json")
		row = find(strings.Split(out, "\n"), what)
		return row != ""
	})
	return row, err
}

// Build builds the binary into a folder.
func Build(dir string) (string, error) {
	if b := os.Getenv("MARTLET_BINARY"); b != "" {
		return b, nil
	}
	path := filepath.Join(dir, "martlet")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/martlet")
	cmd.Dir = root()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("the server does not build: %w\n%s", err, out)
	}
	return path, nil
}

// Lines reads the objects that a command prints with --json, one a line.
func Lines[T any](out string) (all []T, err error) {
	d := json.NewDecoder(bytes.NewBufferString(out))
	for d.More() {
		var one T
		if err := d.Decode(&one); err != nil {
			return all, err
		}
		all = append(all, one)
	}
	return all, nil
}
