package imapd

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// Over sockets of the kernel sessions wait without a goroutine. Whatever one does then,
// in IDLE and between commands, with NOTIFY and when the server stops, it tells its
// client the same as others.
func TestParkedSessions(t *testing.T) {
	w := newWorld(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.net.Serve(ctx, ln, w.service) }()
	t.Cleanup(func() { stop(); <-done })

	const n = 40
	var clients []*client
	for i := range n {
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c := newClient(nc)
		w.clients[fmt.Sprint(i)] = c
		c.read(t)
		c.command(t, `LOGIN alice@example.org "`+password+`"`)
		c.command(t, "ENABLE IMAP4rev2")
		c.command(t, "SELECT INBOX")
		if i%4 == 3 {
			c.command(t, "NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge FlagChange))")
		} else {
			c.send(t, "i IDLE\r\n")
			expectLine(t, c, "+ idling")
		}
		clients = append(clients, c)
	}
	for round := 1; round <= 5; round++ {
		w.deliver("INBOX", message("round"), 0)
		for i, c := range clients {
			expectLine(t, c, fmt.Sprintf("* %d EXISTS", round))
			switch i % 4 {
			case 0: // goes on in IDLE
			case 1, 2:
				c.send(t, "DONE\r\n")
				expectLine(t, c, "i OK IDLE done")
				if lines, tagged := c.command(t, "NOOP"); len(lines) > 0 || !strings.HasPrefix(tagged, "zz OK") {
					t.Fatal(lines, tagged)
				}
				c.send(t, "i IDLE\r\n")
				expectLine(t, c, "+ idling")
			case 3: // NOTIFY gives some facts, too
				if line, _ := c.read(t); !strings.Contains(line, "FETCH (") {
					t.Fatal(line)
				}
			}
		}
	}
	w.change(func(tx *store.Tx) error {
		box, err := tx.Mailbox("INBOX")
		if err == nil {
			_, err = tx.SetFlags(box.ID, store.All(), store.FlagChange{Op: store.AddFlags, Flags: mail.Seen})
		}
		return err
	})
	for _, c := range clients {
		for range 5 {
			if line, _ := c.read(t); !strings.Contains(line, `FETCH (`) || !strings.Contains(line, `\Seen`) {
				t.Fatal(line)
			}
		}
	}
	clients[0].send(t, "nonsense\r\n")
	expectLine(t, clients[0], "i BAD IDLE ends with DONE")
	clients[1].send(t, "DONE\r\nq LOGOUT\r\n") // together
	expectLine(t, clients[1], "i OK IDLE done")
	expectLine(t, clients[1], "* BYE see you")
	expectLine(t, clients[1], "q OK LOGOUT done")
	stop()
	for i, c := range clients {
		if i != 1 {
			expectLine(t, c, "* BYE [UNAVAILABLE] the server is stopping, try again shortly")
		}
		if line, ok := c.read(t); ok {
			t.Fatal(i, line)
		}
	}
}

func expectLine(t *testing.T, c *client, want string) {
	t.Helper()
	if line, _ := c.read(t); line != want {
		t.Fatalf("%q, want %q", line, want)
	}
}
