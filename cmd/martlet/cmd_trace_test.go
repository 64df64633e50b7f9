package main

import (
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/trace"
)

// A story reads from top to bottom; what a stranger wrote moves no cursor.
func TestStoryForPeople(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.Local)
	next := at.Add(time.Minute)
	s := trace.Story{Events: []trace.Event{
		{At: at, What: trace.Received, ID: "c1-1", From: "alice@martlet.test", Author: "alice@martlet.test", Subject: "hi\x1b[2J", Login: "alice@martlet.test",
			Peer: "192.0.2.1", Helo: "phone", Protocol: "ESMTPSA", TLS: "TLS1.3 X", Size: 4000, Verdict: "spf=pass", Signed: "martlet.test (2026a)",
			To: []trace.Recipient{
				{Address: "bob@martlet.test", State: trace.Delivered, Mailbox: "Junk"},
				{Address: "carol@example.net", For: "friends@martlet.test", State: trace.Queued, Queue: "q1"},
			}, More: 1},
		{At: at.Add(time.Second), What: trace.Attempt, Queue: "q1", Attempts: 1, To: []trace.Recipient{
			{Address: "carol@example.net", State: trace.Waiting, Code: 451, Enhanced: "4.7.1", Text: "greylisted", Host: "mx.example.net", At: "192.0.2.9:25", Next: &next}}},
		{At: at.Add(time.Minute), What: trace.Changed, Queue: "q1", Text: "held"},
		{At: at.Add(time.Hour), What: trace.GivenUp, Queue: "q1", To: []trace.Recipient{{Address: "carol@example.net", State: trace.Failed, Code: 451, Text: "greylisted"}}},
		{At: at.Add(time.Hour), What: trace.Report, Queue: "q1", Text: "failure", To: []trace.Recipient{{Address: "alice@martlet.test", State: trace.Sent}}},
		{At: at.Add(time.Hour), What: trace.Refused, From: "<>", Code: 550, Enhanced: "5.1.1", Text: "there is no such user here", To: []trace.Recipient{{Address: "x@martlet.test", State: trace.Failed}}},
		{At: at, What: trace.Received, From: "<>", Size: 10},
	}}
	var b strings.Builder
	if err := printStory(&b, s); err != nil {
		t.Fatal(err)
	}
	const want = `2026-05-01 12:00:00  received from alice@martlet.test, 4.0 KB, as c1-1
    author     alice@martlet.test
    subject    hi?[2J
    by         ESMTPSA, login alice@martlet.test, from phone [192.0.2.1], TLS1.3 X
    verdict    spf=pass
    signed     martlet.test (2026a)
    bob@martlet.test: delivered to Junk
    carol@example.net (for friends@martlet.test): queued as q1
    and 1 recipient
May 01 12:00:01  attempt 1 of q1
    carol@example.net: waiting, mx.example.net 192.0.2.9:25 (no TLS): 451 4.7.1 greylisted; next attempt May 01 12:01
May 01 12:01:00  held
May 01 13:00:00  given up, it waited for too long
    carol@example.net: failed: 451 greylisted
May 01 13:00:00  report of failure
    alice@martlet.test: sent
May 01 13:00:00  refused from <>: 550 5.1.1 there is no such user here
    x@martlet.test: failed
May 01 12:00:00  made here, from <>, 10 B
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
