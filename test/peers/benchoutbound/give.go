package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// target is where mail is given in.
type target struct {
	addr           string
	user, password string // "": no login
	sender         string
}

// give puts the messages in over so many connections at a time.
func give(ctx context.Context, t target, s settings) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	errs := make(chan error, s.connections)
	for range s.connections {
		wg.Go(func() {
			if err := giveOn(ctx, t, s, &next); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

func giveOn(ctx context.Context, t target, s settings, next *atomic.Int64) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Minute)); err != nil {
		return err
	}
	c := &client{bufio.NewReader(conn), conn}
	steps := []string{"220", "", "250", "EHLO client.example.net\r\n"}
	if t.user != "" {
		plain := base64.StdEncoding.EncodeToString([]byte("\x00" + t.user + "\x00" + t.password))
		steps = append(steps, "235", "AUTH PLAIN "+plain+"\r\n")
	}
	for i := 0; i < len(steps); i += 2 {
		if err := c.ask(steps[i+1], steps[i]); err != nil {
			return err
		}
	}
	body := strings.Repeat(strings.Repeat("x", 70)+"\r\n", max(1, (s.size-200)/72))
	for n := next.Add(1); n <= int64(s.messages); n = next.Add(1) {
		envelope := fmt.Sprintf("MAIL FROM:<%s>\r\nRCPT TO:<user%d@d%d.sink.test>\r\nDATA\r\n", t.sender, n, n%int64(s.domains))
		text := fmt.Sprintf("From: <%s>\r\nTo: <someone@sink.test>\r\nSubject: message %d\r\nDate: Mon, 02 Mar 2026 12:00:00 +0000\r\nMessage-ID: <%d@client.example.net>\r\n\r\n%s.\r\n", t.sender, n, n, body)
		if err := c.ask(envelope, "250", "250", "354"); err != nil {
			return err
		}
		if err := c.ask(text, "250"); err != nil {
			return err
		}
	}
	return c.ask("QUIT\r\n", "221")
}

type client struct {
	r    *bufio.Reader
	conn net.Conn
}

// ask sends lines and reads one answer for each code.
func (c *client) ask(lines string, codes ...string) error {
	if _, err := c.conn.Write([]byte(lines)); err != nil {
		return err
	}
	for _, code := range codes {
		for {
			line, err := c.r.ReadString('\n')
			if err != nil {
				return err
			}
			if !strings.HasPrefix(line, code) {
				return fmt.Errorf("%q was answered %q", clip(lines), line)
			}
			if len(line) < 4 || line[3] != '-' {
				break
			}
		}
	}
	return nil
}

func clip(s string) string { return s[:min(len(s), 80)] }
