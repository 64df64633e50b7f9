package remote_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/test/promise"
)

// most is what both sides of an import may have reachable at once, with the store's own
// buffers: three batches and what the server reads, and not what a mailbox or a message has.
const most = 64 << 20

// What an import asks of memory does not grow with the mailbox, nor with a message.
func TestImportNeedsLittleMemory(t *testing.T) {
	n := 2400
	if promise.Long() {
		n = 60_000
	}
	small := peak(t, &synthetic{n: n / 4, size: 36 << 10})
	all := peak(t, &synthetic{n: n, size: 36 << 10})
	large := peak(t, &huge{n: 3, size: 45 << 20})
	t.Logf("reachable at most: %d MB of %d messages, %d MB of %d, %d MB of 3 messages of 45 MB", small>>20, n/4, all>>20, n, large>>20)
	if small > most || all > most || large > most {
		t.Errorf("more than %d MB are reachable at once", most>>20)
	}
	if grown := int64(all) - int64(small); grown > 24<<20 {
		t.Errorf("four times the mailbox took %d MB more", grown>>20)
	}
	// The test of the test: what keeps all messages is found out.
	if kept := peak(t, &huge{n: 3, size: 45 << 20, keep: true}); kept < most {
		t.Errorf("three messages of 45 MB that are kept were not seen: %d MB", kept>>20)
	}
}

// peak imports a source through a socket and returns the largest heap that was reachable.
func peak(t *testing.T, src move.Source) uint64 {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(25))
	dir := t.TempDir()
	s := newServer(t, vfs.Default, dir)
	var end atomic.Bool
	found := make(chan uint64)
	go func() {
		var top uint64
		for live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}; !end.Load(); time.Sleep(2 * time.Millisecond) {
			metrics.Read(live)
			top = max(top, live[0].Value.Uint64())
		}
		found <- top
	}()
	var files atomic.Int64
	r, err := move.Import(ctx, move.Options{
		Open: func(context.Context) (move.Source, error) { return src, nil }, Target: s.target("carol@example.org", nil), Now: time.Now,
		Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		Spool: func() (store.SpoolFile, error) {
			return os.Create(filepath.Join(dir, "spool"+strconv.FormatInt(files.Add(1), 10)))
		},
	})
	if err != nil || r.Mailboxes[0].Brought != r.Mailboxes[0].Messages {
		t.Fatal(r, err)
	}
	end.Store(true)
	return <-found
}

// huge is a source of few huge messages.
type huge struct {
	n, size int
	keep    bool
	kept    [][]byte
}

func (h *huge) ID() string   { return "huge" }
func (h *huge) Close() error { return nil }
func (h *huge) Mailboxes(context.Context) ([]move.Mailbox, error) {
	return []move.Mailbox{{Name: "INBOX", Source: "INBOX", Role: mail.RoleInbox, Messages: int64(h.n)}}, nil
}

func (h *huge) Read(ctx context.Context, _ move.Mailbox, _ move.Reading, v move.Visitor) error {
	for i := range h.n {
		item := move.Item{Key: strconv.Itoa(i), Size: int64(h.size)}
		if _, err := v.Want(ctx, []move.Item{item}); err != nil {
			return err
		}
		var r io.Reader = io.MultiReader(strings.NewReader("Subject: "+item.Key+"\r\n\r\n"), io.LimitReader(&lines{n: i}, int64(h.size)))
		if h.keep {
			b, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			h.kept = append(h.kept, b)
			r = strings.NewReader(string(b))
		}
		if err := v.Put(ctx, item, r); err != nil {
			return err
		}
	}
	return nil
}

// lines never end.
type lines struct{ n int }

func (l *lines) Read(b []byte) (int, error) {
	for i := range b {
		if l.n++; l.n%70 == 0 {
			b[i] = '\n'
		} else {
			b[i] = byte('a' + l.n*l.n%26)
		}
	}
	return len(b), nil
}
