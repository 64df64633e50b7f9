// Package limits shows what a client may take of the server and what it may not: time,
// memory, processors. docs/limits.md is the table of it.
//
// The whole server runs in the test's process over real sockets, so that its memory and
// the time of its processors can be counted; what is about processes (10,000 connections,
// fairness) starts the real binary, with MARTLET_PEERS=1.
package limits

import (
	"fmt"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/serve/imapd"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/serve/smtpd"
	"github.com/martlet-mail/martlet/internal/store"
	whole "github.com/martlet-mail/martlet/test/house"
)

const password = whole.Password

// options of a house.
type options struct {
	net         netsrv.Options
	onDisk      bool
	maxMessage  int64
	commandTime time.Duration
}

// house is a server of all protocols.
type house struct {
	*whole.House
	at   func(listener string) string
	ends ends
	in   *talk // that delivers
}

func newHouse(t testing.TB, o options) *house {
	t.Helper()
	h := &house{}
	w := whole.Options{
		Directory: func(d *directory.Options) { d.FailuresPerAccount, d.FailuresPerAddress, d.Sleep = 0, 0, nil },
		Store:     func(s *store.Options) { s.MaxMessage = o.maxMessage },
		SMTP:      func(s *smtpd.Options) { s.MaxErrors, s.MaxFailures = 10, 3 },
		IMAP:      func(i *imapd.Options) { i.MaxBad, i.CommandTime = 10, o.commandTime },
		Sessions: func(n *netsrv.Options) {
			mine := o.net
			mine.Log, mine.Now, mine.Certificate, mine.MaxPerAccount = n.Log, n.Now, n.Certificate, max(mine.MaxPerAccount, 1000)
			*n = mine
		},
		Listen: func(l net.Listener) net.Listener { return noting{l, &h.ends} },
	}
	if o.onDisk {
		w.FS, w.Dir = vfs.Default, t.TempDir()
	}
	h.House = whole.New(t, w)
	h.at = h.Addr
	for _, name := range []string{"alice", "bob"} {
		h.Account(t, name)
	}
	return h
}

// dial connects to a listener, for as long as the test runs.
func (h *house) dial(t testing.TB, name string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", h.at(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}

// cpu is the time that processors have worked for this process.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// held is the memory in use: the heap without its garbage, and stacks.
func held() int64 {
	var m runtime.MemStats
	for range 3 { // what pools keep goes with the second collection
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// until waits for something that is to come.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come about that %s", what)
		}
	}
}

func line(format string, args ...any) []byte { return fmt.Appendf(nil, format+"\r\n", args...) }
