package traffic

import (
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
)

const stranger = "someone@traffic.example"

// lmtp delivers to two accounts at a time, which are answered one by one
// (RFC 2033, 4.2).
func (s *Session) lmtp() error {
	return s.mailing("lmtp", "bob", "carol")
}

// smtp is another host that delivers to one account.
func (s *Session) smtp() error {
	return s.mailing("smtp", "alice")
}

// submission is alice's mail program, writing to bob.
func (s *Session) submission() error { return s.mailing("submission", "bob") }

// out is alice's mail program, writing to somebody elsewhere.
func (s *Session) out() error { return s.mailing("submission", Elsewhere) }

// dave fills the account that collecting empties.
func (s *Session) dave() error { return s.mailing("lmtp", "dave") }

func (s *Session) mailing(service string, to ...string) error {
	if err := s.mailer(service); err != nil {
		return err
	}
	defer s.Close()
	mail := func(token string) error { return s.mail(service, token, to) }
	err := s.each(mail, func() error {
		s.mid = false
		return s.Ask("250", "RSET")
	})
	return s.bye(err)
}

func (s *Session) mailer(service string) (err error) {
	hello, a := "EHLO", martlet.Account{}
	switch service {
	case "lmtp":
		hello = "LHLO"
	case "submission":
		a = s.Server.Account("alice")
	}
	s.Talk, err = Mailer(s.Server.Addr(service), hello, a.Address, a.Password)
	return err
}

// bye ends a session that has ended by itself.
func (s *Session) bye(err error) error {
	if err == nil {
		err = s.Ask("221", "QUIT")
	}
	return err
}

// Deliver is a session of one transaction.
func (s *Session) Deliver(service, token string, to ...string) error {
	if err := s.mailer(service); err != nil {
		return err
	}
	defer s.Close()
	return s.bye(s.mail(service, token, to))
}

// mail is one transaction: from the answer to MAIL to that to the message.
func (s *Session) mail(service, token string, to []string) error {
	from, replies := stranger, 1
	switch service {
	case "lmtp":
		replies = len(to)
	case "submission":
		from = s.address("alice")
	}
	if err := s.Ask("250", "MAIL FROM:<%s>", from); err != nil {
		return err
	}
	s.mid = true
	for _, a := range to {
		if err := s.Ask("250", "RCPT TO:<%s>", s.address(a)); err != nil {
			return err
		}
	}
	if err := s.Ask("354", "DATA"); err != nil {
		return err
	}
	s.Ledger.try(token, to...)
	if err := s.Send("%s.\r\n", s.letter(token, from, s.address(to[0]))); err != nil {
		return err
	}
	var refused error
	for i := range replies {
		err := s.Ask("250", "")
		var no *Refusal
		switch {
		case err == nil:
			s.Ledger.said(token, to[i], "")
		case errors.As(err, &no):
			refused = err
		default:
			return err
		}
	}
	s.mid = false
	return refused
}

// Open logs in to an account over IMAP and selects a mailbox, or none.
func (s *Session) Open(account, mailbox string) (err error) {
	a := s.Server.Account(account)
	s.Talk, err = Reader(s.Server.Addr("imap"), a.Address, a.Password)
	if err == nil && mailbox != "" {
		if _, err = s.Do("SELECT %s", mailbox); err != nil {
			s.Close()
		}
	}
	return err
}

func (s *Session) noop() error { return nil }

// appending is a mail program that stores messages of its own.
func (s *Session) appending() error {
	if err := s.Open("alice", ""); err != nil {
		return err
	}
	defer s.Close()
	err := s.each(func(token string) error { _, err := s.Append(token); return err }, s.noop)
	return s.logout(err)
}

func (s *Session) logout(err error) error {
	if err != nil {
		return err
	}
	s.Send("z LOGOUT\r\n")
	_, err = s.Line() // BYE, which is as it should be
	var end *End
	if errors.As(err, &end) && end.Said != "" {
		return nil
	}
	return err
}

var appendUID = regexp.MustCompile(`\[APPENDUID (\d+) (\d+)\]`)

// Append stores a message of alice's in her Archive.
func (s *Session) Append(token string) (uid string, err error) {
	from := s.address("alice")
	return s.Store(token, s.letter(token, from, from))
}

// Store appends this text, which carries the token.
func (s *Session) Store(token, text string) (uid string, err error) {
	s.Ledger.try(token, "alice")
	lines, err := s.Do("APPEND Archive (\\Seen) {%d+}\r\n%s", len(text), text)
	if err != nil {
		s.undone(err, token, fate{})
		return "", err
	}
	m := appendUID.FindStringSubmatch(lines[len(lines)-1])
	if m == nil {
		return "", fmt.Errorf("no APPENDUID in %q", lines)
	}
	s.Ledger.said(token, "alice", m[1]+" "+m[2], "Archive")
	return m[2], nil
}

// undone notes that a command that a stopping server has answered by BYE and nothing else
// has done nothing.
func (s *Session) undone(err error, token string, before fate) {
	var end *End
	if errors.As(err, &end) && strings.Contains(end.Said, "[UNAVAILABLE]") {
		s.Ledger.set(token, "alice", before)
	}
}

var copyUID = regexp.MustCompile(`\[COPYUID (\d+) \d+ (\d+)\]`)

// moving is a mail program that puts messages into the trash and deletes some for good.
func (s *Session) moving() error {
	if err := s.Open("alice", "Archive"); err != nil {
		return err
	}
	defer s.Close()
	i := 0
	err := s.each(func(token string) error {
		uid, err := s.Append(token)
		if i++; err == nil && i%3 > 0 {
			err = s.Move(token, uid)
		} else if err == nil {
			err = s.Delete(token, uid)
		}
		return err
	}, s.noop)
	return s.logout(err)
}

// Move puts a message of alice's from the mailbox that is open into her Trash.
func (s *Session) Move(token, uid string) error {
	before := s.Ledger.get(token, "alice")
	s.Ledger.set(token, "alice", fate{1, 1, "", []string{"Archive", "Trash"}})
	lines, err := s.Do("UID MOVE %s Trash", uid)
	if err != nil {
		s.undone(err, token, before)
		return err
	}
	m := copyUID.FindStringSubmatch(strings.Join(lines, "\n"))
	if m == nil {
		return fmt.Errorf("no COPYUID in %q", lines)
	}
	s.Ledger.said(token, "alice", m[1]+" "+m[2], "Trash")
	return nil
}

// Delete deletes one for good.
func (s *Session) Delete(token, uid string) error {
	before := s.Ledger.get(token, "alice")
	if _, err := s.Do("UID STORE %s +FLAGS.SILENT (\\Deleted)", uid); err != nil {
		return err
	}
	s.Ledger.set(token, "alice", fate{0, 1, "", []string{"Archive"}})
	if _, err := s.Do("UID EXPUNGE %s", uid); err != nil {
		s.undone(err, token, before)
		return err
	}
	s.Ledger.set(token, "alice", fate{})
	return nil
}

// popping is a mail program that takes an account's mail home: each time it has a message
// delivered, and then empties the INBOX. The account is that of the client's name.
func (s *Session) popping() error {
	account, _, _ := strings.Cut(s.name, "-")
	for i := 0; !s.enough(i); i++ {
		token := fmt.Sprintf("%s-%d", s.name, i)
		service := []string{"smtp", "submission", "lmtp"}[s.rng.IntN(3)]
		if err := s.Deliver(service, token, account); err != nil {
			return err
		}
		all := func(int, string) bool { return true }
		if err := s.collect(account, "RETR %d", math.MaxInt, all); err != nil {
			return err
		}
		s.count(&s.done, 1)
		s.pause(s.Pause)
	}
	return nil
}

// collecting is dave's mail program, which looks at the first of what there is and deletes
// half of it.
func (s *Session) collecting() error {
	for i := 0; !s.enough(i); i++ {
		if err := s.Collect(); err != nil {
			return err
		}
		s.count(&s.done, 1)
		s.pause(s.Pause)
	}
	return nil
}

// Collect is one session of it.
func (s *Session) Collect() error {
	return s.collect("dave", "TOP %d 0", 20, func(i int, token string) bool {
		// Of mail whose sender has not yet heard the answer his ledger will hear later.
		return i%2 == 1 && s.Ledger.get(token, "dave").least == 1
	})
}

// collect reads the first messages and deletes those that pick chooses. Whatever is marked
// is gone once QUIT is answered with yes, and all of it is there when it was never asked.
func (s *Session) collect(account, read string, most int, pick func(i int, token string) bool) (err error) {
	a := s.Server.Account(account)
	if s.Talk, err = Popper(s.Server.Addr("pop3"), a.Address, a.Password); err != nil {
		return err
	}
	defer s.Close()
	stat, err := s.pop("STAT")
	if err != nil {
		return err
	}
	count := 0
	fmt.Sscanf(stat, "+OK %d", &count)
	var gone []string
	for i := 1; i <= min(count, most); i++ {
		token, err := s.retrieve(read, i)
		if err == nil && pick(i, token) {
			gone = append(gone, token)
			_, err = s.pop("DELE %d", i)
		}
		if err != nil {
			return err
		}
	}
	gone = slices.DeleteFunc(gone, func(token string) bool { return token == "" })
	return s.quit(account, gone)
}

func (s *Session) quit(account string, gone []string) error {
	for _, token := range gone {
		s.Ledger.set(token, account, fate{most: 1})
	}
	_, err := s.pop("QUIT")
	var end *End
	for _, token := range gone {
		switch {
		case err == nil:
			s.Ledger.set(token, account, fate{})
		case errors.As(err, &end) && end.Said != "":
			s.Ledger.said(token, account, "")
		}
	}
	return err
}

// pop runs a command with an answer of one line.
func (s *Session) pop(format string, args ...any) (string, error) {
	s.mid = true
	l, err := s.answer("+OK", format, args...)
	var end *End
	if !errors.As(err, &end) {
		s.mid = false
	}
	return l, err
}

// retrieve reads a message and returns its token; the welcome message has none.
func (s *Session) retrieve(command string, i int) (token string, err error) {
	s.mid = true
	if err := s.Ask("+OK", command, i); err != nil {
		return "", err
	}
	for {
		l, err := s.Line()
		if err != nil {
			return "", err
		}
		if after, ok := strings.CutPrefix(l, TokenField); ok {
			token = after
		}
		if l == "." {
			s.mid = false
			return token, nil
		}
	}
}

// idle begins to wait for news in bob's INBOX.
func (s *Session) idle() error {
	if err := s.Open("bob", "INBOX"); err != nil {
		return err
	}
	err := s.Ask("+", "i IDLE")
	if err != nil {
		s.Close()
	}
	return err
}

// idling waits for news in bob's INBOX. Its session ends well only with BYE, or with the
// answer to DONE once the crowd stops.
func (s *Session) idling() error {
	if err := s.idle(); err != nil {
		return err
	}
	defer s.Close()
	s.count(&s.idlers, 1)
	defer s.count(&s.idlers, -1)
	over := make(chan struct{})
	defer close(over)
	s.conn.SetReadDeadline(time.Time{})
	go func() {
		select {
		case <-s.stopped():
			s.conn.SetReadDeadline(time.Unix(1, 0))
		case <-over:
		}
	}()
	err := s.news()
	if s.Stopped() && errors.Is(err, errStopped) {
		_, err = s.idleDone()
		return s.logout(err)
	}
	var end *End
	if errors.As(err, &end) && strings.HasPrefix(end.Said, "* BYE") {
		s.count(&s.byes, 1)
	}
	return err
}

var errStopped = errors.New("told to stop")

func (s *Session) news() error {
	for {
		_, err := s.r.Peek(1)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return errStopped
		}
		if err != nil {
			return s.end("", err)
		}
		if _, err := s.Line(); err != nil {
			return err
		}
	}
}

// idleDone ends IDLE.
func (s *Session) idleDone() (string, error) {
	if err := s.Send("DONE\r\n"); err != nil {
		return "", err
	}
	for {
		l, err := s.Line()
		if err != nil || strings.HasPrefix(l, "i ") {
			return l, err
		}
	}
}
