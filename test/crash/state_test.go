package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/traffic"
)

// ask sends a request to the server's admin socket and returns the lines of the answer.
func ask(s *martlet.Server, method, path string, in any) (lines []map[string]any, err error) {
	socket := filepath.Join(s.Dir, "data", "admin.sock")
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(method, "http://martlet"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: tr, Timeout: traffic.Patience}).Do(req)
	if err != nil {
		return nil, &traffic.End{Err: err}
	}
	defer resp.Body.Close()
	for d := json.NewDecoder(resp.Body); ; {
		var line map[string]any
		err := d.Decode(&line)
		switch {
		case err == io.EOF:
			return lines, nil
		case err != nil:
			return nil, &traffic.End{Err: err}
		case resp.StatusCode >= 300 || line["error"] != nil:
			return nil, fmt.Errorf("%s %s: answered %s %v", method, path, resp.Status, line)
		}
		lines = append(lines, line)
	}
}

// picture is all that can be seen of a server from outside, part by part.
type picture map[string]string

// login is a name and a password that may work.
type login struct{ address, password string }

// look takes a picture of a server: who there is, what waits in the queue, all mailboxes and
// messages of those who can log in.
func look(s *martlet.Server, logins []login) (picture, error) {
	p := picture{}
	for path, fields := range map[string][]string{
		"domains": {"domain"}, "accounts": {"address", "id"}, "aliases": {"address", "targets"}, "queue": {"from", "to"},
	} {
		lines, err := ask(s, "GET", "/v1/"+path, nil)
		if err != nil {
			return nil, err
		}
		var rows []string
		for _, l := range lines {
			var row []string
			for _, f := range fields {
				row = append(row, fmt.Sprint(l[f]))
			}
			rows = append(rows, strings.Join(row, " "))
		}
		slices.Sort(rows)
		p[path] = strings.Join(rows, "\n")
	}
	for _, l := range logins {
		if err := p.account(s, l); err != nil {
			return nil, fmt.Errorf("%s: %w", l.address, err)
		}
	}
	return p, nil
}

var (
	mailbox = regexp.MustCompile(`^\* LIST \(([^)]*)\) "/" "?([^"]+)"?$`)
	opened  = regexp.MustCompile(`^\* (\d+ EXISTS|OK \[(UIDNEXT|UIDVALIDITY) \d+\])`)
	recent  = regexp.MustCompile(` ?\\Recent`)
)

// account adds the mail of an account.
func (p picture) account(s *martlet.Server, l login) error {
	key := "mail of " + l.address
	c, err := traffic.Reader(s.Addr("imap"), l.address, l.password)
	if err != nil {
		var no *traffic.Refusal
		if !errors.As(err, &no) {
			return err
		}
		p["login "+l.address+" "+l.password] = "refused"
		return nil
	}
	defer c.Close()
	p["login "+l.address+" "+l.password] = "good"
	lists, err := c.Do(`LIST "" * RETURN (SUBSCRIBED)`)
	if err != nil {
		return err
	}
	var out strings.Builder
	for _, more := range []string{"GETQUOTAROOT INBOX", "GETMETADATA INBOX /private/comment", "GETACL INBOX", "GETACL Archive"} {
		rows, _ := c.Do("%s", more) // there may be no Archive
		fmt.Fprintln(&out, strings.Join(rows[:max(len(rows)-1, 0)], "\n"))
	}
	for _, row := range lists {
		box := mailbox.FindStringSubmatch(row)
		if box == nil {
			continue
		}
		fresh := strings.HasPrefix(box[2], "New") || box[2] == "Recently Deleted" || strings.HasPrefix(l.address, "new")
		fmt.Fprintf(&out, "mailbox %s (%s)\n", box[2], box[1])
		open, err := c.Do(`EXAMINE "%s"`, box[2])
		if err != nil {
			return err
		}
		for _, l := range open {
			// What the run itself makes, here called new, has a number that comes from the time.
			if opened.MatchString(l) && !(strings.Contains(l, "UIDVALIDITY") && fresh) {
				fmt.Fprintln(&out, l)
			}
		}
		rows, err := c.Do("UID FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (X-Ledger Subject)] BODY.PEEK[TEXT])")
		if err != nil {
			return err
		}
		for _, l := range rows[:len(rows)-1] {
			fmt.Fprintln(&out, recent.ReplaceAllString(l, ""))
		}
	}
	p[key] = out.String()
	return nil
}

// compare returns how this picture is none of those in which a thing may be: part by part,
// since what belongs to two accounts is no one change.
func (p picture) compare(may ...picture) (wrong []string) {
	keys := maps.Clone(p)
	for _, m := range may {
		maps.Copy(keys, m)
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !slices.ContainsFunc(may, func(m picture) bool { return m[key] == p[key] }) {
			wrong = append(wrong, fmt.Sprintf("%s: %s", key, difference(p[key], may[len(may)-1][key])))
		}
	}
	return wrong
}

// difference lists lines that are in only one of two texts, the first few.
func difference(is, may string) string {
	a, b := strings.Split(is, "\n"), strings.Split(may, "\n")
	only := func(x, y []string) []string {
		x = slices.DeleteFunc(slices.Clone(x), func(l string) bool { return slices.Contains(y, l) })
		return x[:min(len(x), 20)]
	}
	return fmt.Sprintf("%d lines and not %d; there is %q, not %q", len(a), len(b), only(a, b), only(b, a))
}
