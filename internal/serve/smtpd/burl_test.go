package smtpd

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// shelf is a URLs that has one piece of text, and counts what is open.
type shelf struct {
	text string
	err  error // after the text, which is shorter than was told then
	open int
}

func (s *shelf) OpenURL(context.Context, mail.AccountID, string, string) (io.ReadCloser, int64, error) {
	s.open++
	n := int64(len(s.text))
	if s.err != nil {
		n += 10
	}
	return &onShelf{s, strings.NewReader(s.text)}, n, nil
}

type onShelf struct {
	s *shelf
	r *strings.Reader
}

func (o *onShelf) Read(p []byte) (int, error) {
	n, err := o.r.Read(p)
	if err == io.EOF && o.s.err != nil {
		err = o.s.err
	}
	return n, err
}

func (o *onShelf) Close() error {
	o.s.open--
	return nil
}

// What URLs bring counts as what clients send: by its size all together, and if it breaks
// off the message is not there.
func TestBURLBounds(t *testing.T) {
	for _, c := range []struct {
		about  string
		shelf  shelf
		times  int
		answer string
	}{
		{"fits", shelf{text: strings.Repeat("line\r\n", 8000)}, 2, "250 2.0.0"},
		{"too large together", shelf{text: strings.Repeat("line\r\n", 8000)}, 3, "554 5.3.4"},
		{"too large alone", shelf{text: strings.Repeat("line\r\n", 20000)}, 1, "554 5.3.4"},
		{"gone meanwhile", shelf{text: "line\r\n", err: fault.New(fault.NotFound, "no such message")}, 1, "554 5.6.6"},
		{"broken", shelf{text: "", err: fault.New(fault.Corrupt, "cannot be read")}, 1, "4"},
		{"short", shelf{text: "line\r\n", err: io.EOF}, 1, "4"},
	} {
		w := newWorld(t)
		w.options.Kind, w.options.URLs = Submission, &c.shelf
		p := &player{t: t, w: w, clients: map[string]*client{}}
		cl := &client{nc: w.connect(w.options, netsrv.NoTLS, "127.0.0.1")}
		cl.read()
		cl.send("EHLO a.test\r\nAUTH PLAIN AGFsaWNlQGhlcmUudGVzdABzZWNyZXQ=\r\n")
		until(p, cl, "235")
		cl.send("MAIL FROM:<alice@here.test>\r\nRCPT TO:<bob@here.test>\r\nBDAT 2\r\n\r\n" + strings.Repeat("BURL imap://x/y/;uid=1\r\n", c.times-1) + "BURL imap://x/y/;uid=1 LAST\r\nNOOP\r\n")
		said := until(p, cl, "250 2.0.0 still here")
		last := said[len(said)-2]
		if !strings.HasPrefix(last, c.answer) {
			t.Errorf("%s: %q, want %s", c.about, said, c.answer)
		}
		want := 0
		if strings.HasPrefix(c.answer, "250") {
			want = 1
		}
		if got := len(w.inbox("bob")); got != want || c.shelf.open != 0 {
			t.Errorf("%s: %d messages, want %d; %d URLs are open", c.about, got, want, c.shelf.open)
		}
	}
}

// until reads up to a line that begins so.
func until(p *player, c *client, prefix string) (said []string) {
	for {
		line, ok := c.next(p.t)
		if !ok {
			p.fail("the connection ended before %s", prefix)
		}
		if said = append(said, line); strings.HasPrefix(line, prefix) {
			return said
		}
	}
}

// Whatever URL alice names, nothing of bob's gets into her message.
func FuzzBURL(f *testing.F) {
	for _, url := range []string{
		"imap://mx.here.test/INBOX/;uid=1", "imap://bob%40here.test@mx.here.test/INBOX/;uid=1",
		"imap://bob@here.test/INBOX/;uid=1;urlauth=submit+alice:internal:01" + strings.Repeat("0", 64),
		"imap://mx.here.test/Other%20Users/bob@here.test/;uid=1/;section=TEXT/;partial=0.9", "imap://x/;uid=1", "/;uid=1",
	} {
		f.Add(url, false)
		f.Add(url, true)
	}
	w := newWorld(f)
	w.options.Kind, w.options.URLs = Submission, w.imap
	p := &player{w: w, clients: map[string]*client{}}
	setUp := func(t *testing.T) {
		if p.t != nil {
			p.t, w.t = t, t
			return
		}
		p.t, w.t = t, t
		p.imap("bob", "APPEND INBOX {19+}\r\n\r\nthe secret of bob")
		p.imap("alice", "APPEND INBOX {15+}\r\n\r\nalice's own\r\n")
	}
	f.Fuzz(func(t *testing.T, url string, last bool) {
		setUp(t)
		nc := w.serve(w.options, netsrv.NoTLS, "127.0.0.1")
		defer nc.Close()
		cl := &client{nc: nc}
		cl.read()
		end := ""
		if last {
			end = " LAST"
		}
		cl.send("EHLO a.test\r\nAUTH PLAIN AGFsaWNlQGhlcmUudGVzdABzZWNyZXQ=\r\n")
		until(p, cl, "235")
		cl.send("MAIL FROM:<alice@here.test>\r\nRCPT TO:<alice@here.test>\r\nBURL " + strings.NewReplacer("\r", "", "\n", "").Replace(url) + end + "\r\nQUIT\r\n")
		until(p, cl, "221")
		for _, m := range w.inbox("alice") {
			if strings.Contains(m, "secret of bob") {
				t.Fatalf("%q gives bob's mail to alice", url)
			}
		}
	})
}
