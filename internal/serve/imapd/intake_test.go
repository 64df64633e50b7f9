package imapd

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/store"
)

// Messages of one APPEND are taken in side by side, and are there in the order in which
// they came; if one cannot be taken, none is.
func TestManyInOneAppend(t *testing.T) {
	w := newWorld(t)
	l := newLineClient(t, w.dial())
	l.hear("* OK")
	l.say("a LOGIN alice@example.org \"" + password + "\"\r\n")
	l.hear("a OK")
	appendAll := func(messages []string) {
		var b strings.Builder
		b.WriteString("b APPEND INBOX")
		for _, m := range messages {
			fmt.Fprintf(&b, " ~{%d+}\r\n%s", len(m), m)
		}
		l.say(b.String() + "\r\n")
	}
	var all []string
	for i := range 200 {
		m := string(message(fmt.Sprint("number ", i)))
		if i%50 == 49 {
			m += strings.Repeat("long\r\n", 20<<10)
		}
		all = append(all, m)
	}
	appendAll(all)
	l.hear("b OK [APPENDUID ")
	seen := 0
	for _, m := range w.picture("INBOX").Messages(store.All()) {
		if m.Size != int64(len(all[seen])) {
			t.Errorf("message %d has %d bytes, not %d", seen, m.Size, len(all[seen]))
		}
		err := w.alice.View(w.ctx, func(s *store.Snapshot) error {
			head, err := s.Head(nil, m.ID)
			if !strings.Contains(string(head), fmt.Sprintf("number %d\r\n", seen)) {
				t.Errorf("message %d is %q", seen, head)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		seen++
	}
	if seen != len(all) {
		t.Errorf("%d messages of %d", seen, len(all))
	}
	for _, bad := range []int{0, 100, 199} {
		broken := append([]string(nil), all...)
		broken[bad] = "Subject: a\x00b\r\n\r\n"
		appendAll(broken)
		l.hear("b NO [UNKNOWN-CTE]")
		if n := w.picture("INBOX").Len(); n != len(all) {
			t.Fatalf("%d messages after a failed APPEND", n)
		}
	}
}

// A panic in the goroutine beside the session is the session's.
func TestIntakePanics(t *testing.T) {
	var in intake
	defer func() {
		switch p := recover().(type) {
		case nil:
			t.Error("no panic")
		case panicked:
			if !strings.Contains(p.Error(), ".take(") {
				t.Errorf("the panic does not say where it was: %v", p)
			}
		}
	}()
	for range 3 * ahead {
		in.add(&arrival{}, true) // there is nothing to take: it panics, here or there
	}
	in.close()
}

// What is queued when an APPEND has failed is not taken in any more: each of these would
// panic.
func TestIntakeOfAFailedAppend(t *testing.T) {
	in := intake{queue: make(chan *arrival, ahead), done: make(chan struct{})}
	for range ahead {
		in.add(&arrival{}, true)
	}
	close(in.done) // the other one is slow
	in.close()
	if n := len(in.queue); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// An APPEND whose message could not be taken in is refused before the client sends the
// next, and nothing of it is taken for the next command.
func TestAppendFailsEarly(t *testing.T) {
	w := newWorld(t)
	l := newLineClient(t, w.dial())
	l.hear("* OK")
	l.say("a LOGIN alice@example.org \"" + password + "\"\r\n")
	l.hear("a OK")
	for _, plus := range []string{"", "+"} {
		bad := "Subject: a\x00b\r\n\r\n"
		l.say(fmt.Sprintf("b APPEND INBOX ~{%d+}\r\n%s", len(bad), bad))
		for sent := 0; ; sent++ {
			if sent == 500 {
				t.Fatal("all messages are asked for")
			}
			if sent >= 2*ahead {
				time.Sleep(time.Millisecond) // the one beside may wait for a processor
			}
			m := "Subject: b\r\n\r\nc NOOP\r\n"
			l.say(fmt.Sprintf(" {%d%s}\r\n", len(m), plus))
			if plus != "" {
				l.say(m + "\r\n")
				break
			}
			line := l.hear("")
			if strings.HasPrefix(line, "b NO [UNKNOWN-CTE]") {
				break
			}
			if !strings.HasPrefix(line, "+ ") {
				t.Fatal(line)
			}
			l.say(m)
		}
		if plus != "" {
			l.hear("b NO [UNKNOWN-CTE]")
		}
		l.say("d NOOP\r\n")
		l.hear("d OK")
		if n := w.picture("INBOX").Len(); n != 0 {
			t.Fatalf("%d messages after a failed APPEND", n)
		}
	}
}
