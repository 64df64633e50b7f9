package outbound

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/send"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/test/house"
	"github.com/martlet-mail/martlet/test/promise"
)

// soon makes a queue try again at once.
func soon(o *queue.Options) {
	o.Gaps, o.DelayAfter, o.PerDomain = []time.Duration{20 * time.Millisecond}, -1, 20
}

// scripts draws what happens to each message: trouble a few times, and then an end.
func scripts(seed uint64) func(string, int) deed {
	plan := map[string][]deed{}
	return func(token string, attempt int) deed {
		if plan[token] == nil {
			own := rand.New(rand.NewPCG(seed, tokenNumber(token)))
			for range own.IntN(4) {
				plan[token] = append(plan[token], []deed{greylists, cutsInData, losesReply, resets, answersLate, failsAtEnd, talksNonsense}[own.IntN(7)])
			}
			end := takes
			switch own.IntN(8) {
			case 0:
				end = []deed{refuses, refusesAtEnd}[own.IntN(2)]
			case 1, 2:
				end = []deed{takesAndLeaves, takesAndTires, takesAndMutters}[own.IntN(3)]
			}
			plan[token] = append(plan[token], end)
		}
		deeds := plan[token]
		return deeds[min(attempt, len(deeds))-1]
	}
}

func tokenNumber(token string) (n uint64) {
	_, _ = fmt.Sscanf(token, "t%d", &n)
	return n
}

// submit puts messages into the hands of the server, which answers for each.
func submit(t *testing.T, h *house.House, from, to int) {
	t.Helper()
	c := h.Dial(t, "submission")
	if err := c.SetDeadline(time.Now().Add(10 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	c.Reply()
	c.Ask("EHLO client.example.net")
	if got := c.Ask("AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAGNvcnJlY3QgaG9yc2U="); !strings.HasPrefix(got, "235") {
		t.Fatal(got)
	}
	for n := from; n < to; n++ {
		c.Send(fmt.Sprintf("MAIL FROM:<alice@example.org>\r\nRCPT TO:<t%d@d%d.test>\r\nDATA\r\n", n, n%domains))
		for _, want := range []string{"250", "250", "354"} {
			if got := c.Reply(); !strings.HasPrefix(got, want) {
				t.Fatalf("message %d: %s", n, got)
			}
		}
		if got := c.Ask(fmt.Sprintf("From: alice@example.org\r\nSubject: message %d\r\n\r\nSome words.\r\n.", n)); !strings.HasPrefix(got, "250") {
			t.Fatalf("message %d: %s", n, got)
		}
	}
}

// drained waits until the queue is empty, and has it not wait for hosts that were down.
func drained(t *testing.T, h *house.House) {
	t.Helper()
	for end := time.Now().Add(10 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		c, err := h.Queue.Count(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if c.Messages == 0 {
			return
		}
		if _, err := h.Queue.RetryAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(end) {
			t.Fatalf("%d messages still wait", c.Messages)
		}
	}
}

// reports returns the reports in an INBOX.
func reports(t *testing.T, h *house.House, who directory.Account) []string {
	t.Helper()
	account := h.Store.Account(who.ID)
	var box store.Mailbox
	err := account.View(t.Context(), func(s *store.Snapshot) (err error) {
		box, err = s.Mailbox("INBOX")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pic, err := account.Picture(t.Context(), box.ID)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range pic.Messages(store.All()) {
		r, err := account.Open(context.WithoutCancel(t.Context()), m.ID, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(text))
	}
	return all
}

// Whatever the peer does, mail that was accepted for it arrives: at least once, once only
// if the peer's reply was heard, and what it refuses for good is reported to the sender
// once.
func TestDelivery(t *testing.T) {
	count := promise.Times(t, "R10", 200, 20_000)
	const seed = 1
	script := scripts(seed)
	// The sender's patience is far more than a reply takes to be heard on a busy machine: what
	// it does not hear in that time the peer has kept back.
	p := &peer{script: script, late: 2600 * time.Millisecond}
	h := house.New(t, house.Options{Queue: soon, Remote: p.start(t, send.Timeouts{Final: 2 * time.Second})})
	alice := h.Account(t, "alice")
	submit(t, h, 0, count)
	drained(t, h)
	lost, doubled, again, bounced := verdict(t, h, alice, p.all(), script, count)
	for what, tokens := range map[string][]string{"lost": lost, "doubled": doubled} {
		if len(tokens) > 0 {
			t.Errorf("seed %d: %d %s: %v", seed, len(tokens), what, tokens)
		}
	}
	control(t, h, alice, p.all(), script, count)
	promise.Kept(t, "R10", "messages accepted", count, "delivered or reported", count-len(lost), "lost", len(lost), "doubled although the reply was heard", len(doubled),
		"sent again because it was not", again, "refused for good and reported once", bounced)
}

// verdict holds what the peer has, and the reports, against the scripts.
func verdict(t *testing.T, h *house.House, alice directory.Account, got map[string]receipts, script func(string, int) deed, count int) (lost, doubled []string, again, bounced int) {
	t.Helper()
	told := map[string]int{}
	for _, report := range reports(t, h, alice) {
		for line := range strings.Lines(report) {
			if who, ok := strings.CutPrefix(line, "Final-Recipient: rfc822;"); ok {
				token, _, _ := strings.Cut(strings.TrimSpace(who), "@")
				told[token]++
			}
		}
	}
	for n := range count {
		token := fmt.Sprintf("t%d", n)
		r := got[token]
		last := script(token, 1<<20)
		refused := last == refuses || last == refusesAtEnd
		switch {
		case refused && told[token] != 1, !refused && told[token] != 0:
			lost = append(lost, fmt.Sprintf("%s (%d reports)", token, told[token]))
		case !refused && r.heard != 1:
			lost = append(lost, token)
		}
		if r.after > 0 || r.heard > 1 {
			doubled = append(doubled, token)
		}
		if again += r.unheard; refused {
			bounced++
		}
	}
	return lost, doubled, again, bounced
}

// control plants a loss and a double, which the verdict must see.
func control(t *testing.T, h *house.House, alice directory.Account, got map[string]receipts, script func(string, int) deed, count int) {
	t.Helper()
	for token, r := range got {
		if script(token, 1<<20) != takes {
			continue
		}
		got[token] = receipts{attempts: r.attempts}
		if lost, _, _, _ := verdict(t, h, alice, got, script, count); len(lost) != 1 {
			t.Errorf("a loss is not noticed: %v", lost)
		}
		r.after, r.heard = 1, 2
		got[token] = r
		if _, doubled, _, _ := verdict(t, h, alice, got, script, count); len(doubled) != 1 {
			t.Errorf("a double is not noticed: %v", doubled)
		}
		return
	}
}
