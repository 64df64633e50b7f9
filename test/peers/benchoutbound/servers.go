package main

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	peerbench "github.com/martlet-mail/martlet/internal/bench"
	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/peers/postfix"
)

func start(kind string, s settings, dir, relay string) (server, error) {
	if kind == "martlet" {
		return startMartlet(s, dir, relay)
	}
	return startPostfix(s, dir, relay)
}

type ours struct{ *martlet.Server }

func startMartlet(s settings, dir, relay string) (server, error) {
	host, port, _ := net.SplitHostPort(relay)
	m, err := martlet.Start(martlet.Options{Binary: s.binary, Dir: dir, Serve: true, Set: map[string]string{
		"queue.concurrency":            strconv.Itoa(s.connections),
		"queue.concurrency_per_domain": strconv.Itoa(s.connections),
		"queue.smarthost.host":         strconv.Quote(host),
		"queue.smarthost.port":         port,
		"queue.smarthost.tls":          `"none"`,
	}})
	if err != nil {
		return nil, err
	}
	setting := "sign-with=" + s.sign
	if s.sign == "none" {
		setting = "sign=no"
	}
	if _, err := m.Command("domain", "set", m.Domain, setting); err != nil {
		return nil, errors.Join(err, m.Stop())
	}
	return ours{m}, nil
}

func (o ours) name() string { return "Martlet" }
func (o ours) pid() int     { return o.PID }
func (o ours) stop() error  { return o.Stop() }

func (o ours) load() target {
	a := o.Account("alice")
	return target{o.Addr("submission"), a.Address, a.Password, a.Address}
}

// hold needs nothing: after the first connection is refused the rest waits untried.
func (o ours) hold() error { return nil }

func (o ours) flow() error {
	_, err := o.Command("queue", "retry", "--all")
	return err
}

type theirs struct {
	*postfix.Server
	etc string
}

func startPostfix(s settings, dir, relay string) (server, error) {
	p, err := postfix.New(postfix.Options{Dir: dir, Domain: "peer.test", Users: []string{"pia"}, RelayDomain: ".sink.test", RelayTo: relay})
	if err != nil {
		return nil, err
	}
	t := theirs{p, filepath.Join(dir, "etc")}
	n := strconv.Itoa(s.connections)
	err = t.set("default_destination_concurrency_limit="+n, "initial_destination_concurrency="+n, "default_process_limit="+n,
		"relay_domains=sink.test", "smtpd_client_connection_count_limit=0")
	if err != nil {
		return nil, err
	}
	return t, p.Start()
}

func (t theirs) set(values ...string) error {
	out, err := exec.Command("postconf", append([]string{"-c", t.etc, "-e"}, values...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("postconf: %w: %s", err, out)
	}
	return nil
}

func (t theirs) name() string { return "Postfix" }
func (t theirs) pid() int     { return t.PID }
func (t theirs) stop() error  { t.Stop(); return nil }
func (t theirs) load() target { return target{addr: t.Addr, sender: "pia@peer.test"} }

func (t theirs) reload() error {
	out, err := exec.Command("postfix", "-c", t.etc, "reload").CombinedOutput()
	if err != nil {
		return fmt.Errorf("postfix reload: %w: %s", err, out)
	}
	return nil
}

func (t theirs) hold() error {
	if err := t.set("defer_transports=smtp"); err != nil {
		return err
	}
	return t.reload()
}

func (t theirs) flow() error {
	if err := t.set("defer_transports="); err != nil {
		return err
	}
	if err := t.reload(); err != nil {
		return err
	}
	out, err := exec.Command("postqueue", "-c", t.etc, "-f").CombinedOutput()
	if err != nil {
		return fmt.Errorf("postqueue: %w: %s", err, out)
	}
	return nil
}

// processorTime is what a process and all that descend from it have used, 0 if it is gone.
func processorTime(pid int) time.Duration {
	used, _ := peerbench.ProcessorTime(pid)
	return used
}
