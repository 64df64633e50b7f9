package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/bench"
)

// counted are the metrics of round trips that a call waits for, by what they are called
// here. Looks, which the node takes by itself, are among the proofs.
var counted = map[string]string{
	"martlet_engine_reads_total": "read", "martlet_engine_proofs_total": "proof", "martlet_engine_snapshots_total": "snapshot",
	"martlet_engine_loads_total": "commit", "martlet_engine_row_locks_total": "row lock", "martlet_engine_looks_total": "look",
}

// tripsOf reads how often a node has asked the database, by what for.
func tripsOf(n *node) (map[string]float64, error) {
	r, err := http.Get(n.metrics())
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	out := map[string]float64{}
	for s := bufio.NewScanner(r.Body); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), " ")
		kind, ok := counted[name]
		if !ok {
			continue
		}
		if out[kind], err = strconv.ParseFloat(value, 64); err != nil {
			return nil, err
		}
	}
	if len(out) != len(counted) {
		return nil, fmt.Errorf("the node tells %d of %d counts", len(out), len(counted))
	}
	out["proof"] -= out["look"]
	return out, nil
}

// session is a plain IMAP session, one command after another.
type session struct {
	net.Conn
	r *bufio.Reader
	n int
}

func dial(addr, user, password string) (*session, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &session{Conn: c, r: bufio.NewReader(c)}
	s.SetDeadline(time.Now().Add(time.Minute))
	if _, err := s.r.ReadString('\n'); err != nil {
		return nil, err
	}
	return s, s.do(fmt.Sprintf("LOGIN %q %q", user, password))
}

// do sends a command and waits for its OK.
func (s *session) do(command string) error {
	s.n++
	tag := fmt.Sprintf("t%d ", s.n)
	fmt.Fprintf(s, "%s%s\r\n", tag, command)
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return err
		}
		if rest, ok := strings.CutPrefix(line, tag); ok {
			if !strings.HasPrefix(rest, "OK") {
				return fmt.Errorf("%s: %s", command, rest)
			}
			return nil
		}
	}
}

// trips counts how often the database is asked for one operation, warm and cold. What the node
// asks by itself meanwhile (looks at what is watched, signs of life) is counted apart.
func (c *course) trips(ctx context.Context, s *system) {
	n := s.nodes[0]
	count := func(name string, times int, do func(i int) error) {
		before, err := tripsOf(n)
		for i := 0; i < times && err == nil; i++ {
			err = do(i)
		}
		after, err2 := tripsOf(n)
		if err != nil || err2 != nil {
			c.failed("trips", s.name, name, fmt.Errorf("%v %v", err, err2))
			return
		}
		out := sample{Part: "trips", System: s.name, Round: c.round, Case: name, Cores: map[string]float64{}}
		out.Operations = times
		for kind, v := range after {
			if d := (v - before[kind]) / float64(times); d > 0 {
				out.Cores[kind] = d
				if kind != "look" {
					out.Value += d
				}
			}
		}
		c.put(out)
	}
	one := func(i int) error {
		t := s.target
		t.Recipients = []string{address(1)}
		return deliver(ctx, t, fmt.Sprintf("trip%d", i))
	}
	count("delivery, first after a start", 1, one)
	count("delivery", 50, func(i int) error { return one(1 + i) })
	a, err := dial(s.target.IMAP, address(1), password)
	if err != nil {
		c.failed("trips", s.name, "session", err)
		return
	}
	defer a.Close()
	count("SELECT, first after a start", 1, func(int) error { return a.do("SELECT INBOX") })
	count("SELECT of an open mailbox", 50, func(int) error { return a.do("SELECT INBOX") })
	count("NOOP", 50, func(int) error { return a.do("NOOP") })
	count("STORE of one flag", 50, func(i int) error { return a.do(fmt.Sprintf(`STORE 1 %sFLAGS (\Flagged)`, []string{"+", "-"}[i%2])) })
	count("FETCH of the newest 10, FLAGS ENVELOPE, first", 1, func(int) error { return a.do("FETCH 1:10 (UID FLAGS ENVELOPE)") })
	count("FETCH of the newest 10, FLAGS ENVELOPE", 50, func(int) error { return a.do("FETCH 1:10 (UID FLAGS ENVELOPE)") })
	count("FETCH of a whole message, first", 1, func(int) error { return a.do("FETCH 20 (BODY.PEEK[])") })
	count("FETCH of a whole message", 50, func(int) error { return a.do("FETCH 20 (BODY.PEEK[])") })
	count("LOGIN", 20, func(int) error {
		b, err := dial(s.target.IMAP, address(1), password)
		if err == nil {
			b.Close()
		}
		return err
	})
	if c.rest > 0 {
		count(fmt.Sprintf("%s of rest", c.rest), 1, func(int) error { time.Sleep(c.rest); return nil })
	}
}

// deliver sends one message by LMTP.
func deliver(_ context.Context, t bench.Target, id string) error {
	c, err := net.Dial("tcp", t.LMTP)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(c)
	say := func(text string, want byte) error {
		if text != "" {
			if _, err := fmt.Fprintf(c, "%s\r\n", text); err != nil {
				return err
			}
		}
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return err
			}
			if line[0] != want {
				return fmt.Errorf("%s: %s", text, line)
			}
			if line[3] != '-' {
				return nil
			}
		}
	}
	for _, step := range []struct {
		text string
		want byte
	}{{"", '2'}, {"LHLO x", '2'}, {"MAIL FROM:<a@example.org>", '2'}, {"RCPT TO:<" + t.Recipients[0] + ">", '2'}, {"DATA", '3'},
		{"From: a@example.org\r\nSubject: " + id + "\r\nMessage-ID: <" + id + "@example.org>\r\nDate: Mon, 1 Jan 2026 00:00:00 +0000\r\n\r\nhello\r\n.", '2'}} {
		if err := say(step.text, step.want); err != nil {
			return err
		}
	}
	return nil
}
