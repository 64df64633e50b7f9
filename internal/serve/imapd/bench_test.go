package imapd

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/store"
)

const benchMessages = 100_000

// BenchmarkCommands runs commands on a mailbox of 100,000 messages, answers read to
// their end.
func BenchmarkCommands(b *testing.B) {
	w := newWorldOn(b, 64<<20)
	var box store.Mailbox
	for range benchMessages / 1000 {
		p, err := w.st.Receive(w.ctx, bytes.NewReader(message("bench")))
		if err != nil {
			b.Fatal(err)
		}
		w.change(func(tx *store.Tx) (err error) {
			box, err = tx.Mailbox("INBOX")
			for range 1000 {
				if err == nil {
					_, err = tx.Append(box.ID, store.NewMessage{Parcel: p})
				}
			}
			return err
		})
	}
	conn := w.dial()
	r := bufio.NewReaderSize(conn, 256<<10)
	// run sends a command and reads its answer without looking at it.
	run := func(b *testing.B, command string) {
		io.WriteString(conn, "zz "+command+"\r\n")
		for {
			line, err := r.ReadSlice('\n')
			switch {
			case err == bufio.ErrBufferFull:
			case err != nil || bytes.HasPrefix(line, []byte("zz ")) && !bytes.HasPrefix(line, []byte("zz OK")):
				b.Fatalf("%s: %q %v", command, line, err)
			case bytes.HasPrefix(line, []byte("zz OK")):
				return
			}
		}
	}
	if _, err := r.ReadSlice('\n'); err != nil {
		b.Fatal(err)
	}
	run(b, `LOGIN alice@example.org "`+password+`"`)
	run(b, "SELECT INBOX")
	for _, command := range []string{
		"SELECT INBOX", "STATUS INBOX (MESSAGES UNSEEN)", `LIST "" * RETURN (STATUS (MESSAGES UNSEEN))`,
		"UID FETCH 1:* (FLAGS)", "FETCH 1:* (RFC822.SIZE)", "UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE)",
		"FETCH 1:* (ENVELOPE)", "FETCH 1:* (BODYSTRUCTURE)", "UID FETCH 99951:* (UID FLAGS ENVELOPE)",
		"FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])", "FETCH 1:* (BODY.PEEK[HEADER.FIELDS (RECEIVED)])",
		"FETCH 1:* (PREVIEW ENVELOPE)", "FETCH 1:10000 (BODY.PEEK[])",
		`STORE 1:* +FLAGS.SILENT (\Seen)`, `STORE 1:* -FLAGS.SILENT (\Seen)`, "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 99999999)",
		"SEARCH UNSEEN", "SEARCH RETURN (COUNT) SUBJECT nothing",
		"UID SORT RETURN (PARTIAL 1:50) (REVERSE ARRIVAL) UTF-8 ALL", "SORT (SUBJECT) UTF-8 ALL", "SORT (REVERSE DATE FROM) UTF-8 ALL",
		"THREAD REFERENCES UTF-8 ALL", "THREAD ORDEREDSUBJECT UTF-8 ALL", "NOOP",
	} {
		b.Run(strings.ReplaceAll(command, " ", "_"), func(b *testing.B) {
			for b.Loop() {
				run(b, command)
			}
		})
	}
}
