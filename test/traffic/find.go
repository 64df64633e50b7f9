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
// queue for its next try, so what is missing is looked for again for some seconds.
func (l *Ledger) Check(s *martlet.Server) (Verdict, error) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		v, err := l.Look(s)
		if err != nil || v.OK() || v.Lost == 0 || time.Now().After(deadline) {
			return v, err
		}
	}
}

// Look compares all accounts with the ledger, once.
func (l *Ledger) Look(s *martlet.Server) (Verdict, error) {
	found := map[Delivery][]spot{}
	for _, name := range l.accounts() {
		if err := read(s, name, found); err != nil {
			return Verdict{}, fmt.Errorf("reading %s: %w", name, err)
		}
	}
	return l.compare(found), nil
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
			if token, ok := strings.CutPrefix(l, tokenField); ok {
				d := Delivery{token, name}
				found[d] = append(found[d], spot{m[1], validity[1] + " " + uid})
			}
		}
	}
	return nil
}
