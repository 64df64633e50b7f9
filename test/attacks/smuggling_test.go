package attacks

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/serve/smtpd"
	"github.com/martlet-mail/martlet/test/house"
)

// smuggled is a second transaction that hides in a message.
const smuggled = "MAIL FROM:<evil@example.net>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nSubject: smuggled\r\n\r\nIt worked.\r\n"

// roads are the ways in for a message in SMTP.
var roads = []string{"smtp", "lmtp", "submission"}

// houses are one that refuses bare CR and LF, and one that makes line ends of them.
func houses(t *testing.T) map[string]*house.House {
	t.Helper()
	return map[string]*house.House{
		"refuse":    house.New(t, house.Options{}),
		"normalise": house.New(t, house.Options{SMTP: func(o *smtpd.Options) { o.Normalise = true }}),
	}
}

// begin brings a client of any road to its DATA, for alice.
func begin(t *testing.T, h *house.House, road string) *house.Client {
	t.Helper()
	c := hello(t, h, road)
	if road == "submission" {
		if got := c.Ask("AUTH PLAIN " + plain("alice@"+house.Domain, house.Password)); !strings.HasPrefix(got, "235") {
			t.Fatalf("AUTH: %s", got)
		}
	}
	for _, line := range []string{"MAIL FROM:<alice@example.org>", "RCPT TO:<alice@example.org>"} {
		if got := c.Ask(line); !strings.HasPrefix(got, "250") {
			t.Fatalf("%s: %s", line, got)
		}
	}
	if got := c.Ask("DATA"); !strings.HasPrefix(got, "354") {
		t.Fatalf("DATA: %s", got)
	}
	return c
}

// send writes text in pieces of a size, 0 for one piece.
func send(c *house.Client, text string, size int) {
	for size > 0 && len(text) > size {
		c.Send(text[:size])
		text = text[size:]
	}
	c.Send(text)
}

// stays sends a message with a false end in it, and what would be taken for a second one.
// It is an error if there is more than one answer, or more than one message.
func stays(t *testing.T, h *house.House, alice directory.Account, road, end string, size int) error {
	t.Helper()
	before := count(t, h, alice)
	c := begin(t, h, road)
	send(c, "Subject: the only one\r\n\r\nSome words."+end+smuggled+"\r\n.\r\nNOOP\r\n", size)
	verdict, after, last := c.Reply(), c.Reply(), c.Ask("QUIT")
	took := count(t, h, alice) - before
	refused := strings.HasPrefix(verdict, "5")
	if !refused && !strings.HasPrefix(verdict, "250") || !strings.HasPrefix(after, "250 ") || !strings.HasPrefix(last, "221") ||
		refused && took != 0 || !refused && took != 1 {
		return fmt.Errorf("%s, %q in pieces of %d: %s, then %s, then %s; %d messages", road, end, size, verdict, after, last, took)
	}
	return nil
}

// A true end is seen for what it is, or the tests below would see nothing.
func TestTrueEnd(t *testing.T) {
	h := house.New(t, house.Options{})
	alice := h.Account(t, "alice")
	if err := stays(t, h, alice, "smtp", "\r\n.\r\n", 0); err == nil {
		t.Error("a second message is not noticed")
	}
}

// falseEnds tries each end on each road, whole and in single bytes, and at the end looks
// for a message that nobody sent.
func falseEnds(t *testing.T, ends ...string) {
	t.Helper()
	for name, h := range houses(t) {
		alice := h.Account(t, "alice")
		for _, road := range roads {
			for _, end := range ends {
				for _, size := range []int{0, 1, len(end)} {
					if err := stays(t, h, alice, road, end, size); err != nil {
						t.Error(err)
					}
				}
			}
		}
		for _, text := range messages(t, h, alice) {
			if !strings.Contains(text, "Subject: the only one\r\n") {
				t.Errorf("%s: a message was smuggled in:\n%s", name, text)
			}
			if name == "normalise" && strings.Contains(strings.ReplaceAll(text, "\r\n", ""), "\n") {
				t.Errorf("%s: a bare LF is stored in\n%q", name, text)
			}
		}
		sound(t, h)
	}
}

func TestAttack01LineFeedDotLineFeed(t *testing.T) { falseEnds(t, "\n.\n") }

func TestAttack02HalfLineEnds(t *testing.T) { falseEnds(t, "\n.\r\n", "\r\n.\n") }

func TestAttack03CarriageReturns(t *testing.T) {
	falseEnds(t, "\r.\r", "\r.\n", "\n.\r", "\r.\r\n", "\r\n.\r")
}

func TestAttack04NUL(t *testing.T) {
	falseEnds(t, "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\n.\r\x00\n", "\r\x00\n.\r\n")
}

func TestAttack05OneMoreCarriageReturn(t *testing.T) {
	falseEnds(t, "\r\n.\r\r\n", "\r\r\n.\r\r\n", "\n\r.\r\n", "\r\r.\r\r\n")
}

// The verdict over each false end is the same wherever the network cuts it, at the edges
// of buffers, too.
func TestAttack06EveryCut(t *testing.T) {
	h := house.New(t, house.Options{})
	alice := h.Account(t, "alice")
	try := func(end string, size int) {
		t.Helper()
		if err := stays(t, h, alice, "smtp", end, size); err != nil {
			t.Error(err)
		}
	}
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r\n", "\r\n.\r\r\n", "\r\n..\r\n"} {
		for size := 1; size <= 12; size++ {
			try(end, size)
		}
		for _, edge := range []int{4096, 16384, 65536} { // sizes of buffers on the way
			for off := -3; off <= 3; off++ {
				room := edge - len("Subject: the only one\r\n\r\nSome words.\r\n") - len(end)/2 + off
				lines := strings.Repeat(strings.Repeat("a", 77)+"\r\n", room/79)
				try("\r\n"+lines+strings.Repeat("b", room-len(lines))+end, 0)
			}
		}
	}
	sound(t, h)
}

// The roads have one reader: what one of them takes or refuses, all do.
func TestAttack08OneReader(t *testing.T) {
	for name, h := range houses(t) {
		alice := h.Account(t, "alice")
		for _, body := range []string{
			"a\nb", "a\rb", "a\r\n.b", "a\r\n..", "a\x00b", "a\r\n\r\n.\n.", "\r\n.\r", "a\r\n. \r\nb", "ä\xff", strings.Repeat("x", 2000), "a\n.\r\n\n.\nb",
		} {
			var verdicts, stored []string
			for _, road := range roads {
				before := count(t, h, alice)
				c := begin(t, h, road)
				c.Send("From: alice@example.org\r\nDate: Mon, 2 Nov 2026 10:00:00 +0000\r\nMessage-ID: <x@example.org>\r\nSubject: x\r\n\r\n" + body + "\r\n.\r\n")
				verdicts = append(verdicts, c.Reply()[:3])
				if all := messages(t, h, alice); len(all) > before {
					_, text, _ := strings.Cut(all[len(all)-1], "\r\n\r\n")
					stored = append(stored, text)
				}
			}
			if len(slices.Compact(verdicts)) != 1 || len(stored) != 0 && len(stored) != len(roads) {
				t.Errorf("%s: %q is answered %v", name, body, verdicts)
			}
			for _, text := range stored {
				if text != stored[0] {
					t.Errorf("%s: %q is stored as %q and as %q", name, body, stored[0], text)
				}
			}
		}
	}
}
