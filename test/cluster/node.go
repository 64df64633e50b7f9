package cluster

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// Node is a machine that runs our real program.
type Node struct {
	*lab.Host
	Name    string
	Program *Program
	Config  string

	lab    *Lab
	binary string
}

const nodeConf = `hostname = "mx.%[1]s"
data = "%[2]s/data"
user = "martlet"
trusted = ["127.0.0.0/8", "198.20.0.0/15"]

[tls]
certificate = "%[2]s/cert.pem"
key = "%[2]s/key.pem"

[queue]
resolver = "%[3]s:53"
retry = ["2s", "2s", "5s"]
mta_sts = false

[limits]
login_failures_per_account = 10000
login_failures_per_address = 10000
`

const sharedConf = `
[store]
engine = "postgres"
url = "%[1]s"
%[2]s

[blobs]
engine = "s3"
endpoint = "%[3]s"
bucket = "%[4]s"
access_key = "%[5]s"
secret_key = "%[6]s"
over = "8KiB"
cache = "%[7]s"

[cluster]
node = "%[8]s"
lease = "6s"
`

// prepare writes what a node needs. The last node finds its database through HAProxy, the
// others through the addresses of all; the first keeps no objects on its own disk.
func (n *Node) prepare(binary string, index int) error {
	url, cache := n.lab.URL(), "64MiB"
	if index == len(n.lab.Nodes)-1 {
		url = n.lab.ProxyURL()
	}
	if index == 0 {
		cache = "0"
	}
	cert, err := n.lab.World.CA.Issue(24*time.Hour, "mx."+Domain)
	if err != nil {
		return err
	}
	for from, to := range map[string]string{cert.File: "cert.pem", cert.Key: "key.pem"} {
		text, err := os.ReadFile(from)
		if err == nil {
			_, err = write(n.Host, to, string(text))
		}
		if err != nil {
			return err
		}
	}
	if _, err := n.Output("sh", "-ec", "mkdir -p "+n.Dir+"/data && chown martlet "+n.Dir+"/data"); err != nil {
		return err
	}
	conf := fmt.Sprintf(nodeConf, Domain, n.Dir, lab.Resolver4)
	if !n.lab.opt.Embedded {
		conf += fmt.Sprintf(sharedConf, url, strings.Join(n.lab.opt.Settings, "\n"), n.lab.S3.URL(), bucket, accessKey, secretKey, cache, n.Name)
	}
	for _, d := range append(doors[:len(doors):len(doors)], struct {
		name string
		port int
	}{"http", 80}) {
		conf += fmt.Sprintf("\n[[listen]]\nprotocol = %q\naddress = \":%d\"\n", d.name, d.port)
		if d.name != "http" {
			conf += fmt.Sprintf("proxies = [\"%s/32\"]\n", n.lab.Proxy.Host.IPv4)
		}
	}
	if n.Config, err = write(n.Host, "martlet.toml", conf); err != nil {
		return err
	}
	n.binary = binary
	n.Program = &Program{Host: n.Host, Name: "martlet", ready: n.Ready, args: []string{binary, "serve", "--config", n.Config}}
	return nil
}

// Ready tells whether the node says that it can work.
func (n *Node) Ready() bool {
	_, err := get(n.lab.Client, "http://"+n.IPv4.String()+"/readyz")
	return err == nil
}

// StartNodes builds the program, starts it on every node, the first alone, and makes the
// accounts.
func (l *Lab) StartNodes() error {
	binary, err := lab.Build(l.World.Dir)
	if err != nil {
		return err
	}
	for i, n := range l.Nodes {
		if err := n.prepare(binary, i); err != nil {
			return err
		}
		if err := n.Program.Start(); err != nil {
			return fmt.Errorf("%w\n%s", err, l.World.Logs(15))
		}
	}
	if _, err := l.Nodes[0].Do("domain", "add", Domain); err != nil {
		return err
	}
	for _, a := range l.opt.Accounts {
		cmd := l.Nodes[0].Command(binary, "account", "add", a+"@"+Domain, "--password-stdin", "--config", l.Nodes[0].Config)
		cmd.Stdin = strings.NewReader(lab.Password + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("account %s: %w: %s", a, err, out)
		}
	}
	return nil
}

// Do runs one of the program's commands on the node, as an administrator.
func (n *Node) Do(args ...string) (string, error) {
	return n.Output(n.binary, append(args, "--config", n.Config)...)
}

// Stop ends the program as systemd does; within is its time.
func (n *Node) Stop(within time.Duration) error {
	// Not its group: who entered the host for it would end at once, and nobody would wait for it.
	if err := signal(n.Host, n.binary+" serve", syscall.SIGTERM); err != nil {
		return err
	}
	n.Host.Wake() // or who has led it there does not see its end
	if !n.Program.run.Ended(within) {
		n.Program.Kill()
		return fmt.Errorf("%s does not stop within %v", n.Name, within)
	}
	return nil
}
