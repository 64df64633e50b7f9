package store

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// withFile is a message with text of a length and a file.
func withFile(seed uint64, text int, file []byte) string {
	return fmt.Sprintf("From: a@example.org\r\nSubject: %d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n\r\n%s\r\n--b%d\r\n"+
		"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n--b%d--\r\n",
		seed, seed, seed, prose(seed, text), seed, wrapped(file, 76, "\r\n"), seed)
}

// prose is text in lines of different lengths.
func prose(seed uint64, n int) string {
	rnd := rand.New(rand.NewPCG(seed, 3))
	var b strings.Builder
	for b.Len() < n {
		for range 3 + rnd.IntN(9) {
			fmt.Fprintf(&b, "%x ", rnd.IntN(5000))
		}
		b.WriteString("\r\n")
	}
	return b.String()
}

// blobs returns how many there are and their bytes.
func (w *world) blobs(t *testing.T) (n int, size int64) {
	t.Helper()
	err := w.eng.Blobs().List(ctx, func(_ mail.BlobRef, _ time.Time, bytes int64) bool {
		n++
		size += bytes
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return n, size
}

// TestSameFileIsKeptOnce: a file in two messages takes its room once, whatever stands
// before it and however it came in.
func TestSameFileIsKeptOnce(t *testing.T) {
	for _, size := range []int{7_000, 30_000, 300_000} {
		w := newWorld(t)
		file := random(1, size)
		texts := []string{withFile(1, 100, file), withFile(2, 9_000, file), withFile(3, 60_000, file), withFile(4, 131_000, file)}
		var ids []mail.UID
		for _, text := range texts {
			ids = append(ids, w.deliver(t, "INBOX", text))
		}
		if _, stored := w.blobs(t); stored > int64(size)+200_000*6/10+3_000 {
			t.Errorf("a file of %d bytes in four messages takes %d with 200,000 of text", size, stored)
		}
		bodies, names := 0, map[mail.BlobRef]int{}
		err := w.eng.Blobs().Needs(ctx, func(_ mail.BlobRef, _ time.Time, needs []mail.BlobRef) bool {
			bodies++
			for _, need := range needs {
				names[need]++
			}
			return true
		})
		if err != nil || bodies != len(texts) || len(names) != 1+size/50_000 {
			t.Errorf("a file of %d bytes is %d blobs for %d messages: %v", size, len(names), bodies, err)
		}
		for _, n := range names {
			if n != len(texts) {
				t.Errorf("a part of a file of %d bytes is in %d messages", size, n)
			}
		}
		p := w.picture(t, w.box(t, "INBOX").ID)
		for seq, m := range p.Messages(All()) {
			i := seq - 1
			if m.UID != ids[i] || w.whole(t, m.ID) != texts[i] {
				t.Errorf("message %d with a file of %d bytes comes back as another", i, size)
			}
		}
		w.verify(t)
	}
}

// TestAnyBodyComesBack: bodies of pieces of all sorts, in ranges.
func TestAnyBodyComesBack(t *testing.T) {
	w := newWorld(t)
	rnd := rand.New(rand.NewPCG(11, 2))
	for i := range uint64(60) {
		var b strings.Builder
		b.WriteString("From: a@example.org\r\n\r\n")
		for j := range uint64(1 + rnd.IntN(6)) {
			switch piece := random(i*10+j, rnd.IntN(80_000)); rnd.IntN(6) {
			case 0:
				b.WriteString(prose(i*10+j, rnd.IntN(50_000)))
			case 1:
				b.WriteString(wrapped(piece, 76, "\n"))
			case 2:
				b.Write(piece)
			case 3:
				s := wrapped(piece, 60, "\r\n")
				at := rnd.IntN(len(s) + 1)
				b.WriteString(s[:at] + "!" + s[at:])
			case 4:
				b.WriteString(strings.Repeat("QUJD", 10+rnd.IntN(4)) + "\r\n")
				fallthrough
			default:
				b.WriteString(wrapped(piece, 76, "\r\n"))
			}
		}
		whole := b.String()
		p, err := w.Receive(ctx, &cut{whole, 1 + rnd.IntN(70_000)})
		if err != nil {
			t.Fatal(err)
		}
		for k := range 6 {
			off, n := rnd.IntN(len(whole)), rnd.IntN(40_000)
			if k == 0 {
				off, n = 0, len(whole)
			}
			n = min(n, len(whole)-off)
			readsAs(t, p, whole, off, n)
		}
	}
}

// TestSweepKnowsWhatABodyNeeds: a file stays while one message has it, and goes after
// the last.
func TestSweepKnowsWhatABodyNeeds(t *testing.T) {
	w := newWorld(t)
	file := random(1, 100_000)
	first := w.deliver(t, "INBOX", withFile(1, 100, file))
	second := w.deliver(t, "INBOX", withFile(2, 200, file))
	box := w.box(t, "INBOX").ID
	gone := func(uid mail.UID) {
		w.update(t, func(tx *Tx) error {
			_, err := tx.Expunge(box, mail.SetOf(uid), false)
			return err
		})
		w.letPass(t, 2*SweepAge)
		if _, err := w.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := w.blobs(t)
	gone(first)
	if n, _ := w.blobs(t); n != before-1 {
		t.Errorf("of %d blobs %d are left, not all but the body", before, n)
	}
	w.verify(t)
	gone(second)
	if n, _ := w.blobs(t); n != 0 {
		t.Errorf("%d blobs are left of no message", n)
	}
}

// TestSweepLeavesWhatIsOnItsWay: a body that no message refers to yet keeps the file,
// which the engine may take for an hour older.
func TestSweepLeavesWhatIsOnItsWay(t *testing.T) {
	w := newWorld(t)
	file := random(1, 100_000)
	text := withFile(2, 100, file)
	w.receive(t, withFile(1, 100, file)) // and is never appended
	w.clock.t = w.clock.t.Add(30 * time.Minute)
	p := w.receive(t, text)
	w.letPass(t, SweepAge-15*time.Minute)
	if _, err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	r, err := p.Open(ctx, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != text {
		t.Errorf("%d bytes: %v", len(got), err)
	}
}

// TestVerifyMissesAFile: a body that lacks what it needs is found.
func TestVerifyMissesAFile(t *testing.T) {
	w := newWorld(t)
	file := random(1, 20_000)
	w.deliver(t, "INBOX", withFile(1, 100, file))
	var needs []mail.BlobRef
	err := w.eng.Blobs().Needs(ctx, func(_ mail.BlobRef, _ time.Time, list []mail.BlobRef) bool {
		needs = append(needs, list...)
		return true
	})
	if err != nil || len(needs) != 1 {
		t.Fatal(needs, err)
	}
	lines := len(file) / 57 * 57
	if needs[0] != partName(file[:lines]) || needs[0] == sha256.Sum256(file[:lines]) {
		t.Error("the blob is not named by what it holds, apart from bodies")
	}
	if ok, err := w.eng.Blobs().Delete(ctx, needs[0], w.clock.t.Add(time.Hour)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	found := 0
	if _, err := w.Verify(ctx, func(Problem) { found++ }, nil); err != nil || found == 0 {
		t.Errorf("%d problems: %v", found, err)
	}
	for _, m := range w.picture(t, w.box(t, "INBOX").ID).Messages(All()) {
		r, err := w.a.Open(ctx, m.ID, 0, -1)
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		if !fault.Is(err, fault.Corrupt) {
			t.Errorf("reading it says %v", err)
		}
	}
}
