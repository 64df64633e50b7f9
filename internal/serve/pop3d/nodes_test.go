package pop3d

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// The INBOX is one session's, whichever node that is on (RFC 1939, 4). Of a node that died
// another takes it over when it has seen it stand still; then the first removes nothing.
func TestMaildropOverNodes(t *testing.T) {
	eng, err := pebble.Open("db", pebble.Options{Now: time.Now, FS: vfs.NewMem(), MemTableBytes: 1 << 20, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	var passed atomic.Int64
	now := func() time.Time {
		return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(passed.Load()))
	}
	nodes := enginetest.Nodes(eng, 2)
	a := newWorldOver(t, netsrv.Options{}, nil, nodes[0], now)
	b := newWorldOver(t, netsrv.Options{}, nil, nodes[1], now)
	for range 2 {
		a.deliver([]byte("Subject: x\r\n\r\nx\r\n"))
	}
	enter := func(w *world, want string) *client {
		t.Helper()
		c := w.connect("A", false)
		if _, err := c.read(); err != nil {
			t.Fatal(err)
		}
		c.ask(t, "USER alice@example.org")
		if got := c.ask(t, "PASS "+password); !strings.HasPrefix(got, want) {
			t.Fatalf("%s, want %s", got, want)
		}
		return c
	}
	first := enter(a, "+OK 2 messages")
	b1 := enter(b, "-ERR [IN-USE]")
	b1.ask(t, "QUIT")
	first.ask(t, "DELE 1")
	if got := first.ask(t, "QUIT"); !strings.HasPrefix(got, "+OK") {
		t.Fatal(got)
	}
	second := enter(b, "+OK 1 messages") // without delay
	enter(a, "-ERR [IN-USE]").ask(t, "QUIT")
	passed.Add(int64(6 * time.Minute))
	second.ask(t, "DELE 1") // it is there
	passed.Add(int64(6 * time.Minute))
	enter(a, "-ERR [IN-USE]").ask(t, "QUIT")
	passed.Add(int64(12 * time.Minute)) // it is not
	third := enter(a, "+OK 1 messages")
	if got := second.ask(t, "QUIT"); !strings.HasPrefix(got, "-ERR") {
		t.Errorf("the mailbox is another's: %s", got)
	}
	if got := third.ask(t, "STAT"); !strings.HasPrefix(got, "+OK 1 ") {
		t.Errorf("%s", got)
	}
	third.ask(t, "QUIT")
	fourth := enter(b, "+OK 1 messages")
	fourth.ask(t, "QUIT")
}
