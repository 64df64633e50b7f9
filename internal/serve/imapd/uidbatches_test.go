package imapd

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// fillBox puts so many copies of one message into a mailbox of alice's.
func (w *world) fillBox(box, many string) {
	w.t.Helper()
	n, err := strconv.Atoi(many)
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := w.st.Receive(w.ctx, bytes.NewReader(message("filling")))
	if err != nil {
		w.t.Fatal(err)
	}
	for n > 0 {
		part := min(n, 1000)
		w.change(func(tx *store.Tx) error {
			m, err := tx.Mailbox(box)
			for range part {
				if err == nil {
					_, err = tx.Append(m.ID, store.NewMessage{Parcel: p})
				}
			}
			return err
		})
		n -= part
	}
}

// uidSet reads a set of UIDs without *.
func uidSet(text string) (set mail.UIDSet) {
	for part := range strings.SplitSeq(text, ",") {
		var from, to mail.UID
		if n, _ := fmt.Sscanf(part, "%d:%d", &from, &to); n < 2 {
			to = from
		}
		set.AddRange(from, to)
	}
	return set
}

// Whatever size is asked for, the batches together hold each message once, none holds
// more than was asked for and only the last one fewer.
func TestBatchesCoverTheMailbox(t *testing.T) {
	w := newWorld(t)
	w.fillBox("INBOX", "2600")
	box := w.picture("INBOX").Mailbox().ID
	for _, gone := range []string{"1:40", "300:599,700,702,704", "2500:2600", "900:1400", "41:2499"} {
		if _, err := w.alice.Expunge(w.ctx, box, uidSet(gone), false); err != nil {
			t.Fatal(err)
		}
		pic := w.picture("INBOX")
		for _, size := range []int64{1, 2, 7, 500, 2000, 2599, 2600, 1 << 32} {
			next, seen := pic.Mailbox().UIDNext, int64(0)
			for high, low := range batches(pic, size, 1, 1<<31) {
				if high != next-1 || low > high || low == 0 {
					t.Fatalf("size %d: batch %d:%d after one that ended at %d", size, high, low, next)
				}
				n := int64(pic.Existing(mail.UIDSet{{From: low, To: high}}).Len())
				if seen += n; n != size && low != 1 || n > size || n == 0 {
					t.Fatalf("size %d: %d messages in %d:%d", size, n, high, low)
				}
				next = low
			}
			if seen != int64(pic.Len()) || seen > 0 && next != 1 {
				t.Fatalf("size %d: %d of %d messages, down to %d", size, seen, pic.Len(), next)
			}
			i := int64(0)
			for high, low := range batches(pic, size, 1, 1<<31) {
				i++
				for h, l := range batches(pic, size, i, i) {
					if h != high || l != low {
						t.Fatalf("size %d, batch %d: %d:%d alone, %d:%d among all", size, i, h, l, high, low)
					}
				}
			}
			for h, l := range batches(pic, size, i+1, i+9) {
				t.Fatalf("size %d: %d:%d is beyond the last batch", size, h, l)
			}
		}
	}
}

// The tenth to twentieth batch of 2,000 among 100,000 messages (RFC 10022, 3.1.5) are
// the same part of a mailbox of 1,000 in batches of 20.
func TestBatchRange(t *testing.T) {
	w := newWorld(t)
	w.fillBox("INBOX", "1000")
	var got []string
	for high, low := range batches(w.picture("INBOX"), 20, 10, 20) {
		got = append(got, fmt.Sprintf("%d:%d", high, low))
	}
	if len(got) != 11 || got[0] != "820:801" || got[10] != "620:601" {
		t.Error(got)
	}
}

// A client that asks for the same again and again is stopped until there is news.
func TestBatchesAgainAndAgain(t *testing.T) {
	w := newWorld(t)
	w.fillBox("INBOX", "600")
	c := w.login("A", "")
	c.command(t, "SELECT INBOX")
	ask := func() string {
		_, tagged := c.command(t, "UIDBATCHES 500")
		return tagged
	}
	n := 0
	for n < 1000 && strings.HasPrefix(ask(), "zz OK") {
		n++
	}
	if n < 20 || n > 100 {
		t.Fatalf("stopped after %d", n)
	}
	if got := ask(); !strings.HasPrefix(got, "zz NO [LIMIT] ") {
		t.Error(got)
	}
	w.fillBox("INBOX", "250")
	c.command(t, "NOOP")
	if got := ask(); !strings.HasPrefix(got, "zz NO") {
		t.Error(got)
	}
	w.fillBox("INBOX", "1")
	c.command(t, "NOOP")
	if got := ask(); !strings.HasPrefix(got, "zz OK") {
		t.Error(got)
	}
	for strings.HasPrefix(ask(), "zz OK") {
	}
	if _, err := w.alice.Expunge(w.ctx, w.picture("INBOX").Mailbox().ID, uidSet("10:260"), false); err != nil {
		t.Fatal(err)
	}
	c.command(t, "NOOP")
	if got := ask(); !strings.HasPrefix(got, "zz OK") {
		t.Error(got)
	}
}
