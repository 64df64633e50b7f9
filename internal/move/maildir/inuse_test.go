package maildir

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// client changes a Maildir while it is read.
type client struct {
	change          func()
	told, seen, put int
	skips           []string
}

func (c *client) Want(_ context.Context, items []move.Item) ([]bool, error) {
	want := make([]bool, len(items))
	for i, it := range items {
		want[i] = true
		if it.Flags.Has(mail.Seen) {
			c.seen++
		}
	}
	c.told += len(items)
	if c.change != nil {
		c.change()
		c.change = nil
	}
	return want, nil
}

func (c *client) Put(_ context.Context, _ move.Item, r io.Reader) error {
	c.put++
	_, err := io.Copy(io.Discard, r)
	return err
}

func (c *client) Skip(_ context.Context, it move.Item, why error) error {
	c.skips = append(c.skips, it.Key+": "+why.Error())
	return nil
}
func (c *client) Gone(context.Context, []string) error { return nil }
func (c *client) State(context.Context, []byte) error  { return nil }

// A client marks all messages as read, or removes many, while the folder is read: each message
// is told of, and comes or is skipped with a reason.
func TestFolderInUse(t *testing.T) {
	const n = 3500
	for what, c := range map[string]struct {
		change    func(name string) // of a file in cur
		put, seen int               // seen: of those told after the change
	}{
		"all marked as read": {func(name string) { os.Rename(name, name+"S") }, n, n - move.MaxItems},
		"many removed": {func(name string) {
			if strings.Contains(name, "5.M1P1") {
				os.Remove(name)
			}
		}, n - n/10, 0},
		"all removed": {func(name string) { os.Remove(name) }, 0, 0},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "cur"), 0o700); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				if err := os.WriteFile(filepath.Join(dir, "cur", fmt.Sprintf("%d.M1P1.host:2,", 1500000000+i)), []byte("Subject: x\n\nbody\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := New(os.DirFS(dir), "maildir:x")
			list, err := s.Mailboxes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			v := &client{change: func() {
				names, _ := filepath.Glob(filepath.Join(dir, "cur", "*"))
				for _, name := range names {
					c.change(name)
				}
			}}
			if err := s.Read(t.Context(), list[0], move.Reading{}, v); err != nil {
				t.Fatal(err)
			}
			if v.told != n || v.put != c.put || len(v.skips) != n-c.put || v.seen != c.seen {
				t.Errorf("%d told of (%d seen), %d brought, %d skipped", v.told, v.seen, v.put, len(v.skips))
			}
			for _, why := range v.skips {
				if !strings.Contains(why, "was removed") {
					t.Fatal(why)
				}
			}
		})
	}
}
