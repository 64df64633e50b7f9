package store

import (
	"bytes"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// record returns what is stored of a message under a family, and its kind of packing.
func (w *world) record(t *testing.T, family byte, id mail.MessageID) []byte {
	t.Helper()
	var v []byte
	err := w.eng.View(ctx, w.a.shard, func(r engine.Reader) error {
		got, ok, err := r.Get(engine.Key(family, uint64(id)))
		if err == nil && !ok {
			t.Fatalf("no record %c of %d", family, id)
		}
		v = bytes.Clone(got)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestShortMailIsKeptPlain(t *testing.T) {
	w := newWorld(t)
	for i, c := range []struct {
		head, body         int
		wantHead, wantBody byte
	}{
		{100, 1000, packedRaw, packedRaw},
		{plainMost - 100, plainMost, packedRaw, packedRaw},
		{plainMost + 100, plainMost + 1, packedZstd, packedZstd},
		{100, smallWhole, packedRaw, packedZstd},
	} {
		text := "Subject: a\r\nX-Long: " + strings.Repeat("x", c.head) + "\r\n\r\n" + strings.Repeat("all work\r\n", c.body/10+1)[:c.body]
		uid := w.deliver(t, "INBOX", text)
		id := mail.MessageID(uid)
		head, body := w.record(t, famHeader, id), w.record(t, famBody, id)
		if head[1] != c.wantHead || body[1] != c.wantBody {
			t.Errorf("%d: header packed %d, body %d", i, head[1], body[1])
		}
		if w.whole(t, id) != text {
			t.Errorf("%d: not the same again", i)
		}
	}
}

// TestShortMailOfBeforeIsRead: what was packed by an earlier version is read as what is
// not.
func TestShortMailOfBeforeIsRead(t *testing.T) {
	w := newWorld(t)
	head, body := "Message-ID: <old@example.org>\r\nSubject: old\r\n\r\n", strings.Repeat("as before\r\n", 50)
	for range 2 {
		w.deliver(t, "INBOX", head+body)
	}
	err := w.eng.Update(ctx, w.a.shard, func(tx engine.Writer) error {
		err := tx.Put(engine.Key(famHeader, 1), seal(recHeader, pack(w.pack.header, nil, []byte(head))))
		if err != nil {
			return err
		}
		return tx.Put(engine.Key(famBody, 1), seal(recBody, pack(w.pack.body, nil, []byte(body))))
	})
	if err != nil {
		t.Fatal(err)
	}
	if w.record(t, famHeader, 1)[1] != packedZstd || w.record(t, famBody, 1)[1] != packedZstd {
		t.Fatal("the records of before are not packed")
	}
	if w.whole(t, 1) != head+body {
		t.Error("not the same again")
	}
	err = w.a.View(ctx, func(s *Snapshot) error {
		n := 0
		count := func(want string) func(int, []byte, bool) error {
			return func(i int, b []byte, ok bool) error {
				if n++; !ok || string(b) != want {
					t.Errorf("message %d: %q", i, b)
				}
				return nil
			}
		}
		err := s.EachHead([]mail.MessageID{1, 2}, count(head))
		if err == nil {
			err = s.EachBody([]mail.MessageID{1, 2}, count(body))
		}
		if n != 4 {
			t.Errorf("%d of 4 were read", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
