package main

import (
	"fmt"

	"github.com/martlet-mail/martlet/internal/bench"
	"github.com/martlet-mail/martlet/test/peers/dovecot"
	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// server is one that is measured.
type server struct {
	target bench.Target
	others []string // recipients besides
	stop   func()
}

// spread is how many accounts the deliveries go to that are not all to one.
const spread = 10

// start runs the server called name in dir. To be filled, Dovecot need not sync.
func start(name, dir, binary string, filling bool) (*server, error) {
	if name == "martlet" {
		return startMartlet(dir, binary)
	}
	run := dovecot.Start
	if filling {
		run = dovecot.StartUnsynced
	}
	d, err := run(dir, dovecot.Format(name))
	if err != nil {
		return nil, err
	}
	s := &server{stop: d.Stop, target: bench.Target{IMAP: d.IMAP, LMTP: d.LMTP,
		User: "alice@martlet.test", Password: dovecot.Password, PID: d.PID}}
	for i := range spread {
		s.others = append(s.others, fmt.Sprintf("user%d@martlet.test", i))
	}
	return s, nil
}

func startMartlet(dir, binary string) (*server, error) {
	opt := martlet.Options{Binary: binary, Dir: dir, Set: settings}
	for i := range spread {
		opt.Accounts = append(opt.Accounts, fmt.Sprintf("user%d", i))
	}
	m, err := martlet.Start(opt)
	if err != nil {
		return nil, err
	}
	alice := m.Account("alice")
	s := &server{stop: func() { m.Stop() }, target: bench.Target{IMAP: m.Addr("imap"), LMTP: m.Addr("lmtp"),
		User: alice.Address, Password: alice.Password, PID: m.PID}}
	for i := range spread {
		s.others = append(s.others, m.Account(fmt.Sprintf("user%d", i)).Address)
	}
	return s, nil
}

// configuration returns what the report shows of a server's configuration.
func configuration(name string) string {
	if name != "martlet" {
		return dovecot.Text(dovecot.Format(name))
	}
	text := "# as written by `martlet try`, and\n"
	for k, v := range settings {
		text += k + " = " + v + "\n"
	}
	return text
}

// settings are what differs from what `martlet try` writes: the limits that a load by
// one account meets.
var settings = map[string]string{"limits.connections_per_account": "10000"}
