package peers

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// Bounds for a queue of a million messages, and so for any smaller one.
const (
	mostMemory = 1 << 30         // bytes that the process keeps in memory
	mostStart  = 2 * time.Second // processor time until every listener is ready
)

// TestQueueSize starts the real server on a queue of MARTLET_QUEUE messages (20,000 if that
// is not set; "make queue-million" sets a million), to a tenth as many domains that cannot
// be reached, of a thousand senders. Its start and its memory must not grow with them.
func TestQueueSize(t *testing.T) {
	if against() != "" {
		t.Skip("only Martlet has this queue")
	}
	messages := 20_000
	if text := os.Getenv("MARTLET_QUEUE"); text != "" {
		var err error
		messages, err = strconv.Atoi(text)
		must(t, err)
	}
	s := start(t, martlet.Options{Serve: true, Set: map[string]string{
		"queue.smarthost.host": `"127.0.0.1"`, "queue.smarthost.port": "1", "queue.smarthost.tls": `"none"`,
	}})
	must(t, s.Stop())
	began := time.Now()
	fillQueue(t, filepath.Join(s.Dir, "data", "store"), messages)
	filled := time.Since(began)
	began = time.Now()
	must(t, s.Restart())
	ready := time.Since(began)
	used := processTime(t, s.PID)
	if used > mostStart {
		t.Errorf("%v of processor time until the server was ready", used)
	}
	highest := 0
	for range 20 { // while it walks through what is due
		time.Sleep(250 * time.Millisecond)
		highest = max(highest, resident(t, s.PID))
	}
	if highest > mostMemory {
		t.Errorf("%d MiB in memory", highest>>20)
	}
	out, err := s.Command("queue", "list", "--domain", "d1.test", "--json")
	must(t, err)
	if n := strings.Count(out, "\n"); n < 5 { // each domain has ten or more
		t.Errorf("%d messages for one of the domains are listed", n)
	}
	t.Logf("%d messages, made in %v: ready after %v (%v of processor time), at most %d MiB in memory",
		messages, filled.Round(time.Second), ready.Round(time.Millisecond), used, highest>>20)
}

// nowhere takes and reports nothing: the queue that is filled does not run.
type nowhere struct{}

func (nowhere) Deliver(context.Context, queue.Job) []queue.Result { return nil }

func fillQueue(t *testing.T, dir string, messages int) {
	t.Helper()
	eng, err := pebble.Open(dir, pebble.Options{FS: vfs.Default, Now: time.Now, ReserveBytes: -1})
	must(t, err)
	defer func() { must(t, eng.Close()) }()
	st, err := store.Open(eng, store.Options{Now: time.Now})
	must(t, err)
	defer st.Close()
	q := queue.New(eng, st, queue.Options{
		Hostname: "mx.martlet.test", Remote: nowhere{}, Local: nowhere{}, Now: time.Now,
		Report: func(context.Context, string, mail.Envelope, io.Reader) error { return nil },
		Rand:   func() float64 { return 0.5 }, Random: rand.Reader,
	})
	body := "From: alice@example.org\r\nSubject: x\r\n\r\n" + strings.Repeat("Some words of a short message.\r\n", 30)
	parcel, err := st.Receive(t.Context(), strings.NewReader(body))
	must(t, err)
	var entries []queue.Entry
	for n := range messages {
		e := queue.Entry{Parcel: parcel, Envelope: mail.Envelope{
			Login: fmt.Sprintf("u%d@example.org", n%1000), From: mail.Address{Local: fmt.Sprint("u", n%1000), Domain: "example.org"},
			To: []mail.Recipient{{Address: mail.Address{Local: "x", Domain: fmt.Sprintf("d%d.test", n%(messages/10))}}},
		}}
		if n%2 == 1 {
			e.Reason = "it was tried before"
		}
		if entries = append(entries, e); len(entries) == 500 || n == messages-1 {
			_, err := q.Enqueue(t.Context(), entries...)
			must(t, err)
			entries = entries[:0]
		}
	}
}

// processTime is the processor time that a process has used.
func processTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	ticks := 0
	for _, n := range f[11:13] {
		k, err := strconv.Atoi(n)
		must(t, err)
		ticks += k
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// resident is the memory of a process that is not on disk, in bytes.
func resident(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	must(t, err)
	return kib << 10
}
