package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
)

const (
	tryNodesDir = "martlet-cluster"
	tryNodes    = 2
	nodeStep    = 10000 // from the ports of one node to those of the next

	// maxNodesBase leaves room for the highest port of the last node, and the database's.
	maxNodesBase = 65535 - 4190 - (tryNodes-1)*nodeStep
)

// nodeReady is a node as the line of --json has it.
type nodeReady struct {
	Name   string         `json:"name"`
	PID    int            `json:"pid"`
	Config string         `json:"config"`
	Ports  map[string]int `json:"ports"`
}

// databaseReady is the database that they share.
type databaseReady struct {
	PID  int `json:"pid"`
	Port int `json:"port"`
}

// tryCluster is one run of try with several nodes on one database.
type tryCluster struct {
	*tryout
	out, errOut io.Writer
	json        bool
	log         *slog.Logger
	database    *database
	nodes       []*tryNode
}

// tryNode is one of them.
type tryNode struct {
	*child
	config string
	base   int
	ports  map[string]int
}

// runTryNodes runs the nodes as processes of their own, so that one can be killed and the
// other seen to go on.
func runTryNodes(cmd *cobra.Command, t *tryout) error {
	c := &tryCluster{tryout: t, out: cmd.OutOrStdout(), errOut: cmd.ErrOrStderr(), json: wantsJSON(cmd), log: newLog(cmd.ErrOrStderr(), conf.Default().Log)}
	beServer()
	if os.Geteuid() == 0 { // PostgreSQL's user is to come through those that are made on the way
		_ = os.MkdirAll(filepath.Dir(t.dir), 0o711) // if it fails the next does, too
	}
	if err := makeFolder(t.dir); err != nil {
		return failed("cannot make the folder %s: %v; choose another with --dir", t.dir, err)
	}
	lock, err := files.FS.Lock(filepath.Join(t.dir, "try.lock"))
	if err != nil {
		return failed("another martlet try runs on %s; stop it, or try another folder with --dir and --port-base", t.dir)
	}
	defer lock.Close()
	if err := c.prepare(cmd.Context()); err != nil {
		return err
	}
	defer c.stop()
	if err := c.start(cmd.Context()); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, kept := range append([]*child{c.database.server}, c.nodes[0].child, c.nodes[1].child) {
		wg.Go(func() { kept.keep(cmd.Context()) })
	}
	<-cmd.Context().Done()
	c.stop()
	wg.Wait()
	return nil
}

// prepare makes what is missing of certificates, database and configurations. What is left
// of an earlier run ends first: it has the ports.
func (c *tryCluster) prepare(ctx context.Context) (err error) {
	if c.database, err = newDatabase(filepath.Join(c.dir, "postgres"), c.databasePort(), c.errOut, c.log); err != nil {
		return err
	}
	for i := range tryNodes {
		c.nodes = append(c.nodes, c.newNode(i))
	}
	if err := errors.Join(c.awaitLeft(ctx), c.database.stopLeft()); err != nil {
		return err
	}
	if err := c.portsFree(); err != nil {
		return err
	}
	if err := c.ca.ensure(); err != nil {
		return err
	}
	if err := c.database.prepare(); err != nil {
		return err
	}
	for _, n := range c.nodes {
		if err := c.configure(n); err != nil {
			return err
		}
	}
	return nil
}

func (c *tryCluster) newNode(i int) *tryNode {
	name := "node" + strconv.Itoa(i+1)
	n := &tryNode{config: filepath.Join(c.dir, name+".toml"), base: c.base + i*nodeStep}
	n.child = &child{name: name, out: c.errOut, log: c.log, stop: syscall.SIGTERM, make: func() *exec.Cmd {
		self, err := os.Executable()
		if err != nil {
			self = os.Args[0]
		}
		args := []string{"try", "--json", "--node", n.config}
		if c.moved {
			args = append(args, "--port-base", strconv.Itoa(n.base))
		}
		cmd := exec.Command(self, args...)
		ownProcess(cmd, nil, syscall.SIGTERM)
		return cmd
	}}
	return n
}

// awaitLeft waits for nodes whose try was killed: they end by themselves.
func (c *tryCluster) awaitLeft(ctx context.Context) error {
	for _, n := range c.nodes {
		lock := filepath.Join(c.dir, n.name, "node.lock")
		for deadline := time.Now().Add(2 * stopWithin); lockHolder(lock) > 0; {
			if time.Now().After(deadline) {
				return failed("%s still runs as %s; stop it, or try another folder with --dir and --port-base", n.name, processName(lockHolder(lock)))
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

// portsFree looks whether nobody has the ports that all of this needs, before any of it is
// made.
func (c *tryCluster) portsFree() error {
	for _, n := range c.nodes {
		blocks := conf.Default().Listen
		if cfg, _, err := loadConfigFile(n.config); err == nil && !c.moved {
			blocks = cfg.Listen
		} else {
			for _, s := range offered() {
				blocks = append(blocks, conf.Listen{Protocol: s.protocol, Address: conf.Address(net.JoinHostPort("127.0.0.1", strconv.Itoa(n.base+s.port)))})
			}
		}
		doors, err := openDoors(blocks)
		closeDoors(doors)
		if err != nil {
			what, _, _ := strings.Cut(describe(err), ";")
			return failed("%s; stop it, or choose other ports: martlet try --store postgres --port-base %d", what, (c.base+1000)%(maxNodesBase-1000))
		}
	}
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", c.database.port))
	if err != nil {
		who := "another process"
		if pid := portHolder(c.database.port); pid > 0 {
			who = processName(pid)
		}
		return failed("port %d, on which the database is to listen, is taken by %s; stop it, or choose another folder with --dir and other ports with --port-base", c.database.port, who)
	}
	return ln.Close()
}

// configure writes the configuration of a node, once. One that is there is used as it is.
func (c *tryCluster) configure(n *tryNode) error {
	_, err := os.Stat(n.config)
	switch {
	case os.IsNotExist(err):
		return writeFile(n.config, []byte(c.nodeConfig(n)), 0o600)
	case err != nil:
		return failed("cannot read %s: %v", n.config, err)
	}
	cfg, _, err := loadConfigFile(n.config)
	if err == nil && cfg.Store.URL != c.database.url() {
		return failed("%s does not name the database of this folder; remove it, and it is made again", n.config)
	}
	return err
}

// databasePort is where configurations that are there have the database; --port-base moves
// only what nodes listen on.
func (c *tryCluster) databasePort() int {
	if cfg, _, err := loadConfigFile(filepath.Join(c.dir, "node1.toml")); err == nil {
		if at, err := url.Parse(cfg.Store.URL); err == nil {
			if port, err := strconv.Atoi(at.Port()); err == nil {
				return port
			}
		}
	}
	return c.base + tryDatabasePort
}

func (c *tryCluster) nodeConfig(n *tryNode) string {
	head, tail, _ := strings.Cut(tryConfig(n.base), "data = \"data\"\n")
	head = strings.Replace(head, "# Configuration of a try-out server;", "# Configuration of a node of a try-out;", 1)
	return head + fmt.Sprintf("data = %q\n", n.name) + tail + fmt.Sprintf(`
[store]
engine = "postgres"
url = %q

[cluster]
node = %q
leave = "0"
`, c.database.url(), n.name)
}

// start starts the database and then the nodes, and tells when all are ready.
func (c *tryCluster) start(ctx context.Context) error {
	if err := c.database.start(ctx); err != nil {
		return err
	}
	people, err := c.settle(ctx)
	if err != nil {
		return err
	}
	for _, n := range c.nodes {
		if err := n.begin(ctx); err != nil {
			return err
		}
	}
	first := c.nodes[0]
	r := readiness{Ready: true, Dir: c.dir, Config: first.config, CA: c.ca.caFile(), Domain: tryDomain, Accounts: people, Ports: first.ports,
		Database: &databaseReady{PID: c.database.server.pid(), Port: c.database.port}}
	for _, n := range c.nodes {
		r.Nodes = append(r.Nodes, nodeReady{Name: n.name, PID: n.pid(), Config: n.config, Ports: n.ports})
	}
	if c.json {
		return printJSON(c.out, r)
	}
	return r.card(c.out)
}

// settle makes domain, accounts and first messages, as a command would.
func (c *tryCluster) settle(ctx context.Context) ([]person, error) {
	cfg, _, err := loadConfigFile(c.nodes[0].config)
	if err != nil {
		return nil, err
	}
	h, err := openHouse(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	people, err := c.people(ctx, h)
	return people, errors.Join(err, h.close())
}

// begin starts a node and waits until it is ready.
func (n *tryNode) begin(ctx context.Context) error {
	ready := make(chan map[string]int, 1)
	err := n.start(func(line string) {
		var r struct {
			Ports map[string]int `json:"ports"`
		}
		if json.Unmarshal([]byte(line), &r) == nil && r.Ports != nil {
			select {
			case ready <- r.Ports:
			default:
			}
		}
	})
	if err != nil {
		return failed("cannot start %s: %v", n.name, err)
	}
	select {
	case n.ports = <-ready:
		return nil
	case <-n.died():
		return failed("%s does not start: %s", n.name, strings.TrimPrefix(n.last(), "martlet: "))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop ends the nodes, and then the database under them, within the time that a stop has.
func (c *tryCluster) stop() {
	deadline := time.Now().Add(stopWithin)
	var wg sync.WaitGroup
	for _, n := range c.nodes {
		wg.Go(func() { n.end(stopWithin - 300*time.Millisecond) })
	}
	wg.Wait()
	c.database.server.end(max(time.Until(deadline), 300*time.Millisecond))
}

// runTryNode is one of these processes. It ends when its standard input does: then the one that
// has started it is gone.
func runTryNode(cmd *cobra.Command, path string) error {
	cfg, full, err := loadConfigFile(path)
	if err != nil {
		return err
	}
	if cmd.Flags().Changed("port-base") {
		base, _ := cmd.Flags().GetInt("port-base")
		moveListeners(cfg.Listen, base)
	}
	cfg.Queue.AllowPrivate = true // as with one node
	beServer()
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, cmd.InOrStdin())
		stop()
	}()
	doors, err := openDoors(cfg.Listen)
	if err != nil {
		return err
	}
	defer closeDoors(doors)
	h, err := openToServe(ctx, cfg, newLog(cmd.ErrOrStderr(), cfg.Log))
	if err != nil {
		return err
	}
	h.trying = tryDomain
	return h.serve(ctx, doors, func() error {
		return printJSON(cmd.OutOrStdout(), map[string]any{"ready": true, "config": full, "ports": ports(doors)})
	})
}
