package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/martlet-mail/martlet/internal/bench"
	"github.com/martlet-mail/martlet/test/peers/cyrus"
	"github.com/martlet-mail/martlet/test/peers/dovecot"
)

// system is one of those that are measured, with all that belongs to it.
type system struct {
	name     string
	nodes    []*node   // none of a rival
	database *database // nil: none
	target   bench.Target
	pids     func() map[string][]int // of its servers, by what they are
	renew    func(database bool) error
	end      func()
}

// display is what the report calls a system.
func display(name string) string {
	switch name {
	case "pebble":
		return "Martlet, own engine"
	case "postgres":
		return "Martlet, PostgreSQL"
	case "standby":
		return "PostgreSQL with a standby"
	case "two":
		return "two nodes, PostgreSQL"
	case "mdbox":
		return "Dovecot, mdbox"
	case "cyrus":
		return "Cyrus"
	}
	return name
}

// begin starts a system in a folder of its own.
func (p plan) begin(name string) (*system, error) {
	dir, err := os.MkdirTemp(p.dir, "benchcluster-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	var s *system
	switch name {
	case "pebble":
		s, err = p.martlet(dir, 1, false, false)
	case "postgres":
		s, err = p.martlet(dir, 1, true, false)
	case "standby":
		s, err = p.martlet(dir, 1, true, true)
	case "two":
		s, err = p.martlet(dir, 2, true, false)
	case "mdbox":
		s, err = startDovecot(dir)
	case "cyrus":
		s, err = p.startCyrus(dir)
	default:
		err = fmt.Errorf("there is no system %q", name)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s.name = name
	end := s.end
	s.end = func() {
		end()
		os.RemoveAll(dir)
	}
	for i := range spread {
		s.target.Users = append(s.target.Users, bench.Login{User: address(i), Password: s.target.Password})
	}
	time.Sleep(time.Second) // a server that listens may still be starting its processes
	return s, nil
}

// martlet starts nodes, on PostgreSQL or one with its own engine.
func (p plan) martlet(dir string, count int, shared, standby bool) (s *system, err error) {
	s = &system{}
	s.end = func() {
		for _, n := range s.nodes {
			n.stop()
		}
		if s.database != nil {
			s.database.stop()
		}
	}
	defer func() {
		if err != nil {
			s.end()
		}
	}()
	url := ""
	if shared {
		if s.database, err = newDatabase(filepath.Join(dir, "postgres"), standby, p.profile != ""); err != nil {
			return s, err
		}
		url = s.database.url()
	}
	for i := range count {
		n, err := newNode(p.binary, dir, fmt.Sprintf("node%d", i+1), url)
		if err != nil {
			return s, err
		}
		s.nodes = append(s.nodes, n)
		if i == 0 {
			if err := n.people(); err != nil {
				return s, err
			}
		}
		if err := n.start(); err != nil {
			return s, err
		}
	}
	s.pids = func() map[string][]int {
		out := map[string][]int{}
		for _, n := range s.nodes {
			out["martlet"] = append(out["martlet"], n.run.PID)
		}
		if s.database != nil {
			out["postgres"] = s.database.pids()
		}
		return out
	}
	s.aim()
	s.renew = func(database bool) error {
		s.nodes[0].stop()
		if database && s.database != nil {
			s.database.halt()
			if err := s.database.start(); err != nil {
				return err
			}
		}
		err := s.nodes[0].start()
		s.aim()
		return err
	}
	return s, nil
}

// aim points the target to the first node.
func (s *system) aim() {
	t, first := &s.target, s.nodes[0]
	t.IMAP, t.LMTP, t.User, t.Password, t.PID = first.at(143), first.at(24), address(0), password, first.run.PID
}

func startDovecot(dir string) (*system, error) {
	d, err := dovecot.Run(dovecot.Options{Dir: filepath.Join(dir, "s"), Format: dovecot.MDBox, Hibernate: true})
	if err != nil {
		return nil, err
	}
	s := &system{end: d.Stop, target: bench.Target{IMAP: d.IMAP, LMTP: d.LMTP, User: address(0), Password: dovecot.Password, PID: d.PID}}
	s.pids = func() map[string][]int { return map[string][]int{"dovecot": {d.PID}} }
	s.renew = func(bool) error {
		d.Stop()
		syscall.Sync()
		err := d.Restart()
		s.target.PID = d.PID
		return err
	}
	return s, nil
}

func (p plan) startCyrus(dir string) (*system, error) {
	opt := cyrus.Options{Dir: filepath.Join(dir, "s"), Unpacked: p.cyrus, Domain: domain}
	for i := range spread {
		opt.Users = append(opt.Users, fmt.Sprintf("user%d", i))
	}
	c, err := cyrus.Start(opt)
	if err != nil {
		return nil, err
	}
	s := &system{end: func() { c.Stop() }, target: bench.Target{IMAP: c.IMAP, LMTP: c.LMTP, User: address(0), Password: cyrus.Password, PID: c.PID}}
	s.pids = func() map[string][]int { return map[string][]int{"cyrus": {c.PID}} }
	s.renew = func(bool) error {
		c.Stop()
		syscall.Sync()
		err := c.Restart()
		s.target.PID = c.PID
		return err
	}
	return s, nil
}
