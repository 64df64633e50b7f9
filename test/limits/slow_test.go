package limits

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/test/promise"
)

// A hundredth of the real times: a byte every 100 ms for one every 10 s, and a stall of
// 1.2 s for 2 minutes.
const (
	dripEvery = 100 * time.Millisecond
	stall     = 1200 * time.Millisecond
)

func hasty(stall, login time.Duration) netsrv.Options {
	return netsrv.Options{Stall: stall, Handshake: stall, Login: login, Idle: time.Hour, MinRate: 100 * 100}
}

// phase is where in a dialogue a client becomes slow.
type phase struct {
	name     string
	listener string
	before   string // sent at once, after the greeting; every line of it but the last is answered
	slow     string // comes a byte at a time, again and again
	login    bool   // first logs in
}

var phases = []phase{
	{"nothing at all", "imap", "", "", false},
	{"greeting", "imap", "", "a", false},
	{"whole commands, no login", "imap", "", "a NOOP\r\n", false},
	{"whole commands, no login", "pop3", "", "CAPA\r\n", false},
	{"whole commands, no login", "submission", "", "VRFY a\r\n", false},
	{"command", "imap", "a LIST \"\" \"", "x", true},
	{"command", "smtp", "EHLO ", "x", false},
	{"command", "pop3", "USER ", "x", false},
	{"password", "imap", "a LOGIN {400+}\r\n", "x", false},
	{"literal", "imap", "a APPEND INBOX {400000+}\r\n", "x", true},
	{"data", "smtp", "EHLO me\r\nMAIL FROM:<a@far.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n", "x", false},
	{"data", "lmtp", "LHLO me\r\nMAIL FROM:<a@far.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n", "x\r\n", false},
	{"chunk", "smtp", "EHLO me\r\nMAIL FROM:<a@far.example>\r\nRCPT TO:<alice@example.org>\r\nBDAT 400000\r\n", "x", false},
	{"login", "submission", "EHLO me\r\nAUTH PLAIN\r\n", "A", false},
	{"TLS at once", "imaps", "", hello, false},
	{"STARTTLS", "imap", "a STARTTLS\r\n", hello, false},
	{"STLS", "pop3", "STLS\r\n", hello, false},
}

// hello is the beginning of a handshake that is longer than anybody waits for.
var hello = "\x16\x03\x01\x10\x00\x01\x00\x0f\xfc\x03\x03" + strings.Repeat("r", 2000)

// drip is one such client. It tells how many bytes it could send until it was cut off.
func drip(h *house, p phase, stop <-chan struct{}) (sent int, cut bool) {
	nc, err := net.Dial("tcp", h.at(p.listener))
	if err != nil {
		return 0, false
	}
	defer nc.Close()
	if p.login {
		fmt.Fprintf(nc, "l LOGIN alice@example.org {%d+}\r\n%s\r\n", len(password), password)
		time.Sleep(dripEvery)
	}
	io.WriteString(nc, p.before)
	gone := make(chan struct{})
	go func() {
		io.Copy(io.Discard, nc)
		close(gone)
	}()
	beat := time.NewTicker(dripEvery)
	defer beat.Stop()
	for {
		select {
		case <-gone:
			return sent, true
		case <-stop:
			return sent, false
		case <-beat.C:
			if p.slow != "" {
				nc.Write([]byte{p.slow[sent%len(p.slow)]})
				sent++
			}
		}
	}
}

// crowdWorks has clients work, a number of commands each, and returns what each command
// cost the processors.
func crowdWorks(t *testing.T, clients []*talk, rounds int) time.Duration {
	t.Helper()
	before := cpu()
	var wg sync.WaitGroup
	for _, k := range clients {
		wg.Go(func() {
			for range rounds {
				k.ok("NOOP")
				k.ok("UID FETCH 1:* (FLAGS ENVELOPE)")
			}
		})
	}
	wg.Wait()
	return (cpu() - before) / time.Duration(len(clients)*rounds)
}

// R19: clients that send a byte now and then, wherever in a dialogue, are cut off by a
// deadline for the whole of what they are at, for their bytes come often enough for any
// that begins anew with each; those who work beside them notice nothing.
func TestR19SlowClients(t *testing.T) {
	n := promise.Times(t, "R19", 200, 2000)
	h := newHouse(t, options{net: hasty(stall, 3*stall)})
	for range 20 {
		h.smtp(t, "smtp", "bob", strings.NewReader("Subject: hello\r\n\r\nhello"))
	}
	var clients []*talk
	for range 20 {
		clients = append(clients, h.imap(t, "bob"))
	}
	crowdWorks(t, clients, 5)
	alone := crowdWorks(t, clients, 40)

	var cutOff, left atomic.Int32
	var most [64]atomic.Int32
	var wg sync.WaitGroup
	guard := make(chan struct{})
	timer := time.AfterFunc(60*time.Second, func() { close(guard) })
	defer timer.Stop()
	for i := range n {
		wg.Go(func() {
			sent, cut := drip(h, phases[i%len(phases)], guard)
			if m := &most[i%len(phases)]; int32(sent) > m.Load() {
				m.Store(int32(sent))
			}
			if cut {
				cutOff.Add(1)
			} else {
				left.Add(1)
				t.Errorf("%s, %s: not cut off after %d bytes", phases[i%len(phases)].listener, phases[i%len(phases)].name, sent)
			}
		})
	}
	until(t, "all are connected", func() bool { return h.Sessions.Stats().Open >= 20+n*9/10 || cutOff.Load() > 0 })
	beside := crowdWorks(t, clients, 40)
	wg.Wait()
	for i, p := range phases {
		t.Logf("%s, %s: at most %d bytes", p.listener, p.name, most[i].Load())
		// On a busy machine a deadline is noticed late; twice as many bytes would be wrong.
		if limit := int32(2 * 3 * stall / dripEvery); most[i].Load() > limit {
			t.Errorf("%s, %s: %d bytes came in, more than %d", p.listener, p.name, most[i].Load(), limit)
		}
	}
	crowdWorks(t, clients, 1) // all are there still
	promise.Kept(t, "R19", "slow clients", n, "cut off", cutOff.Load(), "left", left.Load(), "normal clients", len(clients),
		"normal clients lost", 0, "CPU of a command beside them/alone", ratio(beside, alone))
}

// Without the deadlines the same clients stay: the test above would see it.
func TestR19Control(t *testing.T) {
	h := newHouse(t, options{net: netsrv.Options{Stall: time.Hour, Handshake: time.Hour, Login: time.Hour}})
	stop := make(chan struct{})
	time.AfterFunc(5*stall/2, func() { close(stop) })
	var wg sync.WaitGroup
	for _, p := range phases {
		wg.Go(func() {
			if sent, cut := drip(h, p, stop); cut && !strings.HasPrefix(p.name, "whole") {
				t.Errorf("%s, %s: cut off after %d bytes, with no deadline", p.listener, p.name, sent)
			}
		})
	}
	wg.Wait()
}

// ratio is a figure with two decimals.
func ratio(a, b time.Duration) string { return fmt.Sprintf("%.2f", float64(a)/float64(b)) }
