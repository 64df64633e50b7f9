package queue

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/trace"
)

// What comes of a message can be read afterwards: attempts, who was told, what people did.
func TestStory(t *testing.T) {
	book, err := trace.Open(trace.Options{FS: vfs.NewMem(), Dir: "trace", Keep: time.Hour, Bytes: 1 << 20, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, func(o *Options) { o.Trace = book })
	b.courier.script = func(job Job, r mail.Recipient) Result {
		switch {
		case r.Address.Local == "nobody":
			return unknown
		case job.Attempt == 1:
			return greylist
		}
		return ok
	}
	id := b.put("alice@martlet.test", "bob@example.org", "nobody@example.org")
	if err := b.q.Hold(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := b.q.Release(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.pump()
	b.clock.add(2 * time.Hour)
	b.pump()
	found, err := book.Find(t.Context(), trace.Query{Name: id.String()})
	if err != nil || len(found) != 1 {
		t.Fatalf("%d stories, %v", len(found), err)
	}
	var got []string
	for _, e := range found[0].Events {
		line := string(e.What) + " " + e.Text
		for _, r := range e.To {
			line += fmt.Sprintf(" %s %s %d", r.Address, r.State, r.Code)
			if (r.Next != nil) != (r.State == trace.Waiting) {
				t.Errorf("%s: next attempt %v", line, r.Next)
			}
		}
		got = append(got, line)
	}
	want := []string{
		"changed held", "changed released",
		"attempt  bob@example.org waiting 451 nobody@example.org failed 550",
		"report failure alice@martlet.test sent 0",
		"attempt  bob@example.org sent 250",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("told:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
