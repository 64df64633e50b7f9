package imapd

import (
	"bytes"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/store"
)

const benchMessages = 100_000

// BenchmarkCommands runs commands on a mailbox of 100,000 messages, answers read to
// their end.
func BenchmarkCommands(b *testing.B) {
	w := newWorld(b)
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
	c := w.login("A", "")
	for _, command := range []string{
		"SELECT INBOX", "UID FETCH 1:* (FLAGS)", "FETCH 1:* (ENVELOPE)", "FETCH 1:* (BODYSTRUCTURE)",
		"FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])", "FETCH 1:10000 (BODY.PEEK[])",
		`STORE 1:* +FLAGS.SILENT (\Seen)`, `STORE 1:* -FLAGS.SILENT (\Seen)`, "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 99999999)",
		"SEARCH UNSEEN", "SEARCH RETURN (COUNT) SUBJECT nothing", "NOOP",
	} {
		b.Run(strings.ReplaceAll(command, " ", "_"), func(b *testing.B) {
			for b.Loop() {
				c.send(b, "zz "+command+"\r\n")
				for {
					line, ok := c.read(b)
					if !ok || strings.HasPrefix(line, "zz ") {
						if !strings.HasPrefix(line, "zz OK") {
							b.Fatal(line)
						}
						break
					}
				}
			}
		})
	}
}
