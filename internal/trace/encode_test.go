package trace

import (
	"encoding/json"
	"testing"
	"time"
)

// What is written by hand is what the standard library would write.
func FuzzEncode(f *testing.F) {
	f.Add("alice@example.org", `a"b\<&>`+"\x00é\xff", int64(1770000000123), 250, int64(4000))
	f.Add("", "", int64(0), 0, int64(-1))
	f.Fuzz(func(t *testing.T, a, b string, at int64, code int, size int64) {
		at %= 200_000_000_000_000
		when := time.UnixMilli(at).UTC()
		e := Event{At: when, What: Received, ID: a, Queue: b, MessageID: b, From: a, Author: b, Subject: b, Login: a, Peer: a, Helo: b, Protocol: a, TLS: b,
			Size: size, Verdict: b, Action: a, Signed: b, Attempts: code, Code: code, Enhanced: a, Text: b, More: code}
		if code%2 == 0 {
			e.To = []Recipient{{Address: a, State: Sent}, {Address: b, For: a, State: State(b), Mailbox: b, Queue: a, Code: code, Enhanced: a, Text: b, Host: a, At: b, TLS: b, Next: &when}}
		}
		want, err := json.Marshal(e)
		if err != nil {
			t.Skip(err)
		}
		if got := appendEvent(nil, &e); string(got) != string(want) {
			t.Errorf("%s\nwant\n%s", got, want)
		}
	})
}
