package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// Domain is that of all accounts.
const Domain = "cluster.example"

// Numbers of the hosts in the world (see lab.Place).
const (
	firstDatabase = 11
	firstNode     = 21
	numberProxy   = 30
	numberS3      = 40
	numberClient  = 50
	numberSink    = 60
)

// Options say what to build.
type Options struct {
	Nodes        int      // of ours, two or three
	Asynchronous bool     // databases acknowledge what no replica has: only for the control
	Embedded     bool     // one node with all in its data folder, and no databases: to try the clients
	Accounts     []string // local parts
	Settings     []string // more lines of the configuration of each node, in [store]
}

// Lab is the machines.
type Lab struct {
	World     *lab.World
	Databases []*Database
	Nodes     []*Node
	Proxy     *Program // HAProxy
	S3        *ObjectStore
	Client    *lab.Host // where people are
	Sink      *Sink     // another mail host

	opt Options
}

// Unable says why there can be no lab here, nil if there can.
func Unable() error {
	if err := lab.Unable(); err != nil {
		return err
	}
	for _, p := range []string{"patroni", "etcd", "etcdctl", "haproxy", bin + "/postgres"} {
		if _, err := exec.LookPath(p); err != nil {
			if _, err := os.Stat("/usr/sbin/" + p); err != nil {
				return fmt.Errorf("there is no %s; run test/deps.sh", p)
			}
		}
	}
	if _, err := os.Stat(gateway()); err != nil {
		return errors.New("there is no versitygw; run test/deps.sh")
	}
	return nil
}

// root is the folder of the module.
func root() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "..")
}

func gateway() string { return filepath.Join(root(), "bin", "peers", "versitygw") }

// New builds the machines: databases first, then what needs them. Nodes are not started.
func New(o Options) (l *Lab, err error) {
	l = &Lab{opt: o}
	if l.World, err = lab.New(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, l.World.Logs(10))
			l.Close()
		}
	}()
	if err := l.World.DNS.AddZones(lab.Zone{Name: Domain, Trust: lab.Insecure}, lab.Zone{Name: sinkDomain, Trust: lab.Insecure}); err != nil {
		return nil, err
	}
	if err := l.hosts(); err != nil {
		return nil, err
	}
	if !o.Embedded {
		if err := l.startDatabases(); err != nil {
			return nil, err
		}
	}
	if err := l.S3.start(); err != nil {
		return nil, err
	}
	return l, l.startProxy()
}

// hosts brings all of them into the world.
func (l *Lab) hosts() (err error) {
	place := func(name string, number int) (h *lab.Host) {
		if err == nil {
			h, err = l.World.Host(name, lab.Place{Number: number, Only4: true})
		}
		return h
	}
	for i := range 3 {
		l.Databases = append(l.Databases, &Database{Host: place(fmt.Sprintf("db%d.%s", i+1, Domain), firstDatabase+i), Name: fmt.Sprintf("db%d", i+1), lab: l})
	}
	for i := range l.opt.Nodes {
		l.Nodes = append(l.Nodes, &Node{Host: place(fmt.Sprintf("node%d.%s", i+1, Domain), firstNode+i), Name: fmt.Sprintf("node%d", i+1), lab: l})
	}
	l.Proxy = &Program{Host: place("mx."+Domain, numberProxy), Name: "haproxy"}
	l.S3 = &ObjectStore{Host: place("s3."+Domain, numberS3)}
	l.Client = place("client."+Domain, numberClient)
	sink := place("mx."+sinkDomain, numberSink)
	if err != nil {
		return err
	}
	l.Sink, err = newSink(sink)
	return errors.Join(err, l.World.DNS.Set(sinkDomain, "MX", "10 mx."+sinkDomain+"."), l.World.DNS.Set(Domain, "MX", "10 mx."+Domain+"."))
}

// logs returns what the programs of a cluster have written lately.
func (l *Lab) logs(lines int) string {
	var b strings.Builder
	for _, h := range l.World.Hosts() {
		for _, name := range []string{"patroni", "etcd", "martlet", "versitygw", "haproxy"} {
			if text, err := os.ReadFile(filepath.Join(h.Dir, name+".log")); err == nil && len(text) > 0 {
				all := strings.SplitAfter(string(text), "\n")
				fmt.Fprintf(&b, "--- %s %s\n%s", h.Name, name, strings.Join(all[max(0, len(all)-lines-1):], ""))
			}
		}
	}
	return b.String()
}

// Close ends everything.
func (l *Lab) Close() { l.World.Close() }

// together does all at the same time.
func together(all ...func() error) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, one := range all {
		wg.Go(func() { errs[i] = one() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// await waits until something holds.
func await(what string, most time.Duration, holds func() bool) error {
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if holds() {
			return nil
		}
		if time.Since(began) > most {
			return fmt.Errorf("no %s within %v", what, most)
		}
	}
}

// write makes a file in a host's folder, which its programs may read.
func write(h *lab.Host, name, text string) (string, error) {
	path := filepath.Join(h.Dir, name)
	return path, os.WriteFile(path, []byte(strings.TrimLeft(text, "\n")), 0o644)
}
