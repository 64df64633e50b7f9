package limits

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/promise"
)

// R20: a client that asks for its mail and does not read costs a bounded number of bytes,
// in the server and in the kernel on its side, and is cut off.
func TestR20ClientThatDoesNotRead(t *testing.T) {
	n := promise.Times(t, "R20", 50, 500)
	h := newHouse(t, options{net: hasty(stall, time.Hour)})
	text := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 8<<20/72)
	h.smtp(t, "smtp", "alice", strings.NewReader("Subject: much\r\n\r\n"+text))
	for _, ask := range []struct{ name, listener, command string }{
		{"one body", "imap", "b FETCH 1 BODY.PEEK[]\r\n"},
		{"many commands", "imap", strings.Repeat("b FETCH 1 BODY.PEEK[]\r\n", 200)},
		{"RETR", "pop3", "RETR 1\r\nRETR 1\r\nRETR 1\r\n"},
	} {
		clients := n
		if ask.listener == "pop3" { // one at a time may have the INBOX open
			clients = 1
		}
		h.ends.forget()
		var conns []net.Conn
		for range clients {
			nc := h.dial(t, ask.listener)
			if ask.listener == "pop3" {
				nc.Write(line("USER alice@example.org\r\nPASS %s", password))
			} else {
				nc.Write(line("l LOGIN alice@example.org {%d+}\r\n%s\r\ns SELECT INBOX", len(password), password))
			}
			conns = append(conns, nc)
		}
		time.Sleep(300 * time.Millisecond)
		before := held()
		for _, nc := range conns {
			io.WriteString(nc, ask.command)
		}
		time.Sleep(500 * time.Millisecond) // they are stuck now, and not cut off yet
		each := (held() - before) / int64(clients)
		open := h.Sessions.Stats().Open
		if open != clients {
			t.Errorf("%s: %d of %d sessions are open while nobody reads", ask.name, open, clients)
		}
		if each > 256<<10 {
			t.Errorf("%s: %d bytes are held for each client that does not read", ask.name, each)
		}
		if most := h.ends.unsent(); most > 256<<10 {
			t.Errorf("%s: the kernel keeps %d bytes for a client that does not read", ask.name, most)
		}
		kept := h.ends.unsent()
		until(t, "all are cut off", func() bool { return h.Sessions.Stats().Open == 0 })
		got, _ := io.ReadAll(conns[0])
		if len(got) < 64<<10 || bytes.Count(got, []byte("\n")) < 100 {
			t.Errorf("%s: only %d bytes had been sent: nothing was tried", ask.name, len(got))
		}
		promise.Kept(t, "R20", "what", ask.name, "clients", clients, "KiB held for each", each>>10, "KiB in the kernel", kept>>10, "cut off", clients)
	}
}
