package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// bin is where Debian puts PostgreSQL's programs.
const bin = "/usr/lib/postgresql/15/bin"

// Password of the databases' users.
const Password = "correct-horse"

// Database is a machine with PostgreSQL under Patroni, and a member of etcd.
type Database struct {
	*lab.Host
	Name    string
	Etcd    *Program
	Patroni *Program

	lab *Lab
}

// address of PostgreSQL and of Patroni; etcdAddress that of etcd, so that a fault can tell
// them apart.
func (d *Database) address() string     { return d.IPv4.String() }
func (d *Database) etcdAddress() string { return strings.TrimSuffix(d.address(), ".10") + ".11" }
func (d *Database) fast() string        { return filepath.Join(d.Dir, "fast") }

// What all may take: bounded, so that it can be filled.
const databaseRoom = "700m"

// startDatabases starts etcd and Patroni on each, and waits for a primary whose replicas
// follow.
func (l *Lab) startDatabases() error {
	var members, clients []string
	for _, d := range l.Databases {
		members = append(members, fmt.Sprintf("%s=http://%s:2380", d.Name, d.etcdAddress()))
		clients = append(clients, d.etcdAddress()+":2379")
	}
	var etcds, patronis []func() error
	for _, d := range l.Databases {
		if err := d.prepare(members, clients); err != nil {
			return err
		}
		etcds, patronis = append(etcds, d.Etcd.Start), append(patronis, d.Patroni.Start)
	}
	if err := together(etcds...); err != nil {
		return err
	}
	if err := together(patronis...); err != nil {
		return err
	}
	return l.AwaitDatabases(90 * time.Second)
}

// prepare writes what a database machine needs.
func (d *Database) prepare(members, clients []string) error {
	script := fmt.Sprintf("ip addr add %s/15 dev eth0\nmkdir -p %[2]s\nmount -t tmpfs -o size=%[3]s,mode=755 tmpfs %[2]s\nmkdir -m 700 %[2]s/etcd %[2]s/data %[2]s/run\nchown postgres %[2]s/data %[2]s/run", d.etcdAddress(), d.fast(), databaseRoom)
	if _, err := d.Output("sh", "-ec", script); err != nil {
		return err
	}
	here := d.etcdAddress()
	d.Etcd = &Program{Host: d.Host, Name: "etcd", ready: d.Answers(here + ":2379"), args: []string{"etcd", "--name", d.Name, "--data-dir", d.fast() + "/etcd",
		"--listen-peer-urls", "http://" + here + ":2380", "--initial-advertise-peer-urls", "http://" + here + ":2380",
		"--listen-client-urls", "http://" + here + ":2379", "--advertise-client-urls", "http://" + here + ":2379",
		"--initial-cluster", strings.Join(members, ","), "--initial-cluster-state", "new", "--enable-v2", "--heartbeat-interval", "200", "--election-timeout", "2000"}}
	conf, err := write(d.Host, "patroni.yml", fmt.Sprintf(patroniConf, d.Name, d.address(), strings.Join(clients, ","), d.fast(), !d.lab.opt.Asynchronous, Password, bin))
	d.Patroni = &Program{Host: d.Host, Name: "patroni", ready: d.Answers(d.address() + ":8008"),
		args: []string{"setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", "env", "HOME=" + d.fast() + "/data", "patroni", conf}}
	return err
}

// The settings are those that docs/cluster.md recommends, with times at the short end: a
// replica that is silent for five seconds is no replica, a leader for twenty no leader. etcd is
// spoken to by its API 2: over API 3 this Patroni watches without an end of time, and a primary
// whose machine stood still for a while works with what it knew before for good, so that its
// replica is never noted as synchronous, and nobody may take over from it.
const patroniConf = `
scope: martlet
name: %[1]s
restapi:
  listen: %[2]s:8008
  connect_address: %[2]s:8008
etcd:
  hosts: %[3]s
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 3
    retry_timeout: 5
    maximum_lag_on_failover: 1048576
    synchronous_mode: %[5]v
    synchronous_mode_strict: %[5]v
    postgresql:
      use_pg_rewind: true
      use_slots: true
      parameters:
        max_connections: 100
        shared_buffers: 32MB
        max_wal_size: 96MB
        min_wal_size: 32MB
        wal_keep_size: 64MB
        max_slot_wal_keep_size: 128MB
        wal_sender_timeout: 5s
        wal_receiver_timeout: 5s
        tcp_keepalives_idle: 5
        tcp_keepalives_interval: 2
        tcp_keepalives_count: 3
        tcp_user_timeout: 10s
        autovacuum_naptime: 10s
        log_line_prefix: '%%m [%%p] '
  initdb:
  - encoding: UTF8
  - locale: C.UTF-8
  - data-checksums
  pg_hba:
  - local all all trust
  - host all all 198.20.0.0/15 scram-sha-256
  - host replication all 198.20.0.0/15 scram-sha-256
postgresql:
  listen: %[2]s:5432
  connect_address: %[2]s:5432
  data_dir: %[4]s/data/main
  bin_dir: %[7]s
  pgpass: %[4]s/run/pgpass
  remove_data_directory_on_rewind_failure: true
  remove_data_directory_on_diverged_timelines: true
  parameters:
    unix_socket_directories: %[4]s/run
  authentication:
    superuser:
      username: postgres
      password: %[6]s
    replication:
      username: replicator
      password: %[6]s
    rewind:
      username: rewind
      password: %[6]s
watchdog:
  mode: "off"
`

// member is what Patroni says of a database.
type member struct {
	Name, Role, State string
	Timeline          int
	Lag               any
}

// members asks each Patroni in turn what it knows of all.
func (l *Lab) members() (all []member) {
	for _, d := range l.Databases {
		text, err := d.ask("/cluster")
		var answer struct{ Members []member }
		if err == nil && json.Unmarshal([]byte(text), &answer) == nil && len(answer.Members) > 0 {
			return answer.Members
		}
	}
	return nil
}

// ask asks a database's Patroni something, from the client's machine.
func (d *Database) ask(path string) (string, error) {
	return get(d.lab.Client, "http://"+d.address()+":8008"+path)
}

// get asks a web server something, as a host sees it. Any answer but 200 is an error.
func get(from *lab.Host, url string) (string, error) {
	c := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DialContext: from.DialContext, DisableKeepAlives: true}}
	r, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, r.Status)
	}
	return string(text), err
}

// Primary returns the database whose Patroni says that it is the primary, nil if none does.
func (l *Lab) Primary() *Database {
	for _, d := range l.Databases {
		if _, err := d.ask("/primary"); err == nil {
			return d
		}
	}
	return nil
}

// Standby returns the database that the primary waits for, nil if there is none.
func (l *Lab) Standby() *Database {
	for _, m := range l.members() {
		for _, d := range l.Databases {
			if m.Role == "sync_standby" && d.Name == m.Name {
				return d
			}
		}
	}
	return nil
}

// Other returns a database that is none of these.
func (l *Lab) Other(than ...*Database) *Database {
next:
	for _, d := range l.Databases {
		for _, t := range than {
			if d == t {
				continue next
			}
		}
		return d
	}
	return nil
}

// AwaitDatabases waits until there is a primary that two replicas follow on its timeline, one
// of them synchronously unless the lab is asynchronous, and have done so for some seconds:
// what Patroni says of the others is some seconds old.
func (l *Lab) AwaitDatabases(most time.Duration) error {
	since := time.Now()
	err := await("primary with two replicas", most, func() bool {
		if !l.following() {
			since = time.Now()
		}
		return time.Since(since) > settling
	})
	if err != nil {
		return fmt.Errorf("%w: %v", err, l.members())
	}
	return nil
}

const settling = 5 * time.Second

func (l *Lab) following() bool {
	parts, timelines := map[string]int{}, map[int]bool{}
	for _, m := range l.members() {
		if m.State == "running" || m.State == "streaming" {
			parts[m.Role]++
			timelines[m.Timeline] = true
		}
	}
	return len(timelines) == 1 && parts["leader"] == 1 && (parts["sync_standby"] == 1 && parts["replica"] == 1 || l.opt.Asynchronous && parts["replica"] == 2)
}

// postgres is what is in the command line of each process of PostgreSQL; its children
// name themselves anew.
const postmaster, backends = bin + "/postgres", "postgres: martlet"

// KillPostgres kills the server and all that belongs to it.
func (d *Database) KillPostgres() error {
	defer signal(d.Host, backends, syscall.SIGKILL)
	return signal(d.Host, postmaster, syscall.SIGKILL)
}

// SignalPostgres tells the server and all that belongs to it something.
func (d *Database) SignalPostgres(s syscall.Signal) error {
	return errors.Join(signal(d.Host, postmaster, s), signal(d.Host, backends, s))
}

// Kill ends all that runs there, as a power cut does.
func (d *Database) Kill() error {
	d.Patroni.Kill()
	err := d.KillPostgres()
	d.Etcd.Kill()
	return err
}

// Revive starts it all again.
func (d *Database) Revive() error { return errors.Join(d.Etcd.Start(), d.Patroni.Start()) }

// Signal tells all that runs there something.
func (d *Database) Signal(s syscall.Signal) error {
	d.Etcd.Signal(s)
	d.Patroni.Signal(s)
	return d.SignalPostgres(s)
}

// URL is how nodes find the primary among all databases.
func (l *Lab) URL() string {
	var hosts []string
	for _, d := range l.Databases {
		hosts = append(hosts, net.JoinHostPort(d.address(), "5432"))
	}
	return "postgres://postgres:" + Password + "@" + strings.Join(hosts, ",") + "/postgres?target_session_attrs=read-write&sslmode=disable&connect_timeout=2"
}

// ProxyURL is the way to it through HAProxy.
func (l *Lab) ProxyURL() string {
	return "postgres://postgres:" + Password + "@" + l.Proxy.Host.IPv4.String() + ":5432/postgres?sslmode=disable&connect_timeout=2"
}
