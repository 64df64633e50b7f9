package main

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/martlet-mail/martlet/test/peers/process"
)

// database is a private PostgreSQL, with every commit synced to its disk, and with a
// synchronous standby beside it if that is wanted.
type database struct {
	dir     string
	bin     string
	port    string
	as      *syscall.Credential
	profile bool
	primary *process.Process
	standby *process.Process
}

// settings of PostgreSQL that differ from Debian's.
var tuned = []string{"shared_buffers=512MB", "max_wal_size=4GB", "checkpoint_timeout=15min", "max_connections=200", "wal_compression=lz4"}

func newDatabase(dir string, standby, profile bool) (*database, error) {
	all, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(all) == 0 {
		return nil, fmt.Errorf("postgresql is not installed (test/deps.sh)")
	}
	d := &database{dir: dir, bin: filepath.Dir(all[len(all)-1]), profile: profile}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if os.Getuid() == 0 {
		d.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	for _, sub := range []string{"", "socket"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
		if err := os.Chown(filepath.Join(dir, sub), uid, gid); err != nil {
			return nil, err
		}
	}
	ports, err := process.FreePorts(1)
	if err != nil {
		return nil, err
	}
	d.port = ports[0]
	if err := d.tool("initdb", "-D", filepath.Join(dir, "primary"), "-A", "trust", "-U", "martlet", "-E", "UTF8", "--locale=C"); err != nil {
		return nil, err
	}
	if err := d.start(); err != nil {
		return nil, err
	}
	if err := d.tool("createdb", "-h", d.socket(), "-p", d.port, "-U", "martlet", "martlet"); err != nil {
		return nil, err
	}
	if standby {
		return d, d.follow()
	}
	return d, nil
}

func (d *database) socket() string { return filepath.Join(d.dir, "socket") }

func (d *database) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(d.bin, name), args...)
	cmd.Dir = d.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: d.as}
	return cmd
}

func (d *database) tool(name string, args ...string) error {
	if out, err := d.command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

func (d *database) serve(data, port string, settings ...string) (*process.Process, error) {
	args := []string{"-D", filepath.Join(d.dir, data), "-k", d.socket(), "-p", port, "-c", "listen_addresses=127.0.0.1"}
	if d.profile {
		settings = append(settings, "shared_preload_libraries=pg_stat_statements", "track_io_timing=on")
	}
	for _, s := range append(slices.Clone(tuned), settings...) {
		args = append(args, "-c", s)
	}
	return process.Start(d.command("postgres", args...), func() bool {
		return d.command("pg_isready", "-q", "-h", d.socket(), "-p", port).Run() == nil
	})
}

// start starts the primary.
func (d *database) start() (err error) {
	d.primary, err = d.serve("primary", d.port)
	return err
}

// follow makes the standby and has the primary wait for it.
func (d *database) follow() error {
	ports, err := process.FreePorts(1)
	if err != nil {
		return err
	}
	err = d.tool("pg_basebackup", "-D", filepath.Join(d.dir, "standby"), "-R", "-X", "stream", "-C", "-S", "standby", "-c", "fast",
		"-d", "host="+d.socket()+" port="+d.port+" user=martlet application_name=standby")
	if err != nil {
		return err
	}
	if d.standby, err = d.serve("standby", ports[0]); err != nil {
		return err
	}
	if _, err := d.query("ALTER SYSTEM SET synchronous_standby_names = 'standby'"); err != nil {
		return err
	}
	if _, err := d.query("SELECT pg_reload_conf()"); err != nil {
		return err
	}
	for range 100 {
		if s, _ := d.query("SELECT sync_state FROM pg_stat_replication"); s == "sync" {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("the standby does not follow")
}

// query returns what psql prints.
func (d *database) query(text string) (string, error) {
	out, err := d.command("psql", "-XAtq", "-h", d.socket(), "-p", d.port, "-U", "martlet", "-d", "martlet", "-c", text).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// number is a query for one.
func (d *database) number(text string) float64 {
	s, err := d.query(text)
	n, bad := strconv.ParseFloat(s, 64)
	if err != nil || bad != nil {
		fmt.Fprintln(os.Stderr, "benchcluster:", text, err, bad)
	}
	return n
}

// url leads nodes to the database.
func (d *database) url() string {
	return "postgres://martlet@127.0.0.1:" + d.port + "/martlet?" + url.Values{"sslmode": {"disable"}}.Encode()
}

// pids are those of the servers' masters.
func (d *database) pids() []int {
	out := []int{d.primary.PID}
	if d.standby != nil {
		out = append(out, d.standby.PID)
	}
	return out
}

// halt ends the primary in order, so that the next start is not a recovery.
func (d *database) halt() {
	d.primary.Signal(syscall.SIGINT)
	if !d.primary.Ended(20 * time.Second) {
		d.primary.Kill()
	}
}

func (d *database) stop() {
	if d.standby != nil {
		d.standby.Kill()
	}
	d.primary.Kill()
}
