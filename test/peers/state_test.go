package peers

import (
	"fmt"
	"mime"
	"slices"
	"strings"
	"testing"
	"time"
)

// What a client did is read here, by a client of our own: a message is known by its
// subject.

// flags returns the flags of a mailbox's messages by subject; nothing if there is no
// such mailbox.
func (s *subject) flags(t *testing.T, name, box string) map[string][]string {
	t.Helper()
	w := dialIMAP(t, s, name)
	defer w.Close()
	out := map[string][]string{}
	if _, status := w.do("EXAMINE %q", box); !strings.HasPrefix(status, "OK") {
		return out
	}
	for _, r := range w.ok("FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])") {
		_, rest, _ := strings.Cut(r.text, "FLAGS (")
		flags, _, found := strings.Cut(rest, ")")
		if !found || len(r.literals) == 0 {
			continue
		}
		subject := decoded(strings.TrimSpace(strings.TrimPrefix(string(r.literals[0]), "Subject:")))
		if _, twice := out[subject]; twice {
			t.Errorf("%s has %q twice", box, subject)
		}
		out[subject] = slices.DeleteFunc(strings.Fields(flags), func(f string) bool { return f == `\Recent` })
	}
	return out
}

// expect waits until a message is in a mailbox with just these flags.
func (s *subject) expect(t *testing.T, name, box, subject string, flags ...string) {
	t.Helper()
	slices.Sort(flags)
	var got []string
	var there bool
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		got, there = s.flags(t, name, box)[subject]
		if slices.Sort(got); there && slices.Equal(got, flags) {
			return
		}
	}
	t.Fatalf("%s: %q is there: %v, with flags %q, not %q", box, subject, there, got, flags)
}

// expectGone waits until a message is in a mailbox no longer.
func (s *subject) expectGone(t *testing.T, name, box, subject string) {
	t.Helper()
	within(t, time.Minute, fmt.Sprintf("%q leaves %s", subject, box), func() bool {
		_, there := s.flags(t, name, box)[subject]
		return !there
	})
}

// decoded returns a header's text with its encoded words decoded.
func decoded(s string) string {
	text, err := new(mime.WordDecoder).DecodeHeader(s)
	if err != nil {
		return s
	}
	return text
}
