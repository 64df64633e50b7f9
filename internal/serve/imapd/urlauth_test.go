package imapd

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// signed has a client sign a URL.
func signed(t *testing.T, c *client, rump string) string {
	t.Helper()
	lines, tagged := c.command(t, `GENURLAUTH "`+rump+`" INTERNAL`)
	if len(lines) != 1 || !strings.HasPrefix(tagged, "zz OK") {
		t.Fatal(lines, tagged)
	}
	return strings.TrimPrefix(lines[0], "* GENURLAUTH ")
}

func fetchURL(t *testing.T, c *client, url string) string {
	t.Helper()
	lines, tagged := c.command(t, "URLFETCH "+url)
	if !strings.HasPrefix(tagged, "zz OK") {
		t.Fatal(tagged)
	}
	return strings.TrimPrefix(strings.Join(lines, "\n"), "* URLFETCH "+url+" ")
}

// TestURLEnds: a URL is void once its message, its mailbox or its key is gone, and a
// mailbox of the same name does not bring it back.
func TestURLEnds(t *testing.T) {
	w := newWorld(t)
	c, bob := w.login("A", ""), w.login("B", "bob@example.org")
	const rump = "imap://alice@example.org/box/;uid=1/;section=TEXT;urlauth=anonymous"
	for what, end := range map[string]func(){
		"expunge":   func() { c.command(t, "SELECT box"); c.command(t, `STORE 1 FLAGS (\Deleted)`); c.command(t, "CLOSE") },
		"key":       func() { c.command(t, "RESETKEY box") },
		"every key": func() { c.command(t, "RESETKEY") },
		"new key":   func() { c.command(t, "RESETKEY"); signed(t, c, rump) },
		"delete":    func() {},
		"rename":    func() { c.command(t, "RENAME box other") },
	} {
		c.command(t, "CREATE box")
		w.deliver("box", message("x"), 0)
		url := signed(t, c, rump)
		if got := fetchURL(t, bob, url); !strings.HasPrefix(got, "{12}") {
			t.Fatalf("%s: %s", what, got)
		}
		end()
		if what == "delete" {
			c.command(t, "DELETE box")
			c.command(t, "CREATE box")
			w.deliver("box", message("y"), 0)
			signed(t, c, rump)
		}
		if got := fetchURL(t, bob, url); got != "NIL" {
			t.Errorf("%s: %s", what, got)
		}
		c.command(t, "DELETE box")
		c.command(t, "DELETE other")
	}
}

// TestSubmitter: what is for submission on somebody's behalf goes to submission servers,
// and to no one else.
func TestSubmitter(t *testing.T) {
	w := newWorld(t)
	w.deliver("INBOX", message("x"), 0)
	c, bob := w.login("A", ""), w.login("B", "bob@example.org")
	url := signed(t, c, "imap://alice@example.org/INBOX/;uid=1/;section=TEXT;urlauth=submit+alice")
	w.imap.opt.Submitter = func(id mail.AccountID) bool { return id != w.alice.ID() }
	if got := fetchURL(t, bob, url); !strings.HasPrefix(got, "{12}") {
		t.Error(got)
	}
	if got := fetchURL(t, c, url); got != "NIL" {
		t.Error(got)
	}
}

// TestLargeURL: what a URL means is streamed, decoded too.
func TestLargeURL(t *testing.T) {
	w := newWorld(t)
	const lines = 200_000
	w.deliver("INBOX", []byte("Content-Transfer-Encoding: base64\r\n\r\n"+strings.Repeat("YWJjZGVmZw0K\r\n", lines)), 0) // abcdefg CRLF
	c := w.login("A", "")
	url := signed(t, c, "imap://alice@example.org/INBOX/;uid=1/;section=1;urlauth=anonymous")
	if got := fetchURL(t, c, url); len(got) != len(fmt.Sprintf("{%d}\n", 14*lines))+13*lines {
		t.Errorf("%d bytes", len(got)) // the client turns CRLF into LF
	}
	got, _ := c.command(t, "URLFETCH ("+url+" BINARY)")
	if len(got) != lines+2 || got[lines] != "abcdefg" {
		t.Errorf("%d lines", len(got))
	}
}

// TestManyBadURLs: a command of URLs that give nothing gets that many answers and no
// more work.
func TestManyBadURLs(t *testing.T) {
	w := newWorld(t)
	c := w.login("A", "")
	url := ` "imap://alice@example.org/x/;uid=1;urlauth=anonymous:internal:00"`
	got, tagged := c.command(t, "URLFETCH"+strings.Repeat(url, 900))
	if len(got) != 900 || !strings.HasPrefix(tagged, "zz OK") {
		t.Error(len(got), tagged)
	}
	if _, tagged := c.command(t, "URLFETCH"+strings.Repeat(" x", 2001)); !strings.HasPrefix(tagged, "zz BAD") {
		t.Error(tagged)
	}
}

// TestPartStructure: the structure of a part found in that of the message has the size
// that the part has.
func TestPartStructure(t *testing.T) {
	w := newWorld(t)
	text := []byte("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: message/rfc822\r\n\r\n" +
		"Content-Type: multipart/alternative; boundary=\"(\\\"\"\r\nSubject: \"(x)\r\n\r\n--(\"\r\nContent-Type: text/plain\r\n\r\none\r\n--(\"\r\n" +
		"Content-Type: message/rfc822\r\n\r\nSubject: gr\xfc\xdf\r\n\r\nfour\r\n--(\"--\r\n--a\r\nContent-Description: {3}\r\n\r\nthree!\r\n--a--\r\n")
	p, err := w.st.Receive(w.ctx, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	wire, found := p.Message().BodyStructure, 0
	var visit func(part *mime.Part, path []uint32)
	visit = func(part *mime.Part, path []uint32) {
		if len(path) > 0 && !part.IsMultipart() {
			found++
			e := elements(partStructure(wire, path))
			if len(e) <= atSize || string(e[atSize]) != fmt.Sprint(part.Size()) || !isWord(e[atType], part.Type) {
				t.Errorf("%v: %q", path, e)
			}
		}
		children := part.Children
		if part.IsMessage() {
			if inner := children[0]; inner.IsMultipart() {
				children = inner.Children
			}
		}
		for i, child := range children {
			visit(child, append(path[:len(path):len(path)], uint32(i+1)))
		}
	}
	visit(p.Message().Root, nil)
	if found != 5 {
		t.Errorf("%d parts were looked at", found)
	}
	for _, path := range [][]uint32{{3}, {0}, {4}, {1, 3}, {2, 1}, {1, 1, 1}, {1 << 31}} {
		if got := partStructure(wire, path); got != nil {
			t.Errorf("%v: %q", path, got)
		}
	}
}

// FuzzPartStructure: whatever the wire form, what is found is a piece of it.
func FuzzPartStructure(f *testing.F) {
	f.Add([]byte(`(("text" "plain" NIL NIL NIL "7bit" 1 0)("a" "b" ("x" "(") NIL NIL {2}`+"\r\n()"+` 3) "mixed")`), uint32(1), uint32(2))
	f.Add([]byte(`("message" "rfc822" NIL NIL NIL "7bit" 1 (NIL) ("text" "plain" NIL NIL NIL "7bit" 1 0) 3)`), uint32(1), uint32(1))
	f.Fuzz(func(t *testing.T, wire []byte, a, b uint32) {
		if len(wire) < 2 {
			return
		}
		if got := partStructure(wire, []uint32{a, b}); got != nil && !bytes.Contains(wire, got) {
			t.Fatalf("%q", got)
		}
		if e := elements(wire); e != nil && len(bytes.Join(e, nil)) > len(wire) {
			t.Fatalf("%q", e)
		}
		decodedStructure(wire, 1, 1)
	})
}

// TestURLOfSelected: a URL that is relative to the selected mailbox, in all its forms.
func TestURLOfSelected(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"a/b", "a/c", "c"} {
		w.change(func(tx *store.Tx) error { _, err := tx.CreateMailbox(name, ""); return err })
		w.deliver(name, message("in "+name), 0)
	}
	c := w.login("A", "")
	append1 := func(url string) string {
		_, tagged := c.command(t, `APPEND Trash CATENATE (URL "`+url+`")`)
		return tagged
	}
	if got := append1(";UID=1"); !strings.HasPrefix(got, "zz NO [BADURL") {
		t.Error(got)
	}
	c.command(t, "SELECT a/b")
	for _, url := range []string{";UID=1", "b/;UID=1", "c/;UID=1", "/c/;UID=1", "/a/c/;UID=1"} {
		if got := append1(url); !strings.HasPrefix(got, "zz OK") {
			t.Errorf("%s: %s", url, got)
		}
	}
	for _, url := range []string{"/b/;UID=1", "a/b/;UID=1", "/;UID=1", ";SECTION=1"} {
		if got := append1(url); !strings.HasPrefix(got, "zz NO [BADURL "+imap.URLText(url)+"]") {
			t.Errorf("%s: %s", url, got)
		}
	}
	c.command(t, "SELECT Trash")
	lines, _ := c.command(t, "FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]")
	var subjects []string
	for _, l := range lines {
		if s, ok := strings.CutPrefix(l, "Subject: in "); ok {
			subjects = append(subjects, s)
		}
	}
	if got := strings.Join(subjects, " "); got != "a/b a/b a/c c a/c" {
		t.Error(got)
	}
}
