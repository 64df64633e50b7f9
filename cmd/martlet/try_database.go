package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/martlet-mail/martlet/internal/serve/admin"
)

// tryDatabasePort is PostgreSQL's own port, to which the base is added.
const tryDatabasePort = 5432

// database is a PostgreSQL server of a try-out's own, in a folder of it.
type database struct {
	dir      string // holds data and password
	bin      string // folder of the programs
	port     int
	as       *processUser // whose processes they are; nil: ours
	password string
	server   *child
}

// findPostgres returns the folder of the newest PostgreSQL on this machine.
func findPostgres() (string, error) {
	var all []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			all = append(all, filepath.Dir(path))
		}
	}
	there, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // where Debian puts it, not on PATH
	newest := 0
	for _, dir := range there {
		if n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir))); n > newest {
			newest = n
			all = append(all[:min(len(all), 1)], dir)
		}
	}
	for _, dir := range all {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
			return dir, nil
		}
	}
	return "", failed("this machine has no PostgreSQL, neither on PATH nor in /usr/lib/postgresql/*/bin; install it: apt-get install postgresql; or run martlet try without --store")
}

// newDatabase is that of a folder. Nothing is made yet.
func newDatabase(dir string, port int, out io.Writer, log *slog.Logger) (*database, error) {
	bin, err := findPostgres()
	if err != nil {
		return nil, err
	}
	d := &database{dir: dir, bin: bin, port: port}
	if os.Geteuid() == 0 {
		if d.as, err = postgresUser(); err != nil {
			return nil, err
		}
	}
	d.server = &child{name: "postgres", make: d.command, out: out, log: log, stop: os.Interrupt}
	return d, nil
}

// postgresUser is who runs PostgreSQL where we are root, as whom it does not run.
func postgresUser() (*processUser, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, failed("PostgreSQL does not run as root, and this machine has no user postgres; run martlet try as another user")
	}
	uid, uerr := strconv.Atoi(u.Uid)
	gid, gerr := strconv.Atoi(u.Gid)
	return &processUser{uid: uid, gid: gid, groups: []uint32{uint32(gid)}}, errors.Join(uerr, gerr)
}

func (d *database) data() string { return filepath.Join(d.dir, "data") }

// url is the connection string of nodes.
func (d *database) url() string {
	at := url.URL{Scheme: "postgres", User: url.UserPassword("martlet", d.password), Host: fmt.Sprintf("127.0.0.1:%d", d.port), Path: "/martlet", RawQuery: "sslmode=disable"}
	return at.String()
}

// command is the server.
func (d *database) command() *exec.Cmd {
	cmd := d.program("postgres", "-D", d.data(), "-c", "listen_addresses=127.0.0.1", "-c", fmt.Sprintf("port=%d", d.port), "-c", "unix_socket_directories=",
		"-c", "logging_collector=off", "-c", "log_min_messages=fatal")
	return cmd
}

// program is one of PostgreSQL's, as the user who may run it.
func (d *database) program(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(d.bin, name), args...)
	cmd.Dir = d.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	ownProcess(cmd, d.as, syscall.SIGINT)
	return cmd
}

// prepare makes the folder, the password and the files of the database, once.
func (d *database) prepare() error {
	if err := d.folder(); err != nil {
		return err
	}
	file := filepath.Join(d.dir, "password")
	text, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		if d.password, err = admin.NewPassword(rand.Reader); err == nil {
			err = errors.Join(writeFile(file, []byte(d.password+"\n"), 0o600), d.own(file))
		}
		text = []byte(d.password)
	}
	if err != nil {
		return failed("cannot keep the database's password in %s: %v", file, err)
	}
	d.password = strings.TrimSpace(string(text))
	if _, err := os.Stat(d.data()); err == nil {
		return nil
	}
	fresh := d.data() + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return failed("cannot remove what an earlier start has left in %s: %v", fresh, err)
	}
	out, err := d.program("initdb", "-D", fresh, "-U", "martlet", "-A", "scram-sha-256", "--pwfile="+file, "-E", "UTF8", "--no-locale").CombinedOutput()
	if err != nil {
		return failed("PostgreSQL's initdb cannot make a database in %s: %v: %s", fresh, err, finalLine(string(out)))
	}
	if err := os.Rename(fresh, d.data()); err != nil {
		return failed("cannot move the database to %s: %v", d.data(), err)
	}
	return syncFolder(d.dir)
}

// folder makes the one that everything lies in, which PostgreSQL's user must reach.
func (d *database) folder() error {
	if err := makeFolder(d.dir); err != nil {
		return failed("cannot make the folder %s: %v", d.dir, err)
	}
	if d.as == nil {
		return nil
	}
	if err := errors.Join(os.Chmod(filepath.Dir(d.dir), 0o711), d.own(d.dir)); err != nil {
		return failed("cannot give %s to the user postgres: %v", d.dir, err)
	}
	for at := filepath.Dir(d.dir); ; at = filepath.Dir(at) {
		if info, err := os.Stat(at); err != nil || info.Mode().Perm()&0o001 == 0 {
			return failed("PostgreSQL does not run as root, and its user postgres may not enter %s; choose a folder that everybody may enter, such as --dir /var/tmp/martlet-cluster, or run martlet try as another user", at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// own gives a file to the database's user.
func (d *database) own(file string) error {
	if d.as == nil {
		return nil
	}
	return os.Chown(file, d.as.uid, d.as.gid)
}

// stopLeft ends a server that an earlier try has left, where the system does not do so.
func (d *database) stopLeft() error {
	if _, err := os.Stat(filepath.Join(d.data(), "postmaster.pid")); err != nil {
		return nil
	}
	if d.program("pg_ctl", "status", "-s", "-D", d.data()).Run() != nil {
		return nil // it does not run; the file is of one that was killed
	}
	for _, mode := range []string{"fast", "immediate"} {
		if d.program("pg_ctl", "stop", "-s", "-D", d.data(), "-m", mode, "-w", "-t", "5").Run() == nil {
			return nil
		}
	}
	return failed("the database in %s is still run by process %s of an earlier try; stop it", d.data(), d.postmaster())
}

func (d *database) postmaster() string {
	text, _ := os.ReadFile(filepath.Join(d.data(), "postmaster.pid"))
	pid, _, _ := strings.Cut(string(text), "\n")
	return pid
}

// databaseWait is how long a database may take to start: it may have to recover.
const databaseWait = time.Minute

// start starts the server and waits until it answers.
func (d *database) start(ctx context.Context) error {
	if err := d.server.start(nil); err != nil {
		return failed("cannot start PostgreSQL: %v", err)
	}
	died, deadline := d.server.died(), time.Now().Add(databaseWait)
	for {
		err := d.create(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-died:
			return failed("PostgreSQL does not start in %s: %s", d.data(), d.server.last())
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return failed("PostgreSQL in %s does not answer: %v", d.data(), err)
		}
	}
}

// create makes the database if it is not there.
func (d *database) create(ctx context.Context) error {
	first := strings.Replace(d.url(), "/martlet?", "/postgres?", 1)
	c, err := pgx.Connect(ctx, first)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, "CREATE DATABASE martlet")
	var there *pgconn.PgError
	if errors.As(err, &there) && there.Code == "42P04" { // duplicate_database
		return nil
	}
	return err
}

func finalLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
