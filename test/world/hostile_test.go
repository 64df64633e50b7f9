package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// hostile is a domain whose mail host, or whose DNS, is not as it should be.
type hostile struct {
	name    string                             // below evil.example
	records string                             // its MX and more; empty: a host that talks
	talk    func(c net.Conn, in *bufio.Reader) // what the host does
	state   string                             // what becomes of the message
	say     string                             // words of the reason, or of the answer
}

// polite takes a message, but answers what is given to commands that begin so, and then
// closes if the answer is none or does not end a line.
func polite(c net.Conn, in *bufio.Reader, answers map[string]string) {
	fmt.Fprint(c, "220 hello\r\n")
	data := false
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		command := strings.ToUpper(strings.TrimRight(line, "\r\n"))
		if data && command != "." {
			continue
		}
		data = false
		answer := "250 well\r\n"
		switch verb, _, _ := strings.Cut(command, " "); verb {
		case "DATA":
			data, answer = true, "354 go on\r\n"
		case "QUIT":
			answer = "221 bye"
		}
		for start, other := range answers {
			if strings.HasPrefix(command, start) {
				answer = other
			}
		}
		if _, err := io.WriteString(c, answer); err != nil || !strings.HasSuffix(answer, "\n") {
			return
		}
	}
}

func answering(answers map[string]string) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, in *bufio.Reader) { polite(c, in, answers) }
}

// hostiles are the domains, each with a host of its own.
func hostiles() []hostile {
	endless := func(c net.Conn, in *bufio.Reader) {
		for c.SetWriteDeadline(time.Now().Add(20*time.Second)) == nil {
			if _, err := io.WriteString(c, "220-"+strings.Repeat("and so on ", 40)+"\r\n"); err != nil {
				return
			}
		}
	}
	return []hostile{
		{name: "polite", talk: answering(nil), state: "sent", say: "well"},
		{name: "closes", talk: func(net.Conn, *bufio.Reader) {}, state: "waiting", say: "connection was lost"},
		{name: "nonsense", talk: func(c net.Conn, _ *bufio.Reader) { io.WriteString(c, "\x00\xff<html>\r\n") }, state: "waiting", say: "not SMTP"},
		{name: "endless", talk: endless, state: "waiting", say: "not SMTP"},
		{name: "longline", talk: func(c net.Conn, _ *bufio.Reader) { io.WriteString(c, "220 "+strings.Repeat("x", 1<<20)) }, state: "waiting", say: "not SMTP"},
		{name: "no554", talk: func(c net.Conn, _ *bufio.Reader) { io.WriteString(c, "554 no mail here\r\n") }, state: "waiting", say: "no mail here"},
		{name: "busy421", talk: func(c net.Conn, _ *bufio.Reader) { io.WriteString(c, "421 4.3.2 too busy\r\n") }, state: "waiting", say: "too busy"},
		{name: "afterdata", talk: answering(map[string]string{".": ""}), state: "waiting", say: "may have been taken"},
		{name: "afterrcpt", talk: answering(map[string]string{"RCPT": ""}), state: "waiting", say: "connection was lost"},
		{name: "tlslie", talk: answering(map[string]string{"EHLO": "250-hello\r\n250 STARTTLS\r\n", "STARTTLS": "220 go\r\nand now to something else"}), state: "waiting", say: "before TLS began"},
		{name: "tlsbusy", talk: answering(map[string]string{"EHLO": "250-hello\r\n250 STARTTLS\r\n", "STARTTLS": "454 4.7.0 not now\r\n"}), state: "sent", say: "well"},
		{name: "oldhost", talk: answering(map[string]string{"EHLO": "502 5.5.1 what?\r\n"}), state: "sent", say: "well"},
		{name: "refused", talk: answering(map[string]string{"RCPT": "550 5.1.1 nobody of that name\r\n"}), state: "failed", say: "nobody of that name"},
		{name: "refusedwhole", talk: answering(map[string]string{".": "554 5.6.0 not this one\r\n"}), state: "failed", say: "not this one"},
		{name: "loopback", records: "@. 3600 IN MX 10 host.@.\nhost.@. 3600 IN A 127.0.0.1", state: "failed", say: "private"},
		{name: "private", records: "@. 3600 IN MX 10 host.@.\nhost.@. 3600 IN A 10.1.2.3\nhost.@. 3600 IN AAAA fd00::1", state: "failed", say: "private"},
		{name: "nullmx", records: "@. 3600 IN MX 0 .", state: "failed", say: "takes no mail"},
		{name: "nohost", records: "@. 3600 IN MX 10 gone.@.", state: "failed", say: "no mail host with an address"},
		{name: "circle", records: "@. 3600 IN MX 10 a.@.\na.@. 3600 IN CNAME b.@.\nb.@. 3600 IN CNAME a.@.", state: "waiting", say: "4.4.3"},
		{name: "tous", records: "@. 3600 IN MX 10 mx.martlet.example.", state: "failed", say: "back to this host"},
		{name: "noname", records: ";", state: "failed", say: "does not exist"},
	}
}

// open has a domain be there: its records, and its host with an address of its own.
func (h hostile) open(t *testing.T, w *lab.Town, address string) (recipient string) {
	t.Helper()
	domain := h.name + ".evil.example"
	if h.records != "" {
		must(t, w.DNS.AddAll(strings.ReplaceAll(h.records, "@", domain)))
		return "x@" + domain
	}
	must(t, w.DNS.AddAll(fmt.Sprintf("%[2]s. 3600 IN MX 10 host.%[2]s.\nhost.%[2]s. 3600 IN A %[1]s", address, domain)))
	_, err := w.Attacker.Output("ip", "addr", "add", address+"/15", "dev", "eth0")
	must(t, err)
	l, err := w.Attacker.Listen("tcp", address+":25")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(30 * time.Second))
				h.talk(c, bufio.NewReader(c))
			}()
		}
	}()
	return "x@" + domain
}

// attempted is what an attempt has made of a recipient.
type attempted struct{ Address, State, Text, Enhanced string }

// attempts are the last ones for each recipient of a message of ours.
func attempts(w *lab.Town, token string) map[string]attempted {
	out, _ := w.Martlet.Do("trace", "<"+token+"@martlet.example>", "--json")
	stories, _ := lab.Lines[struct {
		Events []struct {
			Event      string
			Recipients []attempted
		}
	}](out)
	told := map[string]attempted{}
	for _, s := range stories {
		for _, e := range s.Events {
			for _, r := range e.Recipients {
				if e.Event == "attempt" {
					told[r.Address] = r
				}
			}
		}
	}
	return told
}

// Every way in which a host or its DNS is bad ends in a state, with a reason that a person
// understands; and none keeps the others.
func TestHostileHosts(t *testing.T) {
	w := town(t)
	all := hostiles()
	var rcpts []string
	for i, h := range all {
		rcpts = append(rcpts, h.open(t, w, fmt.Sprintf("198.20.66.%d", 20+i)))
	}
	must(t, w.Martlet.Submit(w.Client, alice, strings.Join(rcpts, ","), lab.Letter(alice, "everybody", "hostile")))
	var told map[string]attempted
	err := lab.Wait("an end of each", 60*time.Second, func() bool {
		told = attempts(w, "hostile")
		return len(told) == len(all)
	})
	if err != nil {
		t.Error(err)
	}
	for i, h := range all {
		r := told[rcpts[i]]
		t.Logf("%s: %+v", h.name, r)
		if r.State != h.state || !strings.Contains(r.Enhanced+" "+r.Text, h.say) || r.Text == "" {
			t.Errorf("%s: %+v, want %s with %q", h.name, r, h.state, h.say)
		}
	}
	_, err = w.Martlet.Do("queue", "drop", "--all", "--yes")
	must(t, err)
}
