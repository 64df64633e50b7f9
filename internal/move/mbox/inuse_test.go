package mbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/rfc822"
)

// client changes a file while it is read. It keeps what it is given whole.
type client struct {
	change func()
	got    map[string]string // by Message-ID
	keys   map[string]bool
	skips  int
}

func (c *client) Want(_ context.Context, items []move.Item) ([]bool, error) {
	want := make([]bool, len(items))
	for i, it := range items {
		want[i] = !c.keys[it.Key]
	}
	if c.change != nil {
		c.change()
		c.change = nil
	}
	return want, nil
}

func (c *client) Put(_ context.Context, it move.Item, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err == nil {
		c.got[it.MessageID] += string(b)
		c.keys[it.Key] = true
	}
	return err
}
func (c *client) Skip(context.Context, move.Item, error) error { c.skips++; return nil }
func (c *client) Gone(context.Context, []string) error         { return nil }
func (c *client) State(context.Context, []byte) error          { return nil }

// ending is a folder in which something happens once a file has been read to its end.
type ending struct {
	fs.FS
	then func()
}

type endingFile struct {
	*os.File
	e *ending
}

func (e *ending) Open(name string) (fs.File, error) {
	f, err := e.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return &endingFile{f.(*os.File), e}, nil
}

func (f *endingFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	if err == io.EOF && f.e.then != nil {
		f.e.then()
		f.e.then = nil
	}
	return n, err
}

func boxOf(from, to int) string {
	var s strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&s, "From x@y Mon Jan  1 00:00:00 2024\nSubject: %d\nMessage-ID: <%d@x>\n\n%s\n\n", i, i, strings.Repeat("z", i*7))
	}
	return s.String()
}

// Other programs write the file while it is read: no message comes with bytes of another, or in
// part, and reading it again brings each once.
func TestFileInUse(t *testing.T) {
	const n = 1500
	half := boxOf(n, n+1)
	for what, c := range map[string]struct {
		before string // behind the first n messages
		change func(file string)
		atEnd  bool // it changes when the last message has been read
		again  bool // the first reading ends with an error that may pass
		cause  error
		from   int // messages that come in all
		to     int
	}{
		"one expunged, mutt's way": {"", func(file string) { os.WriteFile(file, []byte(boxOf(1, n)), 0o600) }, false, true, rfc822.ErrRewritten, 1, n},
		"flags changed in place": {"", func(file string) {
			b, _ := os.ReadFile(file)
			os.WriteFile(file, []byte(strings.Replace(string(b), "Subject: 700\n", "Status: RO\nSubject: 700\n", 1)), 0o600)
		}, false, true, rfc822.ErrRewritten, 0, n},
		"another one delivered": {"", func(file string) {
			f, _ := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
			f.WriteString(half)
			f.Close()
		}, false, false, nil, 0, n},
		"another one at the end": {"", func(file string) {
			f, _ := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
			f.WriteString(half)
			f.Close()
		}, true, false, nil, 0, n},
		"one that was half delivered": {half[:len(half)-5000], func(file string) {
			f, _ := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
			f.WriteString(half[len(half)-5000:])
			f.Close()
		}, true, true, nil, 0, n + 1},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "a.mbox")
			if err := os.WriteFile(file, []byte(boxOf(0, n)+c.before), 0o600); err != nil {
				t.Fatal(err)
			}
			fsys := &ending{FS: os.DirFS(dir)}
			src := New(fsys, "a.mbox", Options{ID: "x"})
			list, err := src.Mailboxes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			v := &client{got: map[string]string{}, keys: map[string]bool{}}
			if c.atEnd {
				fsys.then = func() { c.change(file) }
			} else {
				v.change = func() { c.change(file) }
			}
			err = src.Read(t.Context(), list[0], move.Reading{}, v)
			if (err != nil) != c.again || c.again && !fault.Is(err, fault.Unavailable) || c.cause != nil && !errors.Is(err, c.cause) {
				t.Errorf("the first reading: %v", err)
			}
			if c.again {
				if err := src.Read(t.Context(), list[0], move.Reading{}, v); err != nil {
					t.Fatal(err)
				}
			}
			if len(v.got) < c.to-c.from || v.skips > 0 {
				t.Errorf("%d messages, %d skipped", len(v.got), v.skips)
			}
			for i := c.from; i < c.to; i++ {
				id := fmt.Sprintf("%d@x", i)
				want := fmt.Sprintf("Message-ID: <%s>\r\n\r\n%s\r\n", id, strings.Repeat("z", i*7))
				if got := v.got[id]; !strings.HasSuffix(got, want) || strings.Count(got, "Subject:") != 1 {
					t.Fatalf("%s: %.200q", id, got)
				}
			}
		})
	}
}
