package imapd

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// Another author's client reads what we write: what it understands is compared with
// what is there.
func TestOtherClient(t *testing.T) {
	w := newWorld(t)
	for _, subject := range []string{"one", "two", "three"} {
		w.deliver("INBOX", message(subject), 0)
	}
	news := make(chan uint32, 10)
	c := imapclient.New(w.dial(), &imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(data *imapclient.UnilateralDataMailbox) {
			if data.NumMessages != nil {
				news <- *data.NumMessages
			}
		},
	}})
	defer c.Close()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(c.Login("alice@example.org", password).Wait())
	boxes, err := c.List("", "*", &imap.ListOptions{ReturnStatus: &imap.StatusOptions{NumMessages: true, NumUnseen: true}}).Collect()
	check(err)
	if len(boxes) != 6 || boxes[0].Mailbox != "INBOX" || *boxes[0].Status.NumUnseen != 3 {
		t.Fatalf("%+v", boxes[0])
	}
	box, err := c.Select("INBOX", &imap.SelectOptions{CondStore: true}).Wait()
	check(err)
	if box.NumMessages != 3 || box.UIDNext != 4 || box.HighestModSeq == 0 {
		t.Fatalf("%+v", box)
	}
	section := &imap.FetchItemBodySection{Peek: true}
	got, err := c.Fetch(imap.SeqSetNum(2), &imap.FetchOptions{
		UID: true, Flags: true, Envelope: true, InternalDate: true, RFC822Size: true, ModSeq: true,
		BodyStructure: &imap.FetchItemBodyStructure{Extended: true}, BodySection: []*imap.FetchItemBodySection{section},
	}).Collect()
	check(err)
	m := got[0]
	text := message("two")
	if m.UID != 2 || m.Envelope.Subject != "two" || m.Envelope.From[0].Addr() != "bob@example.org" || m.RFC822Size != int64(len(text)) ||
		!bytes.Equal(m.FindBodySection(section), text) || m.BodyStructure.MediaType() != "text/plain" || !m.InternalDate.Equal(start) || m.ModSeq == 0 {
		t.Fatalf("%+v", m)
	}
	stored, err := c.Store(imap.UIDSetNum(1, 3), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted, "$Label"}}, nil).Collect()
	check(err)
	if len(stored) != 2 || len(stored[0].Flags) < 2 {
		t.Fatalf("%+v", stored)
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{Flag: []imap.Flag{"$Label"}}, &imap.SearchOptions{ReturnAll: true, ReturnCount: true}).Wait()
	check(err)
	if found.Count != 2 || found.All.String() != "1,3" {
		t.Fatalf("%+v", found)
	}
	moved, err := c.Move(imap.UIDSetNum(3), "Archive").Wait()
	check(err)
	if moved.SourceUIDs.String() != "3" || moved.DestUIDs.String() != "1" {
		t.Fatalf("%+v", moved)
	}
	expunged, err := c.Expunge().Collect()
	check(err)
	if len(expunged) != 1 || expunged[0] != 1 {
		t.Fatalf("%v", expunged)
	}
	up := c.Append("INBOX", 16, &imap.AppendOptions{Flags: []imap.Flag{imap.FlagDraft}, Time: start.Add(-time.Hour)})
	_, err = io.WriteString(up, "Subject: a\r\n\r\nb\n")
	check(err)
	check(up.Close())
	data, err := up.Wait()
	check(err)
	if data.UID != 4 {
		t.Fatalf("%+v", data)
	}
	for len(news) > 0 {
		<-news
	}
	idle, err := c.Idle()
	check(err)
	w.deliver("INBOX", message("late"), 0)
	select {
	case n := <-news:
		if n != 3 {
			t.Fatalf("%d messages, want 3", n)
		}
	case <-time.After(patience):
		t.Fatal("IDLE tells nothing")
	}
	check(idle.Close())
	check(idle.Wait())
	check(c.Logout().Wait())
}
