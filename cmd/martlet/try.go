package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/fault"
)

const (
	tryDomain   = "martlet.test"
	tryDir      = "martlet-data"
	tryPortBase = 10000
)

type standardPort struct {
	protocol conf.Protocol
	port     int
}

// standardPorts are those of the protocols that try offers, in the order of the card.
var standardPorts = [...]standardPort{
	{"smtp", 25}, {"lmtp", 24}, {"submission", 587}, {"submissions", 465}, {"imap", 143}, {"imaps", 993},
	{"pop3", 110}, {"pop3s", 995}, {"sieve", 4190}, {"http", 80}, {"https", 443},
}

// maxPortBase leaves room for the highest of them.
const maxPortBase = 65535 - 4190

// offered are those whose protocols this program speaks.
func offered() []standardPort {
	return slices.DeleteFunc(slices.Clone(standardPorts[:]), func(s standardPort) bool { return !slices.Contains(spoken(), s.protocol) })
}

func newTryCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "try", Short: "Run a try-out server on this machine, no questions asked",
		Long: `Runs a mail server that only this machine can reach, with everything it needs in one
folder: a configuration, a store, a certificate authority with a certificate for
localhost, the domain ` + tryDomain + `, and the accounts alice and bob. Passwords,
certificates and mail are kept across restarts; a configuration that is there already
is used as it is. Passwords may travel without TLS, since they stay on this machine.

It prints a card with accounts, ports and commands to paste; with --json, one line of
JSON when every listener is ready. SIGTERM, SIGINT or Ctrl-C stop it.

With --store postgres it shows what several machines are like: it starts a PostgreSQL of its
own from the programs on this machine, and two nodes, which are processes of their own on ports
that are 10000 apart; the database listens on base + 5432. Kill a node, even with -9, and the
other goes on; after ten seconds it is started again.`,
		Example: `  martlet try
  martlet try --dir /tmp/mail --port-base 20000 --account carol
  martlet try --json | jq -r '.accounts[0].password'
  martlet try --store postgres`,
		Args: arguments(0, 0), RunE: runTry,
	}
	c.Flags().String("dir", tryDir, "folder for everything; made if missing (with --store postgres: "+tryNodesDir+")")
	c.Flags().Int("port-base", tryPortBase, "added to the standard port of each protocol: IMAP listens on base + 143")
	c.Flags().StringArray("account", nil, "one more account, such as carol; may be repeated")
	c.Flags().String("store", "pebble", "pebble, or postgres for two nodes on a database")
	c.Flags().String("node", "", "configuration of one node")
	_ = c.Flags().MarkHidden("node") // how the nodes are started
	return c
}

// tryout is one run of try.
type tryout struct {
	dir     string // absolute
	base    int
	moved   bool // --port-base was given
	nodes   bool // several, on a database
	names   []string
	cfg     *conf.Config
	created bool // the configuration was made by this run
	ca      localCA
}

func (t *tryout) config() string { return filepath.Join(t.dir, "martlet.toml") }

func runTry(cmd *cobra.Command, _ []string) error {
	if node, _ := cmd.Flags().GetString("node"); node != "" {
		return runTryNode(cmd, node)
	}
	t, err := newTryout(cmd)
	if err != nil {
		return err
	}
	if t.nodes {
		return runTryNodes(cmd, t)
	}
	beServer()
	if err := t.prepare(); err != nil {
		return err
	}
	doors, err := t.openDoors()
	if err != nil {
		return err
	}
	defer closeDoors(doors)
	h, err := openToServe(cmd.Context(), t.cfg, newLog(cmd.ErrOrStderr(), t.cfg.Log))
	if err != nil {
		return err
	}
	h.trying = tryDomain
	return h.serve(cmd.Context(), doors, func() error {
		people, err := t.people(cmd.Context(), h)
		if err != nil {
			return err
		}
		r := readiness{Ready: true, Dir: t.dir, Config: t.config(), CA: t.ca.caFile(), Domain: tryDomain, Accounts: people, Ports: ports(doors)}
		if wantsJSON(cmd) {
			return printJSON(cmd.OutOrStdout(), r)
		}
		return r.card(cmd.OutOrStdout())
	})
}

func newTryout(cmd *cobra.Command) (*tryout, error) {
	dir, _ := cmd.Flags().GetString("dir")
	base, _ := cmd.Flags().GetInt("port-base")
	names, _ := cmd.Flags().GetStringArray("account")
	if config, _ := cmd.Flags().GetString("config"); config != "" {
		return nil, misused("martlet try has its configuration in --dir; use martlet serve --config %s", config)
	}
	engine, _ := cmd.Flags().GetString("store")
	nodes, most := engine == "postgres", maxPortBase
	switch {
	case nodes:
		most = maxNodesBase
		if !cmd.Flags().Changed("dir") {
			dir = tryNodesDir
		}
	case engine != "pebble":
		return nil, misused("--store %q is neither pebble nor postgres", engine)
	}
	if base < 0 || base > most {
		return nil, misused("--port-base %d is not between 0 and %d", base, most)
	}
	full, err := filepath.Abs(dir)
	if err != nil {
		return nil, failed("cannot find the folder %s: %v", dir, err)
	}
	t := &tryout{dir: full, base: base, moved: cmd.Flags().Changed("port-base"), nodes: nodes, names: names}
	t.ca = localCA{dir: filepath.Join(full, "tls"), now: time.Now}
	return t, nil
}

// prepare makes what is missing of the folder, certificates and configuration.
func (t *tryout) prepare() error {
	if err := makeFolder(t.dir); err != nil {
		return failed("cannot make the folder %s: %v; choose another with --dir", t.dir, err)
	}
	if err := t.ca.ensure(); err != nil {
		return err
	}
	_, err := os.Stat(t.config())
	switch {
	case os.IsNotExist(err):
		t.created = true
		if err := writeFile(t.config(), []byte(tryConfig(t.base)), 0o600); err != nil {
			return err
		}
	case err != nil:
		return failed("cannot read %s: %v", t.config(), err)
	}
	if t.cfg, _, err = loadConfigFile(t.config()); err != nil {
		return err
	}
	if t.moved {
		moveListeners(t.cfg.Listen, t.base)
	}
	// Mail leaves this server only for hosts that somebody set up to try it with, and
	// those are on this machine or in its network.
	t.cfg.Queue.AllowPrivate = true
	return nil
}

// moveListeners gives listeners on loopback the port that belongs to a base: a flag
// holds against the file, which stays as it is.
func moveListeners(blocks []conf.Listen, base int) {
	moved := make(map[conf.Protocol]bool)
	for i := range blocks {
		b := &blocks[i]
		host, _, err := net.SplitHostPort(string(b.Address))
		if ip := net.ParseIP(host); err != nil || moved[b.Protocol] || b.Legacy || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			continue
		}
		for _, s := range standardPorts {
			if s.protocol == b.Protocol {
				b.Address = conf.Address(net.JoinHostPort(host, strconv.Itoa(base+s.port)))
				moved[b.Protocol] = true
			}
		}
	}
}

// openDoors binds the listeners. If one is taken, a configuration that was made for
// them goes again, so that the next run may choose other ports.
func (t *tryout) openDoors() ([]door, error) {
	doors, err := openDoors(t.cfg.Listen)
	if err == nil {
		return doors, nil
	}
	if t.created {
		os.Remove(t.config())
	}
	var taken *takenError
	if errors.As(err, &taken) {
		if taken.holder != 0 && taken.holder == lockHolder(engineLock(t.cfg)) {
			return nil, failed("%s already runs on %s; stop it, or try another folder with --dir and --port-base", processName(taken.holder), t.dir)
		}
		what, _, _ := strings.Cut(taken.text, ";")
		return nil, failed("%s; stop it, or choose other ports: martlet try --port-base %d", what, otherBase(t.base))
	}
	return nil, err
}

// otherBase returns a base that is likely free if the given one is not.
func otherBase(base int) int {
	if base < 20000 {
		return 20000
	}
	if base+10000 <= maxPortBase {
		return base + 10000
	}
	return tryPortBase
}

// tryConfig is the configuration that try writes. It has no tables that a person would
// want to add, so that adding them needs no look at what is there.
func tryConfig(base int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Configuration of a try-out server; "martlet try" uses it as it is and never writes
# it again. Every key with its meaning: martlet config show --config FILE

hostname = "mail.%s"
data = "data"
`, tryDomain)
	for _, s := range offered() {
		fmt.Fprintf(&b, "\n[[listen]]\nprotocol = %q\naddress = \"127.0.0.1:%d\"\n", s.protocol, base+s.port)
	}
	b.WriteString("\n[tls]\ncertificate = \"tls/cert.pem\"\nkey = \"tls/key.pem\"\n")
	return b.String()
}

// people makes the domain and the accounts, delivers the welcome messages, and returns
// who there is.
func (t *tryout) people(ctx context.Context, h *house) ([]person, error) {
	book, err := readBook(filepath.Join(t.dir, "accounts.json"))
	if err != nil {
		return nil, err
	}
	named := make(map[*entry]bool)
	for _, name := range append([]string{"alice", "bob"}, t.names...) {
		e, err := book.add(name)
		if err != nil {
			return nil, err
		}
		named[e] = true
	}
	// The passwords are on disk before anybody has them.
	if err := book.write(); err != nil {
		return nil, err
	}
	var all []person
	for _, e := range book.Accounts {
		exists, err := settle(ctx, h, e, named[e] || !e.Welcomed)
		if err != nil {
			return nil, err
		}
		if !exists {
			continue // removed by hand since
		}
		if err := book.welcome(ctx, h, e); err != nil {
			return nil, err
		}
		p, err := e.person(ctx, h)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// settle makes an account and its domain unless they are there, if it is wanted, and
// tells whether it exists now.
func settle(ctx context.Context, h *house, e *entry, wanted bool) (bool, error) {
	addr, err := e.address()
	if err != nil {
		return false, err
	}
	switch _, err := h.directory.Lookup(ctx, addr); {
	case err == nil:
		return true, nil
	case !fault.Is(err, fault.NotFound):
		return false, err
	case !wanted:
		return false, nil
	}
	if err := h.directory.AddDomain(ctx, addr.Domain); err != nil && !fault.Is(err, fault.Exists) {
		return false, err
	}
	e.Welcomed = false
	_, err = h.directory.AddAccount(ctx, addr, e.Password, noQuota)
	return err == nil, err
}
