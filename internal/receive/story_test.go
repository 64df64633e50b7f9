package receive

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/trace"
)

// Where a message came from and went can be read afterwards: aliases with the address that
// the sender wrote, what waits with its name in the queue, and refusals with their reason.
func TestStory(t *testing.T) {
	for _, c := range []struct {
		name, protocol string
		to             []string
		queue          error
		want           string
	}{
		{"a mailbox", "ESMTPS", []string{"alice@here.test"}, nil,
			"received sender@far.test ESMTPS c1-1 | alice@here.test delivered INBOX"},
		{"an alias", "ESMTP", []string{"all@too.test"}, nil,
			"received sender@far.test ESMTP c1-1 | alice@here.test for all@too.test delivered INBOX | bob@here.test for all@too.test delivered INBOX | carol@far.test for all@too.test queued in 0"},
		{"nobody and somebody", "ESMTP", []string{"nobody@here.test", "bob@here.test"}, nil,
			"received sender@far.test ESMTP c1-1 | nobody@here.test waiting in 0 550 | bob@here.test delivered INBOX"},
		{"nobody", "ESMTP", []string{"nobody@here.test"}, nil,
			"refused sender@far.test ESMTP c1-1 | nobody@here.test failed 550"},
		{"a queue that is broken", "ESMTPSA", []string{"eve@far.test"}, fault.New(fault.Unavailable, "the disk is full"),
			"refused sender@far.test ESMTPSA c1-1 | eve@far.test failed 452"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			book, err := trace.Open(trace.Options{FS: vfs.NewMem(), Dir: "trace", Keep: time.Hour, Bytes: 1 << 20, Now: time.Now})
			w.must(err)
			w.Receiver.opt.Trace, w.queue.err = book, c.queue
			env := envelope(c.protocol, c.to...)
			env.ID = "c1-1"
			w.Deliver(t.Context(), env, w.parcel(plainMessage))
			found, err := book.Find(t.Context(), trace.Query{Name: "c1-1"})
			if err != nil || len(found) != 1 || len(found[0].Events) != 1 {
				t.Fatalf("found %v, %v", found, err)
			}
			e := found[0].Events[0]
			said := []string{fmt.Sprint(e.What, " ", e.From, " ", e.Protocol, " ", e.ID)}
			for _, to := range e.To {
				line := to.Address
				if to.For != "" {
					line += " for " + to.For
				}
				line += " " + string(to.State)
				if to.Mailbox != "" {
					line += " " + to.Mailbox
				}
				if to.Queue != "" {
					line += " in " + to.Queue
				}
				if to.Code != 0 {
					line += fmt.Sprint(" ", to.Code)
				}
				said = append(said, line)
			}
			if got := strings.Join(said, " | "); got != c.want {
				t.Errorf("told\n%s\nwant\n%s", got, c.want)
			}
			if e.Subject != "hi" || e.Size == 0 {
				t.Errorf("the subject is %q, the size %d", e.Subject, e.Size)
			}
		})
	}
}

// It is told by which keys a message was signed, or why it was not.
func TestStoryOfSigning(t *testing.T) {
	s := newSigning(t)
	book, err := trace.Open(trace.Options{FS: vfs.NewMem(), Dir: "trace", Keep: time.Hour, Bytes: 1 << 20, Now: time.Now})
	s.must(err)
	s.Receiver.opt.Trace = book
	for from, want := range map[string]string{
		"alice@here.test": "here.test (",
		"bob@here.test":   "no: ",
		"alice@far.test":  "",
	} {
		env := submitted("alice@here.test", "x@far.test")
		env.ID = from
		for _, r := range s.Deliver(t.Context(), env, s.parcel(letterFrom(from))) {
			s.must(r.Err)
		}
		found, err := book.Find(t.Context(), trace.Query{Name: from})
		if err != nil || len(found) == 0 {
			t.Fatalf("%d stories, %v", len(found), err)
		}
		if got := found[len(found)-1].Events[0].Signed; !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("of %s: signed %q, want %q", from, got, want)
		}
	}
}
