package crash

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"

	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// The programs that work while the server is killed. Each runs until its connection
// breaks and notes in the ledger what it tries and what it was told.

func (k *killer) letter(rng *rand.Rand, token, from, to string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "From: <%s>\r\nTo: <%s>\r\nSubject: crash\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <%s@crash.example>\r\n%s%s\r\n\r\n",
		from, to, token, tokenField, token)
	lines := rng.IntN(200)
	if rng.IntN(50) == 0 {
		lines += 20_000 // about 700 KB
	}
	for range lines {
		fmt.Fprintf(&b, "%x%x\r\n", rng.Uint64(), rng.Uint64())
	}
	return b.String()
}

func (k *killer) address(name string) string {
	if name == elsewhere {
		return "somebody@" + elsewhere
	}
	return k.server.Account(name).Address
}

// lmtp delivers to two accounts at a time, which are answered one by one
// (RFC 2033, 4.2).
func (k *killer) lmtp(name string, rng *rand.Rand) error {
	c, err := mailer(k.server.Addr("lmtp"), "LHLO", "", "")
	if err != nil {
		return err
	}
	defer c.close()
	return k.locally(c, name, rng, "bob", "carol")
}

func (k *killer) locally(c *talk, name string, rng *rand.Rand, to ...string) error {
	for i := 0; ; i++ {
		token := fmt.Sprintf("%s-%d", name, i)
		if err := c.ask("250", "MAIL FROM:<someone@crash.example>"); err != nil {
			return err
		}
		for _, a := range to {
			if err := c.ask("250", "RCPT TO:<%s>", k.address(a)); err != nil {
				return err
			}
		}
		if err := k.data(c, rng, token, "someone@crash.example", to, len(to)); err != nil {
			return err
		}
	}
}

// smtp is another host that delivers to one account.
func (k *killer) smtp(name string, rng *rand.Rand) error {
	c, err := mailer(k.server.Addr("smtp"), "EHLO", "", "")
	if err != nil {
		return err
	}
	defer c.close()
	return k.mails(c, name, rng, "someone@crash.example", "alice")
}

// submission is alice's mail program, writing to bob.
func (k *killer) submission(name string, rng *rand.Rand) error {
	a := k.server.Account("alice")
	c, err := mailer(k.server.Addr("submission"), "EHLO", a.Address, a.Password)
	if err != nil {
		return err
	}
	defer c.close()
	return k.mails(c, name, rng, a.Address, "bob")
}

func (k *killer) mails(c *talk, name string, rng *rand.Rand, from, to string) error {
	for i := 0; ; i++ {
		token := fmt.Sprintf("%s-%d", name, i)
		if err := c.ask("250", "MAIL FROM:<%s>", from); err != nil {
			return err
		}
		if err := c.ask("250", "RCPT TO:<%s>", k.address(to)); err != nil {
			return err
		}
		if err := k.data(c, rng, token, from, []string{to}, 1); err != nil {
			return err
		}
	}
}

// data sends a message and notes each reply.
func (k *killer) data(c *talk, rng *rand.Rand, token, from string, to []string, replies int) error {
	if err := c.ask("354", "DATA"); err != nil {
		return err
	}
	k.try(token, to...)
	if err := c.send("%s.\r\n", k.letter(rng, token, from, k.address(to[0]))); err != nil {
		return err
	}
	for i := range replies {
		if err := c.ask("250", ""); err != nil {
			return err
		}
		k.said(token, to[i], "")
	}
	return nil
}

var appendUID = regexp.MustCompile(`\[APPENDUID (\d+) (\d+)\]`)

// append is a mail program that stores messages of its own.
func (k *killer) append(name string, rng *rand.Rand) error {
	a := k.server.Account("alice")
	c, err := reader(k.server.Addr("imap"), a.Address, a.Password)
	if err != nil {
		return err
	}
	defer c.close()
	for i := 0; ; i++ {
		if _, err := k.appendOne(c, rng, fmt.Sprintf("%s-%d", name, i)); err != nil {
			return err
		}
	}
}

func (k *killer) appendOne(c *talk, rng *rand.Rand, token string) (uid string, err error) {
	from := k.address("alice")
	text := k.letter(rng, token, from, from)
	k.try(token, "alice")
	lines, err := c.do("APPEND Archive (\\Seen) {%d+}\r\n%s", len(text), text)
	if err != nil {
		return "", err
	}
	m := appendUID.FindStringSubmatch(lines[len(lines)-1])
	if m == nil {
		return "", fmt.Errorf("no APPENDUID in %q", lines)
	}
	k.said(token, "alice", m[1]+" "+m[2], "Archive")
	return m[2], nil
}

var copyUID = regexp.MustCompile(`\[COPYUID (\d+) \d+ (\d+)\]`)

// move is a mail program that puts messages into the trash and deletes some for good.
func (k *killer) move(name string, rng *rand.Rand) error {
	a := k.server.Account("alice")
	c, err := reader(k.server.Addr("imap"), a.Address, a.Password)
	if err != nil {
		return err
	}
	defer c.close()
	if _, err := c.do("SELECT Archive"); err != nil {
		return err
	}
	for i := 0; ; i++ {
		token := fmt.Sprintf("%s-%d", name, i)
		uid, err := k.appendOne(c, rng, token)
		if err == nil && i%3 > 0 {
			err = k.moveOne(c, token, uid)
		} else if err == nil {
			err = k.deleteOne(c, token, uid)
		}
		if err != nil {
			return err
		}
	}
}

func (k *killer) moveOne(c *talk, token, uid string) error {
	k.sets(token, "alice", fate{1, 1, "", []string{"Archive", "Trash"}})
	lines, err := c.do("UID MOVE %s Trash", uid)
	if err != nil {
		return err
	}
	m := copyUID.FindStringSubmatch(strings.Join(lines, "\n"))
	if m == nil {
		return fmt.Errorf("no COPYUID in %q", lines)
	}
	k.said(token, "alice", m[1]+" "+m[2], "Trash")
	return nil
}

func (k *killer) deleteOne(c *talk, token, uid string) error {
	if _, err := c.do("UID STORE %s +FLAGS.SILENT (\\Deleted)", uid); err != nil {
		return err
	}
	k.sets(token, "alice", fate{0, 1, "", []string{"Archive"}})
	if _, err := c.do("UID EXPUNGE %s", uid); err != nil {
		return err
	}
	k.sets(token, "alice", fate{})
	return nil
}

// todave fills the mailbox that pop3 empties.
func (k *killer) todave(name string, rng *rand.Rand) error {
	c, err := mailer(k.server.Addr("lmtp"), "LHLO", "", "")
	if err != nil {
		return err
	}
	defer c.close()
	return k.locally(c, name, rng, "dave")
}

// pop3 is dave's mail program, which collects what there is and deletes half of it.
func (k *killer) pop3(string, *rand.Rand) error {
	for {
		if err := k.collect(k.server.Account("dave")); err != nil {
			return err
		}
	}
}

// collect is one session. What it marks goes at QUIT (RFC 1939, 6).
func (k *killer) collect(a martlet.Account) error {
	c, err := dial(k.server.Addr("pop3"))
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.ask("+OK", ""); err != nil {
		return err
	}
	for _, ask := range []string{"USER " + a.Address, "PASS " + a.Password, "STAT"} {
		if err := c.ask("+OK", "%s", ask); err != nil {
			return err
		}
	}
	var marked []string
	for i := 1; i <= 20; i++ {
		token, err := c.top(i)
		if err != nil {
			return err
		}
		if token == "" {
			break
		}
		// Of mail whose sender has not yet heard the answer his ledger will hear later.
		if i%2 == 0 || !k.known(token, "dave") {
			continue
		}
		if err := c.ask("+OK", "DELE %d", i); err != nil {
			return err
		}
		marked = append(marked, token)
	}
	for _, token := range marked {
		k.sets(token, "dave", fate{most: 1})
	}
	if err := c.ask("+OK", "QUIT"); err != nil {
		return err
	}
	for _, token := range marked {
		k.sets(token, "dave", fate{})
	}
	return nil
}

// top returns the token of a message, "" if there is no such message.
func (t *talk) top(number int) (token string, err error) {
	if err := t.send("TOP %d 0\r\n", number); err != nil {
		return "", err
	}
	for first := true; ; first = false {
		l, err := t.line()
		switch {
		case err != nil:
			return "", err
		case first && !strings.HasPrefix(l, "+OK"), l == ".":
			return token, nil
		}
		if rest, ok := strings.CutPrefix(l, tokenField); ok {
			token = rest
		}
	}
}

// known reports whether a message was acknowledged.
func (k *killer) known(token, account string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.sent[delivery{token, account}]
	return f != nil && f.least == 1
}

// out is alice's mail program, writing to somebody elsewhere.
func (k *killer) out(name string, rng *rand.Rand) error {
	a := k.server.Account("alice")
	c, err := mailer(k.server.Addr("submission"), "EHLO", a.Address, a.Password)
	if err != nil {
		return err
	}
	defer c.close()
	return k.mails(c, name, rng, a.Address, elsewhere)
}
