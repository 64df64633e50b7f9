package admin

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/node"
)

// What is said of nodes, where there are some and where there are none.
func TestNodeCalls(t *testing.T) {
	w := newWorld(t)
	calls := []string{"GET /v1/nodes", "POST /v1/nodes/b/drain", "POST /v1/nodes/b/drain?undo=true", "POST /v1/nodes/nobody/drain", "DELETE /v1/nodes/b", "DELETE /v1/nodes/nobody"}
	for _, c := range calls {
		if status, body := w.call(t, c); status != 501 || !strings.Contains(body, "belongs to one machine") {
			t.Errorf("alone: %s: %d %s", c, status, body)
		}
	}
	begin := time.Now()
	for i, h := range enginetest.Nodes(w.engine, 3)[:2] { // the third keeps the engine open: the world closes it
		n, err := node.Open(t.Context(), h, node.Options{Name: string(rune('a' + i)), Lease: time.Hour, Format: 1, Version: "1.2", Now: time.Now, Random: rand.Reader, Elapsed: func() time.Duration { return time.Since(begin) }})
		if err == nil {
			err = n.Join(context.Background())
		}
		if err != nil {
			t.Fatal(err)
		}
		if w.options.Node == nil {
			w.options.Node = n
		}
	}
	w.Handler = New(w.options)
	for i, want := range []struct {
		status int
		answer string
	}{
		{200, `{"name":"b","number":1,"state":"up","version":"1.2","format":1,"addresses":[],"leases":[],"queued":0,`},
		{200, `{"draining":true,"name":"b"}`}, {200, `{"draining":false,"name":"b"}`}, {404, "see martlet cluster status"}, {0, "may live"}, {404, "see martlet cluster status"},
	} {
		status, body := w.call(t, calls[i])
		if status != want.status && (want.status != 0 || status < 400) || !strings.Contains(body, want.answer) {
			t.Errorf("%s: %d %s", calls[i], status, body)
		}
	}
}
