package pop3d

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
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
	first := a.enter(t, "+OK 2 messages")
	b1 := b.enter(t, "-ERR [IN-USE]")
	b1.ask(t, "QUIT")
	first.ask(t, "DELE 1")
	if got := first.ask(t, "QUIT"); !strings.HasPrefix(got, "+OK") {
		t.Fatal(got)
	}
	second := b.enter(t, "+OK 1 messages") // without delay
	a.enter(t, "-ERR [IN-USE]").ask(t, "QUIT")
	passed.Add(int64(6 * time.Minute))
	second.ask(t, "DELE 1") // it is there
	passed.Add(int64(6 * time.Minute))
	a.enter(t, "-ERR [IN-USE]").ask(t, "QUIT")
	passed.Add(int64(12 * time.Minute)) // it is not
	third := a.enter(t, "+OK 1 messages")
	if got := second.ask(t, "QUIT"); !strings.HasPrefix(got, "-ERR") {
		t.Errorf("the mailbox is another's: %s", got)
	}
	if got := third.ask(t, "STAT"); !strings.HasPrefix(got, "+OK 1 ") {
		t.Errorf("%s", got)
	}
	third.ask(t, "QUIT")
	fourth := b.enter(t, "+OK 1 messages")
	fourth.ask(t, "QUIT")
}

// enter logs in, and fails unless the answer begins as it should.
func (w *world) enter(t *testing.T, want string) *client {
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

// A session removes nothing of what came in the place of mail that the database has lost.
func TestSetBackRemovesNothing(t *testing.T) {
	eng, err := pebble.Open("db", pebble.Options{Now: time.Now, FS: vfs.NewMem(), MemTableBytes: 1 << 20, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	nodes := enginetest.Nodes(eng, 2)
	a := newWorldOver(t, netsrv.Options{}, nil, nodes[0], time.Now)
	shard := engine.Shard(1<<32 + uint64(a.alice.ID()))
	before, err := enginetest.RecordsOf(t.Context(), nodes[1], shard)
	if err != nil {
		t.Fatal(err)
	}
	a.deliver([]byte("Subject: lost\r\n\r\nlost\r\n"))
	c := a.enter(t, "+OK 1 messages")
	if err := before.SetBack(t.Context(), nodes[1], shard); err != nil {
		t.Fatal(err)
	}
	a.deliver([]byte("Subject: other\r\n\r\nother\r\n"))
	if got := c.ask(t, "RETR 1"); !strings.HasPrefix(got, "-ERR [SYS/TEMP]") {
		t.Error(got)
	}
	c.ask(t, "DELE 1")
	if got := c.ask(t, "QUIT"); !strings.HasPrefix(got, "-ERR [SYS/TEMP]") {
		t.Error(got)
	}
	c = a.enter(t, "+OK 1 messages")
	if got := c.ask(t, "STAT"); !strings.HasPrefix(got, "+OK 1 ") {
		t.Error(got)
	}
}

// A session that ends while the database is away does not keep the user out when it is back.
func TestMaildropAfterOutage(t *testing.T) {
	eng, err := pebble.Open("db", pebble.Options{Now: time.Now, FS: vfs.NewMem(), MemTableBytes: 1 << 20, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	nodes := enginetest.Nodes(eng, 2)
	a := newWorldOver(t, netsrv.Options{}, nil, nodes[0], time.Now)
	a.deliver([]byte("Subject: x\r\n\r\nx\r\n"))
	c := a.enter(t, "+OK 1 messages")
	nodes[0].Down(true)
	c.ask(t, "QUIT")
	nodes[0].Down(false)
	a.enter(t, "+OK 1 messages").ask(t, "QUIT")
}
