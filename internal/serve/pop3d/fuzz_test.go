package pop3d

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/serve/netsrv"
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
	f.Fuzz(func(t *testing.T, input []byte) {
		w := newWorld(t, netsrv.Options{})
		w.deliver([]byte("Subject: x\r\n\r\n.\r\n"))
		w.deliver([]byte("no header"))
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
		if left := w.left(); left != "1:2" && !bytes.Contains(bytes.ToUpper(input), []byte("QUIT")) {
			t.Fatalf("only %s is left after %q", left, input)
		}
	})
}
