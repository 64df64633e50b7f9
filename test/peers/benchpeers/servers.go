package main

import (
	"crypto/tls"
	"fmt"
	"path/filepath"

	"github.com/martlet-mail/martlet/internal/bench"
	"github.com/martlet-mail/martlet/test/peers/cyrus"
	"github.com/martlet-mail/martlet/test/peers/dovecot"
	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/peers/postfix"
)

// server is one that is measured.
type server struct {
	target bench.Target
	imaps  string    // in place of target.IMAP, with TLS
	tls    bench.TLS // of imaps
	others []string  // recipients besides
	stop   func()
	start  func() error // again, after stop
	lost   bool         // it did not start again
}

// spread is how many accounts the deliveries go to that are not all to one.
const spread = 10

// domain is that of all accounts.
const domain = "martlet.test"

// launch says how a server is to be started.
type launch struct {
	dir      string
	binary   string // of Martlet
	cyrus    string // where cyrus-imapd is unpacked
	filling  bool   // the rivals need not sync
	accounts int    // besides alice
	pem      pair
}

// display is what the report calls a server.
func display(name string) string {
	switch name {
	case "martlet":
		return "Martlet"
	case "maildir", "mdbox":
		return "Dovecot, " + name
	case "cyrus":
		return "Cyrus"
	case "postfix":
		return "Postfix"
	}
	return name
}

// start runs the server called name.
func start(name string, l launch) (*server, error) {
	switch name {
	case "martlet":
		return startMartlet(l)
	case "maildir", "mdbox":
		return startDovecot(name, l)
	case "cyrus":
		return startCyrus(l)
	case "postfix":
		return startPostfix(l)
	}
	return nil, fmt.Errorf("there is no server %q", name)
}

func dovecotOptions(name string) dovecot.Options {
	return dovecot.Options{Format: dovecot.Format(name), Hibernate: true, Certificate: "CERTIFICATE", Key: "KEY"}
}

func startDovecot(name string, l launch) (*server, error) {
	opt := dovecotOptions(name)
	opt.Dir, opt.Unsynced, opt.Certificate, opt.Key = l.dir, l.filling, l.pem.certificate, l.pem.key
	d, err := dovecot.Run(opt)
	if err != nil {
		return nil, err
	}
	s := &server{others: l.others(), stop: d.Stop, imaps: d.IMAPS, tls: unverified()}
	s.target = bench.Target{IMAP: d.IMAP, LMTP: d.LMTP, User: "alice@" + domain, Password: dovecot.Password,
		PID: d.PID, Data: filepath.Join(l.dir, "mail")}
	s.start = func() error {
		err := d.Restart()
		s.target.PID = d.PID
		return err
	}
	return s, nil
}

func startCyrus(l launch) (*server, error) {
	opt := cyrus.Options{Dir: l.dir, Unpacked: l.cyrus, Domain: domain, Users: []string{"alice"}, Unsynced: l.filling,
		Certificate: l.pem.certificate, Key: l.pem.key}
	c, err := cyrus.Start(opt)
	if err != nil {
		return nil, err
	}
	s := &server{others: l.others(), stop: func() { c.Stop() }, imaps: c.IMAPS, tls: unverified()}
	s.target = bench.Target{IMAP: c.IMAP, LMTP: c.LMTP, User: "alice@" + domain, Password: cyrus.Password,
		PID: c.PID, Data: l.dir}
	s.start = func() error {
		err := c.Restart()
		s.target.PID = c.PID
		return err
	}
	return s, nil
}

// startPostfix starts a Postfix that takes mail into its queue and leaves it there.
func startPostfix(l launch) (*server, error) {
	opt := postfix.Options{Dir: l.dir, Domain: domain, Users: []string{"alice"}, Hold: true}
	for i := range l.accounts {
		opt.Users = append(opt.Users, fmt.Sprintf("user%d", i))
	}
	p, err := postfix.New(opt)
	if err != nil {
		return nil, err
	}
	if err := p.Start(); err != nil {
		return nil, err
	}
	s := &server{others: l.others(), stop: p.Stop}
	s.target = bench.Target{SMTP: p.Addr, User: "alice@" + domain, PID: p.PID}
	s.start = func() error {
		err := p.Start()
		s.target.PID = p.PID
		return err
	}
	return s, nil
}

func (l launch) others() []string {
	var out []string
	for i := range l.accounts {
		out = append(out, fmt.Sprintf("user%d@%s", i, domain))
	}
	return out
}

func startMartlet(l launch) (*server, error) {
	opt := martlet.Options{Binary: l.binary, Dir: l.dir, Set: settings, Serve: true}
	for i := range l.accounts {
		opt.Accounts = append(opt.Accounts, fmt.Sprintf("user%d", i))
	}
	m, err := martlet.Start(opt)
	if err != nil {
		return nil, err
	}
	alice := m.Account("alice")
	s := &server{stop: func() { m.Stop() }, imaps: m.Addr("imaps"), tls: unverified()}
	s.target = bench.Target{IMAP: m.Addr("imap"), LMTP: m.Addr("lmtp"), SMTP: m.Addr("smtp"),
		User: alice.Address, Password: alice.Password, PID: m.PID, Data: filepath.Join(l.dir, "data")}
	s.start = func() error {
		err := m.Restart()
		s.target.PID = m.PID
		return err
	}
	for i := range l.accounts {
		s.others = append(s.others, m.Account(fmt.Sprintf("user%d", i)).Address)
	}
	return s, nil
}

// configuration returns what the report shows of a server's configuration.
func configuration(name string) string {
	switch name {
	case "maildir", "mdbox":
		return dovecot.Text(dovecotOptions(name))
	case "cyrus":
		return cyrus.Text(domain)
	case "postfix":
		return postfix.Text(domain)
	}
	text := "# as written by `martlet try`, and\n"
	for k, v := range settings {
		text += k + " = " + v + "\n"
	}
	return text
}

// settings are what differs from what `martlet try` writes: the limits that a load by
// one account meets.
var settings = map[string]string{"limits.connections_per_account": "12000"}

// pair is the certificate that the rivals show, and its key: paths of PEM files.
type pair struct{ certificate, key string }

// unverified is TLS for IMAP from the first byte. Nobody vouches for these
// certificates.
func unverified() bench.TLS {
	return bench.TLS{IMAP: bench.Implicit, Config: &tls.Config{InsecureSkipVerify: true}}
}
