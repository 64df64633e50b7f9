package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const postgresBin = "/usr/lib/postgresql/15/bin"

// cluster runs the scripts of the composition on this machine's PostgreSQL.
type cluster struct {
	t        *testing.T
	dir      string
	as       *syscall.Credential // who runs it: PostgreSQL refuses root
	port     string
	password string
}

func newCluster(t *testing.T) *cluster {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	if _, err := os.Stat(postgresBin + "/initdb"); err != nil {
		t.Skip("postgresql-15 is not installed")
	}
	dir, err := os.MkdirTemp("", "deploy-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &cluster{t: t, dir: dir, port: freePort(t), password: "s3cret"}
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Skip("there is no user postgres")
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		c.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	for _, script := range []string{"primary-init.sh", "standby.sh"} { // the tree need not be readable by everybody
		if err := os.WriteFile(filepath.Join(dir, script), []byte(read(t, "compose/"+script)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// command is one that runs as the database's user in the environment that the composition gives.
func (c *cluster) command(data, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = c.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.as, Setpgid: true}
	cmd.Env = []string{"PATH=" + postgresBin + ":/usr/bin:/bin", "PGDATA=" + filepath.Join(c.dir, data), "PGHOST=" + c.dir, "PGPORT=" + c.port,
		"POSTGRES_USER=martlet", "POSTGRES_DB=martlet", "POSTGRES_PASSWORD=" + c.password, "REPLICATION_PASSWORD=" + c.password,
		"PRIMARY=127.0.0.1", "PRIMARY_PORT=" + c.port}
	return cmd
}

func (c *cluster) run(data, name string, args ...string) string {
	c.t.Helper()
	out, err := c.command(data, name, args...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (c *cluster) sql(text string) string {
	c.t.Helper()
	return c.run("primary", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "martlet", "-d", "martlet", "-c", text)
}

// serve starts a server in the background and stops it at the end of the test.
func (c *cluster) serve(cmd *exec.Cmd) (stop func()) {
	c.t.Helper()
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := false
	stop = func() {
		if !ended {
			ended = true
			cmd.Process.Signal(syscall.SIGINT) // fast shutdown
			cmd.Wait()
		}
	}
	c.t.Cleanup(stop)
	return stop
}

// until waits for something that comes within seconds.
func (c *cluster) until(what string, ok func() bool) {
	c.t.Helper()
	for range 300 {
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(c.dir, "log"))
	c.t.Fatalf("%s did not come\n%s", what, log)
}

func (c *cluster) ready() bool {
	return c.command("primary", "pg_isready", "-q", "-U", "martlet").Run() == nil
}

// The scripts make what they promise: a standby that the primary waits for, so that a commit
// is not acknowledged while it is away, and comes back as one after a restart.
func TestScriptsOfTheDatabase(t *testing.T) {
	c := newCluster(t)
	c.run("primary", "initdb", "-U", "martlet", "--auth=trust", "--no-sync")
	// As the image's entrypoint does: a private server, the script, and then the real one.
	private := []string{"-k", c.dir, "-p", c.port, "-c", "fsync=off", "-c"}
	stop := c.serve(c.command("primary", "postgres", append(private, "listen_addresses=")...))
	c.until("the private server", c.ready)
	c.run("primary", "createdb", "-U", "martlet", "martlet")
	c.run("primary", "bash", "primary-init.sh")
	stop()
	end := c.serve(c.command("primary", "postgres", append(private, "listen_addresses=127.0.0.1")...))
	c.until("the primary", c.ready)

	port := freePort(t)
	standby := func() func() {
		return c.serve(c.command("standby", "bash", "standby.sh", "-k", c.dir, "-p", port, "-c", "listen_addresses=", "-c", "fsync=off"))
	}
	stop = standby()
	state := func() string {
		return c.sql("SELECT application_name || ' ' || sync_state FROM pg_stat_replication WHERE state = 'streaming'")
	}
	c.until("the standby", func() bool { return state() == "standby sync" })
	c.sql("CREATE TABLE kept (n int)")
	stop()
	c.until("its end", func() bool { return state() == "" })

	// Nobody acknowledges this until the standby is there again.
	write := c.command("primary", "psql", "-XAtq", "-U", "martlet", "-d", "martlet", "-c", "INSERT INTO kept VALUES (1)")
	if err := write.Start(); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() { answered <- write.Wait() }()
	c.until("the wait for the standby", func() bool {
		return c.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "1"
	})
	select {
	case err := <-answered:
		t.Fatal("acknowledged without a standby: ", err)
	default:
	}
	standby()
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if n := c.sql("SELECT count(*) FROM kept"); n != "1" {
		t.Error(fmt.Sprint(n, " rows"))
	}

	end()
	c.promoted(port)
}

// promoted does what the composition says of a primary that is gone for good, and writes.
func (c *cluster) promoted(port string) {
	c.t.Helper()
	c.port = port
	const says = "#   docker compose exec -u postgres standby "
	steps := 0
	for line := range strings.Lines(read(c.t, "compose/compose.yaml")) {
		if step, ok := strings.CutPrefix(line, says); ok {
			c.run("standby", "bash", "-c", step)
			steps++
		}
	}
	if steps == 0 {
		c.t.Fatal("the composition does not say how the standby takes over")
	}
	write := c.command("standby", "psql", "-XAtq", "-U", "martlet", "-c", "INSERT INTO kept VALUES (2)")
	if err := write.Start(); err != nil {
		c.t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() { answered <- write.Wait() }()
	var err error
	c.until("an answer of the standby that took over", func() bool {
		select {
		case err = <-answered:
			return true
		default:
			return false
		}
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if n := c.sql("SELECT count(*) FROM kept"); n != "2" {
		c.t.Error(n, " rows after the change of primary")
	}
}
