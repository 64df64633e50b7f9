package traffic

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// Check compares all accounts with the ledger. Yes may also mean that mail waits in the
// queue for its next try, so what is missing is looked for again for a while.
func (l *Ledger) Check(s *martlet.Server) (Verdict, error) {
	for deadline := time.Now().Add(Patience); ; time.Sleep(100 * time.Millisecond) {
		v, err := l.Look(s)
		if err != nil || v.OK() || v.Lost == 0 || time.Now().After(deadline) {
			return v, err
		}
	}
}

// Look compares all accounts, and what came to the other host, with the ledger, once.
func (l *Ledger) Look(s *martlet.Server) (Verdict, error) {
	found, err := readAll(s)
	if err != nil {
		return Verdict{}, err
	}
	if l.Sink != nil {
		for token := range l.Sink.Seen() {
			found[Delivery{token, Elsewhere}] = []spot{{}}
		}
	}
	return l.compare(found), nil
}

// Adopt notes what is there already.
func (l *Ledger) Adopt(s *martlet.Server) error {
	found, err := readAll(s)
	for d, at := range found {
		l.said(d.Token, d.Account, at[0].uid, at[0].box)
	}
	return err
}

// Control tells the ledger some lies, each of which it must notice, and takes them back.
func (l *Ledger) Control(s *martlet.Server) error {
	var errs []error
	notices := func(what string, lost, strange int) {
		v, err := l.Look(s)
		if err != nil || v.Lost != lost || v.Strange != strange || v.Dup > 0 {
			errs = append(errs, fmt.Errorf("%s: %v, %v", what, v, err))
		}
	}
	const token = "never-sent"
	l.said(token, "alice", "")
	notices("a lost message", 1, 0)
	l.drop(Delivery{token, "alice"})
	if d, ok := l.one(); ok {
		f := l.get(d.Token, d.Account)
		l.drop(d)
		notices("a message from nowhere", 0, 1)
		l.set(d.Token, d.Account, f)
	}
	if l.Sink != nil {
		l.Sink.takes(token, 1)
		notices("a message from nowhere at the other host", 0, 1)
		l.Sink.takes(token, -1)
	}
	notices("the truth", 0, 0)
	return errors.Join(errs...)
}

func readAll(s *martlet.Server) (map[Delivery][]spot, error) {
	found := map[Delivery][]spot{}
	for _, a := range s.Accounts {
		name, _, _ := strings.Cut(a.Address, "@")
		if err := read(s, name, found); err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
	}
	return found, nil
}

var (
	listed      = regexp.MustCompile(`^\* LIST \([^)]*\) "/" "?([^"]+)"?$`)
	uidValidity = regexp.MustCompile(`\[UIDVALIDITY (\d+)\]`)
	fetchedUID  = regexp.MustCompile(`^\* \d+ FETCH \(.*UID (\d+)`)
)

// read finds every message of an account by its token.
func read(s *martlet.Server, name string, found map[Delivery][]spot) error {
	a := s.Account(name)
	c, err := Reader(s.Addr("imap"), a.Address, a.Password)
	if err != nil {
		return err
	}
	defer c.Close()
	lines, err := c.Do(`LIST "" *`)
	if err != nil {
		return err
	}
	for _, l := range lines {
		m := listed.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		opened, err := c.Do(`EXAMINE "%s"`, m[1])
		if err != nil {
			return err
		}
		validity := uidValidity.FindStringSubmatch(strings.Join(opened, "\n"))
		rows, err := c.Do("UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (X-Ledger)])")
		if err != nil || validity == nil {
			return errors.Join(err, fmt.Errorf("%q", opened))
		}
		uid := ""
		for _, l := range rows {
			if row := fetchedUID.FindStringSubmatch(l); row != nil {
				uid = row[1]
			}
			if token, ok := strings.CutPrefix(l, TokenField); ok {
				d := Delivery{token, name}
				found[d] = append(found[d], spot{m[1], validity[1] + " " + uid})
			}
		}
	}
	return nil
}
