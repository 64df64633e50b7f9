package store

import (
	"bytes"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
)

// A message without some fields is in every way the one that would have come without them.
func TestHeaderWithoutFields(t *testing.T) {
	const gone = "X-Gone: a\r\n folded\r\n"
	for name, body := range map[string]string{"none": "", "small": "one\r\n", "blob": strings.Repeat("some words of a long body\r\n", 5000)} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			head := "Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\nTo: a@b.test\r\n\r\n"
			rest := "--b\r\n\r\n" + body + "\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>two\r\n--b--\r\n"
			if body == "" {
				rest = ""
			}
			want := w.receive(t, head+rest)
			for _, at := range []int{0, strings.Index(head, "Content"), len(head) - 2} {
				p := w.receive(t, head[:at]+gone+head[at:]+rest)
				before := bytes.Clone(p.Header())
				q, ok := p.WithHeader([]byte(head))
				if !ok || !bytes.Equal(encodeFacts(q), encodeFacts(want)) || string(q.Header()) != head || q.Size() != want.Size() || q.Digest() != want.Digest() {
					t.Fatalf("at %d: %v, %q", at, ok, q.Header())
				}
				if !bytes.Equal(p.Header(), before) {
					t.Error("the message itself was changed")
				}
				if got := q.Prepend([]byte("Y: z\r\n")); !bytes.Equal(encodeFacts(got), encodeFacts(want.Prepend([]byte("Y: z\r\n")))) {
					t.Error("and a line in front of it makes another")
				}
				var id mail.MessageID
				w.update(t, func(tx *Tx) error {
					inbox, _ := tx.Mailbox("INBOX")
					uid, err := tx.Append(inbox.ID, NewMessage{Parcel: q})
					m, _ := tx.Message(inbox.ID, uid)
					id = m.ID
					return err
				})
				if got := w.whole(t, id); got != head+rest {
					t.Fatalf("%q", got)
				}
			}
			w.verify(t)
		})
	}
	w := newWorld(t)
	long := w.receive(t, "X-Gone: a\r\nX-Long: "+strings.Repeat("x", maxHead)+"\r\n\r\nbody\r\n")
	if q, ok := long.WithHeader([]byte("A: b\r\n\r\n")); ok || q != long {
		t.Error("a header that is not known whole was replaced")
	}
}
