package netsrv

import (
	"bufio"
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// holding is a protocol in which "begin" opens something that "end" closes.
type holding struct{ c *Conn }

func (h *holding) Resume(_ bool, err error) {
	line := ""
	if err == nil {
		line, err = h.c.R.ReadString('\n')
	}
	if err != nil {
		if h.c.Stopping() {
			h.c.W.WriteString("stopping\n")
		}
		return
	}
	h.c.Hold(line == "begin\n" || line == "more\n")
	h.c.W.WriteString(line)
	h.c.Park(h, false)
}

func (h *holding) Close() {}

// stopping serves holding sessions, and stops when stop is called.
func stopping(t *testing.T, grace time.Duration) (client net.Conn, r *bufio.Reader, ctx context.Context, stop func(), done chan error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(t.Context())
	done = make(chan error, 1)
	began := make(chan context.Context, 1)
	go func() {
		done <- New(Options{Grace: grace}).Serve(running, ln, Service{Handle: func(ctx context.Context, c *Conn) {
			began <- ctx
			c.Park(&holding{c: c}, true)
		}})
	}()
	client = dial(t, ln.Addr().String())
	client.SetDeadline(time.Now().Add(10 * time.Second))
	return client, bufio.NewReader(client), <-began, stop, done
}

// A session that is held goes on while the server stops, and ends as it is let go.
func TestHold(t *testing.T) {
	client, r, ctx, stop, done := stopping(t, time.Minute)
	io.WriteString(client, "begin\n")
	hear(t, r, "begin\n")
	stop()
	for range 3 {
		io.WriteString(client, "more\n")
		hear(t, r, "more\n")
	}
	if ctx.Err() != nil {
		t.Error("the context of a session that is held has ended")
	}
	io.WriteString(client, "end\n")
	hear(t, r, "end\n")
	hear(t, r, "stopping\n")
	client.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// One that is held for too long hears of it before it is cut off, and its context has ended.
func TestHoldForTooLong(t *testing.T) {
	client, r, ctx, stop, done := stopping(t, 400*time.Millisecond)
	io.WriteString(client, "begin\n")
	hear(t, r, "begin\n")
	stop()
	hear(t, r, "stopping\n")
	if ctx.Err() == nil {
		t.Error("the context goes on")
	}
	client.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
