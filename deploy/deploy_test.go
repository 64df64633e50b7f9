// Package deploy holds the examples of this folder to the truth: each configuration in
// them is read by the program's own reader, ports and names are held against each other,
// and what other programs read is read by those, where they are installed.
//
// It does not start containers: where there is a daemon, `docker compose up` and `helm
// install` are for you to try.
package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/martlet-mail/martlet/internal/conf"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// parse reads a configuration, as `martlet config check` does.
func parse(t *testing.T, name, text string) *conf.Config {
	t.Helper()
	c, err := conf.Parse(name, []byte(text))
	if err != nil {
		t.Fatalf("%s: %v\n%v", name, err, errors.Unwrap(err))
	}
	if c.Store.Engine != "postgres" || c.Blobs.Engine != "s3" {
		t.Errorf("%s: not on postgres and s3", name)
	}
	return c
}

func document[T any](t *testing.T, name, text string) (doc T) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&doc); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return doc
}

// listeners returns which ports a configuration listens on, and whether the PROXY protocol
// is spoken there.
func listeners(t *testing.T, c *conf.Config) map[string]bool {
	t.Helper()
	ports := map[string]bool{}
	for _, l := range c.Listen {
		_, port, err := net.SplitHostPort(string(l.Address))
		if err != nil {
			t.Fatal(err)
		}
		ports[port] = len(l.Proxies) > 0
	}
	if len(ports) < 8 {
		t.Fatalf("only %d listeners", len(ports))
	}
	return ports
}

type composition struct {
	Services map[string]struct {
		Image     string
		Hostname  string
		Build     struct{ Context, Dockerfile string }
		Command   any
		Volumes   []string
		Ports     []string
		DependsOn any  `yaml:"depends_on"`
		ReadOnly  bool `yaml:"read_only"`
	}
	Configs map[string]struct{ Content string }
	Volumes map[string]any
}

var variable = regexp.MustCompile(`\$\{([A-Z0-9_]+)(:\?[^}]*)?\}`)

func TestCompose(t *testing.T) {
	text := read(t, "compose/compose.yaml")
	c := document[composition](t, "compose.yaml", text)
	example := read(t, "compose/example.env")
	for _, v := range variable.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(example, "\n"+v[1]+"=") {
			t.Errorf("%s is not in example.env", v[1])
		}
	}
	toml := variable.ReplaceAllStringFunc(c.Configs["martlet"].Content, func(s string) string {
		if strings.Contains(s, "HOSTNAME") {
			return "mail.example.org"
		}
		return "5ecret"
	})
	cfg := parse(t, "compose.yaml", toml)
	haproxyAgrees(t, "compose/haproxy.cfg", listeners(t, cfg))
	nodes := 0
	for name, s := range c.Services {
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if strings.HasPrefix(from, "./") {
				if _, err := os.Stat(filepath.Join("compose", from)); err != nil && from != "./tls" {
					t.Errorf("%s: %v", name, err)
				}
			} else if _, ok := c.Volumes[from]; !ok {
				t.Errorf("%s: there is no volume %s", name, from)
			}
		}
		if s.Hostname != "" {
			nodes++
			if s.Hostname != name || !slices.Contains(s.Volumes, name+":"+string(cfg.Data)) || !s.ReadOnly {
				t.Errorf("%s: %+v", name, s)
			}
		}
		if s.Build.Dockerfile != "" {
			if _, err := os.Stat(filepath.Join("compose", s.Build.Context, s.Build.Dockerfile)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if nodes != 2 {
		t.Errorf("%d nodes", nodes)
	}
	binds := regexp.MustCompile(`(?m)^    bind :(\d+)$`).FindAllStringSubmatch(read(t, "compose/haproxy.cfg"), -1)
	if len(binds) != len(c.Services["proxy"].Ports) {
		t.Errorf("the proxy binds %d ports and %d are mapped", len(binds), len(c.Services["proxy"].Ports))
	}
	for _, b := range binds {
		if !slices.ContainsFunc(c.Services["proxy"].Ports, func(p string) bool { return strings.HasSuffix(p, ":"+b[1]) }) {
			t.Errorf("port %s of the proxy is not mapped", b[1])
		}
	}
	url := cfg.Store.URL
	for _, host := range []string{"primary", "standby"} {
		if _, ok := c.Services[host]; !ok || !strings.Contains(url, host) {
			t.Errorf("%s is not in %s", host, url)
		}
	}
}

var backend = regexp.MustCompile(`(?m)^    server \S+ \S+:(\d+)( send-proxy-v2)?( no-check backup)?$`)

// haproxyAgrees holds the servers of a configuration of HAProxy to where nodes listen.
func haproxyAgrees(t *testing.T, path string, ports map[string]bool) {
	t.Helper()
	text := read(t, path)
	seen, anyhow := map[string]int{}, map[string]int{} // that are checked, and that are not
	for _, m := range backend.FindAllStringSubmatch(text, -1) {
		speaks, ok := ports[m[1]]
		if !ok {
			t.Errorf("%s: no node listens on port %s", path, m[1])
		}
		if speaks != (m[2] != "") {
			t.Errorf("%s: the PROXY protocol is spoken on one side of port %s only", path, m[1])
		}
		if m[3] == "" {
			seen[m[1]]++
		} else {
			anyhow[m[1]]++
		}
	}
	for p, proxied := range ports {
		if seen[p] != 2 || proxied != (anyhow[p] == 2) {
			t.Errorf("%s: port %s has %d servers, and %d that are asked where none is ready", path, p, seen[p], anyhow[p])
		}
	}
	if all := strings.Count(text, "\n    server "); all != len(backend.FindAllString(text, -1)) {
		t.Errorf("%s: %d servers, of which %d are understood here", path, all, len(backend.FindAllString(text, -1)))
	}
	health := regexp.MustCompile(`default-server check port (\d+)`).FindStringSubmatch(text)
	if health == nil || !strings.Contains(text, "httpchk GET /readyz") {
		t.Fatalf("%s: nobody asks whether a node is ready", path)
	}
	if proxied, ok := ports[health[1]]; !ok || proxied {
		t.Errorf("%s: the question goes to port %s", path, health[1])
	}
}

func TestMachines(t *testing.T) {
	cfg := parse(t, "martlet.toml", read(t, "machines/martlet.toml"))
	haproxyAgrees(t, "machines/haproxy.cfg", listeners(t, cfg))
	type patroni struct {
		Scope, Name string
		Etcd        struct{ Hosts []string }
		Bootstrap   struct {
			DCS struct {
				Synchronous bool `yaml:"synchronous_mode"`
				Strict      bool `yaml:"synchronous_mode_strict"`
				PostgreSQL  struct{ Parameters map[string]any }
			}
		}
		PostgreSQL struct{ Listen string }
	}
	p := document[patroni](t, "patroni.yml", read(t, "machines/patroni.yml"))
	if dcs := p.Bootstrap.DCS; !dcs.Synchronous || !dcs.Strict || dcs.PostgreSQL.Parameters["synchronous_commit"] != "on" {
		t.Errorf("%+v: a failover may lose mail", dcs)
	}
	if len(p.Etcd.Hosts) != 3 {
		t.Errorf("etcd is %v", p.Etcd.Hosts)
	}
	e := document[map[string]string](t, "etcd.yml", strings.NewReplacer(": 100\n", ": '100'\n", ": 1000\n", ": '1000'\n").Replace(read(t, "machines/etcd.yml")))
	for _, h := range p.Etcd.Hosts {
		host, _, _ := net.SplitHostPort(h)
		if !strings.Contains(e["initial-cluster"], "http://"+host+":") || !strings.Contains(cfg.Store.URL, host) {
			t.Errorf("machine %s is not in all of the files", host)
		}
	}
}

// The second unit differs from the one that is installed by the names of its files alone.
func TestUnit(t *testing.T) {
	want := read(t, "../packaging/martlet.service")
	got := read(t, "systemd/martlet@.service")
	from := func(s string) string { return s[strings.Index(s, "[Unit]"):] }
	expected := strings.NewReplacer("Martlet mail server\n", "Martlet mail server, node %i\n",
		"/etc/martlet/martlet.toml", "/etc/martlet/%i.toml", "StateDirectory=martlet\n", "StateDirectory=martlet-%i\n").Replace(from(want))
	if from(got) != expected {
		t.Errorf("martlet@.service is no longer as packaging/martlet.service with these names:\n%s", expected)
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	path := filepath.Join(t.TempDir(), "martlet@a.service")
	there := strings.ReplaceAll(got, "/usr/local/bin/martlet", "/bin/true")
	if err := os.WriteFile(path, []byte(there), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", path).CombinedOutput(); err != nil || bytes.Contains(out, []byte(path)) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestHAProxyReadsThem(t *testing.T) {
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip("haproxy is not installed")
	}
	for _, path := range []string{"compose/haproxy.cfg", "machines/haproxy.cfg"} {
		out, err := exec.Command("haproxy", "-c", "-f", path).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "WARNING") && !strings.Contains(line, "could not resolve address 'martlet") {
				t.Errorf("%s: %s", path, line)
			}
		}
	}
	// A file with a fault is not taken.
	bad := filepath.Join(t.TempDir(), "bad.cfg")
	text := strings.Replace(read(t, "machines/haproxy.cfg"), "option redispatch", "option redispach", 1)
	if err := os.WriteFile(bad, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("haproxy", "-c", "-f", bad).Run(); err == nil {
		t.Error("a misspelt option was taken")
	}
}

// remarks are what Patroni says of a file that is as its documentation has it.
var remarks = []string{"bootstrap.pg_hba  is not defined.", "postgresql.authentication.rewind  is not defined.", ""}

func TestPatroniReadsIt(t *testing.T) {
	if _, err := exec.LookPath("patroni"); err != nil {
		t.Skip("patroni is not installed")
	}
	check := func(text string) []string {
		path := filepath.Join(t.TempDir(), "patroni.yml")
		text = strings.NewReplacer("  listen: 10.0.0.11:8008", "  listen: 127.0.0.1:"+freePort(t), "  listen: 10.0.0.11:5432", "  listen: 127.0.0.1:"+freePort(t)).Replace(text)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, _ := exec.Command("patroni", "--validate-config", path).CombinedOutput()
		return slices.DeleteFunc(strings.Split(strings.TrimSpace(string(out)), "\n"), func(l string) bool {
			return slices.Contains(remarks, l) || strings.Contains(l, "postgresql.data_dir") // it looks at this machine
		})
	}
	text := read(t, "machines/patroni.yml")
	if faults := check(text); len(faults) > 0 {
		t.Error(strings.Join(faults, "\n"))
	}
	if faults := check(strings.Replace(text, "listen: 10.0.0.11:8008", "listen: nowhere", 1)); len(faults) == 0 {
		t.Error("a fault was not found")
	}
}

func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

func TestDockerfile(t *testing.T) {
	text := read(t, "Dockerfile")
	wants := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "../go.mod"))
	if !strings.Contains(text, "FROM golang:"+wants[1]+"-") {
		t.Errorf("the image to build in is not of Go %s", wants[1])
	}
	exposed := strings.Fields(regexp.MustCompile(`(?m)^EXPOSE (.*)$`).FindStringSubmatch(text)[1])
	c := document[composition](t, "compose.yaml", read(t, "compose/compose.yaml"))
	for _, p := range exposed {
		if !strings.Contains(c.Configs["martlet"].Content, `":`+p+`"`) {
			t.Errorf("nobody listens on port %s", p)
		}
	}
	for _, line := range regexp.MustCompile(`(?m)^RUN .*go build.* (\S+)$`).FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join("..", strings.TrimSuffix(line[1], "\\"))); err != nil {
			t.Error(err)
		}
	}
}
