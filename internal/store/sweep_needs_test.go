package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// holds fails unless the message of INBOX reads as it was delivered.
func (w *world) holds(t *testing.T, uid mail.UID, text string) {
	t.Helper()
	m, _ := w.picture(t, w.box(t, "INBOX").ID).Message(uid)
	r, err := w.a.Open(ctx, m.ID, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != text {
		t.Errorf("%d bytes of %d are left: %v", len(got), len(text), err)
	}
}

// A file that is attached to one message and is the whole body of another, and has an
// attachment in it: the body goes, the file stays, with what it needs.
func TestSweepOfABodyThatIsAFile(t *testing.T) {
	w := newWorld(t)
	file := wrapped(random(1, 21_000), 64, "\r\n") + "a tail\r\n"
	file += strings.Repeat("x", 57-len(file)%57)
	alone := w.deliver(t, "INBOX", "From: a@example.org\r\nSubject: x\r\n\r\n"+file)
	body, name := "", sha256.Sum256([]byte(file))
	for i := uint64(0); body == "" || bytes.Compare(name[:], sum(body)) > 0; i++ { // in the worse order
		body = prose(i, 300) + wrapped([]byte(file), 76, "\r\n") + "--end\r\n"
	}
	text := "From: a@example.org\r\nSubject: y\r\n\r\n" + body
	uid := w.deliver(t, "INBOX", text)
	if _, err := w.a.Expunge(ctx, w.box(t, "INBOX").ID, mail.SetOf(alone), false); err != nil {
		t.Fatal(err)
	}
	w.letPass(t, SweepAge+time.Hour)
	if s, err := w.Sweep(ctx); err != nil || s.Removed == 0 {
		t.Fatal(s, err)
	}
	w.holds(t, uid, text)
}

func sum(s string) []byte {
	name := sha256.Sum256([]byte(s))
	return name[:]
}

// meddled is an engine whose list of blobs is followed by something else that happens.
type meddled struct {
	engine.Engine
	blobs *meddledBlobs
}

func (m meddled) Blobs() engine.Blobs { return m.blobs }

type meddledBlobs struct {
	engine.Blobs
	afterList, afterNeeds func()
}

func (m *meddledBlobs) List(ctx context.Context, fn func(mail.BlobRef, time.Time, int64) bool) error {
	defer once(&m.afterList)
	return m.Blobs.List(ctx, fn)
}

func (m *meddledBlobs) Needs(ctx context.Context, fn func(mail.BlobRef, time.Time, []mail.BlobRef) bool) error {
	defer once(&m.afterNeeds)
	return m.Blobs.Needs(ctx, fn)
}

func once(fn *func()) {
	if do := *fn; do != nil {
		*fn = nil
		do()
	}
}

// A body that nobody has is delivered again while it is swept, on a road that does not put
// what it needs: it stays, and so does that.
func TestSweepBesideTheSameBody(t *testing.T) {
	for _, when := range []string{"list", "needs"} {
		w := newWorld(t)
		blobs := &meddledBlobs{Blobs: w.eng.Blobs()}
		w.Store.eng = meddled{w.eng, blobs}
		body := wrapped(random(1, 57*700), 76, "\r\n") // one run and nothing else
		w.receive(t, "From: a@example.org\r\nX: "+strings.Repeat("y", 12_000)+"\r\n\r\n"+body)
		w.letPass(t, SweepAge+time.Hour)
		text := "From: a@example.org\r\nSubject: x\r\n\r\n" + body
		var uid mail.UID
		deliver := func() { uid = w.deliver(t, "INBOX", text) }
		if when == "list" {
			blobs.afterList = deliver
		} else {
			blobs.afterNeeds = deliver
		}
		if _, err := w.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		if uid == 0 {
			t.Fatalf("nothing was delivered after the %s", when)
		}
		w.holds(t, uid, text)
		w.letPass(t, SweepAge+time.Hour)
		if _, err := w.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		w.holds(t, uid, text)
	}
}

// What waited in the queue is delivered while the sweep asks who has what.
func TestSweepBesideTheQueue(t *testing.T) {
	w := newWorld(t)
	text := hello + prose(5, 20_000)
	p := w.receive(t, text)
	if p.Blob().IsZero() {
		t.Fatal("the body is no blob")
	}
	w.letPass(t, SweepAge+time.Hour)
	inbox := w.box(t, "INBOX").ID
	var uid mail.UID
	w.AddReferrer(func(context.Context, func(mail.BlobRef)) error { // which has forgotten it
		w.update(t, func(tx *Tx) (err error) {
			uid, err = tx.Append(inbox, NewMessage{Parcel: p})
			return err
		})
		return nil
	})
	if _, err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	w.holds(t, uid, text)
}
