package pop3d

import (
	"bytes"
	"io"
	"math"
	"net"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/store"
)

// FuzzSession sends anything to a session that has logged in: it ends in good order,
// its first answer has the form of one, and without QUIT nothing is removed.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		"STAT\r\nLIST\r\n", "RETR 1\r\nTOP 1 1\r\nUIDL 2\r\n", "DELE 1\r\nDELE 1\r\nRSET\r\nDELE 2\r\n", "TOP 1 4294967295\r\n",
		"", "\r\n", "\n", "RETR 99999999999999999999\r\n", "LIST \xff\r\n", "CAPA\r\nLANG *\r\nLANG\r\nNOOP", "DELE 1\r\nQUIT\r\n", "AUTH =\r\nUSER x\r\nUTF8\r\n",
	} {
		f.Add([]byte(s))
	}
	w, full := newWorld(f, netsrv.Options{}), ""
	f.Fuzz(func(t *testing.T, input []byte) {
		w.t = t
		if full == "" || w.left() != full { // at first, and after a QUIT
			w.inbox(func(tx *store.Tx, box mail.MailboxID) error {
				var all mail.UIDSet
				all.AddRange(1, math.MaxUint32)
				_, err := tx.Expunge(box, all, false)
				return err
			})
			w.deliver([]byte("Subject: x\r\n\r\n.\r\n"))
			w.deliver([]byte("no header"))
			full = w.left()
		}
		ours, theirs := net.Pipe()
		ended := make(chan struct{})
		go func() {
			w.net.ServeConn(w.ctx, theirs, netsrv.Service{Name: "pop3", Handle: w.pop.Handle})
			close(ended)
		}()
		go func() {
			io.WriteString(ours, "USER alice@example.org\r\nPASS "+password+"\r\n")
			ours.Write(input)
			io.WriteString(ours, "\r\nRSET\r\nNOOP\r\n")
			// An end that no input can write: errors until the session is closed.
			io.WriteString(ours, strings.Repeat("END\r\n", 10))
		}()
		out, _ := io.ReadAll(ours)
		ours.Close()
		<-ended
		if n := w.net.Stats().Panics; n > 0 {
			t.Fatalf("%d panics", n)
		}
		lines := bytes.Split(out, []byte("\r\n"))
		if len(lines) < 4 || string(lines[2]) != "+OK 2 messages (26 octets)" {
			t.Fatalf("%q", out)
		}
		if a := lines[3]; !bytes.HasPrefix(a, []byte("+OK")) && !bytes.HasPrefix(a, []byte("-ERR ")) {
			t.Fatalf("%q is no answer in %q", a, out)
		}
		if left := w.left(); left != full && !bytes.Contains(bytes.ToUpper(input), []byte("QUIT")) {
			t.Fatalf("only %s is left after %q", left, input)
		}
	})
}
