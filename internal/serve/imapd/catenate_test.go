package imapd

import (
	"fmt"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/store"
)

// TestCatenateKeepsToQuota: what the parts add up to counts, not what each has.
func TestCatenateKeepsToQuota(t *testing.T) {
	w := newWorld(t)
	w.deliver("INBOX", []byte("Subject: x\r\n\r\n"+strings.Repeat("0123456789\r\n", 1000)), 0)
	w.change(func(tx *store.Tx) error { tx.SetQuota(store.Quota{Bytes: 40_000}); return nil })
	c := w.login("A", "")
	part := `URL "/INBOX/;UID=1" `
	for n, want := range map[int]string{2: "zz OK [APPENDUID", 3: "zz NO [OVERQUOTA]", 500: "zz NO [OVERQUOTA]"} {
		_, tagged := c.command(t, "APPEND Trash CATENATE ("+strings.TrimSpace(strings.Repeat(part, n))+")")
		if !strings.HasPrefix(tagged, want) {
			t.Errorf("%d parts: %s", n, tagged)
		}
		w.change(func(tx *store.Tx) error {
			m, err := tx.Mailbox("Trash")
			if err == nil {
				_, err = tx.Expunge(m.ID, store.All(), false)
			}
			return err
		})
	}
}

// TestCatenateIsBounded: the limit of a message holds for what it is made of, and a
// command has an end.
func TestCatenateIsBounded(t *testing.T) {
	w := newWorld(t)
	big := w.st.MaxMessage() / 3
	w.deliver("INBOX", []byte("Subject: x\r\n\r\n"+strings.Repeat(strings.Repeat("a", 998)+"\r\n", int(big/1000))), 0)
	c := w.login("A", "")
	parts := strings.TrimSpace(strings.Repeat(`URL "/INBOX/;UID=1" `, 4))
	if _, tagged := c.command(t, "APPEND Trash CATENATE ("+parts+")"); !strings.HasPrefix(tagged, "zz NO [TOOBIG]") {
		t.Error(tagged)
	}
	parts = strings.TrimSpace(strings.Repeat(`URL x `, 5000))
	if _, tagged := c.command(t, "APPEND Trash CATENATE ("+parts+")"); !strings.HasPrefix(tagged, "zz NO [BADURL x]") {
		t.Error(tagged)
	}
	empty := strings.TrimSpace(strings.Repeat("TEXT {0+}\r\n ", 3000))
	if _, tagged := c.command(t, "APPEND Trash CATENATE ("+empty+")"); !strings.HasPrefix(tagged, "zz BAD") {
		t.Error(tagged)
	}
	if _, tagged := c.command(t, "STATUS Trash (MESSAGES)"); !strings.HasPrefix(tagged, "zz OK") {
		t.Error(tagged)
	}
}

// TestCatenateNUL: a part that may hold NUL is stored as APPEND stores it.
func TestCatenateNUL(t *testing.T) {
	w := newWorld(t)
	c := w.login("A", "")
	text := "Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n"
	_, tagged := c.command(t, fmt.Sprintf("APPEND Trash CATENATE (TEXT {%d+}\r\n%s TEXT ~{3+}\r\na\x00b)", len(text), text))
	if !strings.HasPrefix(tagged, "zz OK") {
		t.Fatal(tagged)
	}
	c.command(t, "SELECT Trash")
	if lines, _ := c.command(t, "FETCH 1 BINARY.PEEK[1]"); len(lines) != 2 || lines[1] != "a\x00b)" {
		t.Errorf("%q", lines)
	}
}
