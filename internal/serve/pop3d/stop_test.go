package pop3d

import (
	"context"
	"testing"

	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// A server that stops lets a client that has marked messages say QUIT, and tells one that
// has not.
func TestStop(t *testing.T) {
	w := newWorld(t, netsrv.Options{})
	before := w.ctx
	ctx, stop := context.WithCancel(before)
	w.ctx = ctx
	w.deliver([]byte("Subject: x\r\n\r\n"))
	w.deliver([]byte("Subject: y\r\n\r\n"))
	idle := w.connect("B", false)
	idle.read()
	busy := w.login("A")
	busy.ask(t, "DELE 1")
	stop()
	w.ctx = before
	if got, err := idle.read(); got != "-ERR [SYS/TEMP] the server is stopping, try again shortly" {
		t.Errorf("%q, %v", got, err)
	}
	if got := busy.ask(t, "QUIT"); got != "+OK bye" {
		t.Error(got)
	}
	if left := w.left(); left != "2" {
		t.Errorf("left %s", left)
	}
}
