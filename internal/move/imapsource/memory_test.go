package imapsource

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/test/provider"
)

// counter is a visitor that wants all and keeps nothing.
type counter struct {
	messages int
	bytes    int64
	asked    int
	peak     uint64 // of what is live on the heap
	state    []byte
}

func (c *counter) Want(_ context.Context, items []move.Item) ([]bool, error) {
	want := make([]bool, len(items))
	for i := range want {
		want[i] = true
	}
	if c.asked++; c.asked%8 == 1 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		c.peak = max(c.peak, m.HeapAlloc)
	}
	return want, nil
}

func (c *counter) Put(_ context.Context, _ move.Item, r io.Reader) error {
	n, err := io.Copy(discard{}, r)
	c.messages++
	c.bytes += n
	return err
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func (c *counter) Skip(_ context.Context, it move.Item, why error) error {
	return fmt.Errorf("%s: %w", it.Key, why)
}
func (c *counter) Gone(context.Context, []string) error        { return nil }
func (c *counter) State(_ context.Context, state []byte) error { c.state = state; return nil }

// What reading asks of memory does not grow with the mailbox: neither with its bytes nor,
// but for some bytes each where UIDs have gaps, with its messages. MARTLET_IMPORT_GB says how
// much is read.
func TestMemoryIsFlat(t *testing.T) {
	gb := 0.3
	if v, err := strconv.ParseFloat(os.Getenv("MARTLET_IMPORT_GB"), 64); err == nil {
		gb = v
	}
	peak := map[string]uint64{}
	for name, e := range map[string]*provider.Endless{
		"few":  {Messages: 1000, Bytes: 40_000},
		"many": {Messages: int(gb * 1e9 / 40_000), Bytes: 40_000},
		"gaps": {Messages: 60_000, Bytes: 100, Gaps: true},
	} {
		peak[name] = flat(t, e)
	}
	t.Logf("live on the heap at most: %v; %.1f GB in the large one", peak, gb)
	if peak["many"] > peak["few"]+2<<20 {
		t.Errorf("%d bytes for %.1f GB, %d for 40 MB", peak["many"], gb, peak["few"])
	}
	if peak["gaps"] > peak["few"]+4<<20 {
		t.Errorf("%d bytes for 60,000 UIDs with gaps, %d for 1,000", peak["gaps"], peak["few"])
	}
}

// A server that says UIDs behind bodies is read whole, and messages that are too large to be
// held until then one by one.
func TestUIDsBehindBodies(t *testing.T) {
	for _, size := range []int{3000, 3 << 20} {
		flat(t, &provider.Endless{Messages: 7, Bytes: size, Late: true})
	}
}

func flat(t *testing.T, e *provider.Endless) uint64 {
	t.Helper()
	addr := e.Start(t)
	_, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	s := New(Options{User: "carol", Credentials: func(context.Context) (imapc.Credentials, error) { return imapc.Credentials{}, nil },
		IMAP: imapc.Options{Host: "127.0.0.1", Port: uint16(n), Security: imapc.OfferedTLS, Dial: (&net.Dialer{}).DialContext, Now: time.Now, Random: rand.Reader}})
	defer s.Close()
	runtime.GC()
	var c counter
	must(t, s.Read(t.Context(), named(t, s, "INBOX"), move.Reading{}, &c))
	if c.messages != e.Messages || c.bytes != int64(e.Messages)*int64(e.Bytes) {
		t.Fatalf("%d of %d messages, %d bytes", c.messages, e.Messages, c.bytes)
	}
	if len(c.state) > 4096 {
		t.Errorf("a state of %d bytes", len(c.state))
	}
	_, known := decodeState(c.state)
	if !known.Contains(1) || !known.Contains(mail.UID(e.Last())) {
		t.Error("the state lacks UIDs")
	}
	return c.peak
}
