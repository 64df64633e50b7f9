package traffic

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
)

const stranger = "someone@traffic.example"

// lmtp delivers to two accounts at a time, which are answered one by one
// (RFC 2033, 4.2).
func (s *session) lmtp() error {
	return s.mailing("lmtp", "LHLO", martlet.Account{}, stranger, "bob", "carol")
}

// smtp is another host that delivers to one account.
func (s *session) smtp() error {
	return s.mailing("smtp", "EHLO", martlet.Account{}, stranger, "alice")
}

// submission is alice's mail program, writing to bob.
func (s *session) submission() error {
	a := s.Server.Account("alice")
	return s.mailing("submission", "EHLO", a, a.Address, "bob")
}

func (s *session) mailing(service, hello string, a martlet.Account, from string, to ...string) (err error) {
	if s.Talk, err = Mailer(s.Server.Addr(service), hello, a.Address, a.Password); err != nil {
		return err
	}
	defer s.Close()
	replies := 1
	if hello == "LHLO" {
		replies = len(to)
	}
	mail := func(token string) error { return s.mail(token, from, to, replies) }
	err = s.each(mail, func() error {
		s.mid = false
		_, err := s.Ask("250", "RSET")
		return err
	})
	return s.bye(err, "221", "QUIT")
}

// bye ends a session that has ended by itself.
func (s *session) bye(err error, code, word string) error {
	if err == nil {
		_, err = s.Ask(code, "%s", word)
	}
	return err
}

// mail is one transaction: from the answer to MAIL to that to the message.
func (s *session) mail(token, from string, to []string, replies int) error {
	if _, err := s.Ask("250", "MAIL FROM:<%s>", from); err != nil {
		return err
	}
	s.mid = true
	for _, a := range to {
		if _, err := s.Ask("250", "RCPT TO:<%s>", s.address(a)); err != nil {
			return err
		}
	}
	if _, err := s.Ask("354", "DATA"); err != nil {
		return err
	}
	s.Ledger.try(token, to...)
	if err := s.Send("%s.\r\n", s.letter(token, from, s.address(to[0]))); err != nil {
		return err
	}
	var refused error
	for i := range replies {
		_, err := s.Ask("250", "")
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

func (s *session) reader(account string) (err error) {
	a := s.Server.Account(account)
	s.Talk, err = Reader(s.Server.Addr("imap"), a.Address, a.Password)
	return err
}

func (s *session) noop() error { return nil }

// appending is a mail program that stores messages of its own.
func (s *session) appending() error {
	if err := s.reader("alice"); err != nil {
		return err
	}
	defer s.Close()
	err := s.each(func(token string) error { _, err := s.append(token); return err }, s.noop)
	return s.logout(err)
}

func (s *session) logout(err error) error {
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

func (s *session) append(token string) (uid string, err error) {
	from := s.address("alice")
	text := s.letter(token, from, from)
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

// undone notes that a command that was answered by BYE and nothing else has done nothing.
func (s *session) undone(err error, token string, before fate) {
	var end *End
	if errors.As(err, &end) && end.Said != "" {
		s.Ledger.set(token, "alice", before)
	}
}

var copyUID = regexp.MustCompile(`\[COPYUID (\d+) \d+ (\d+)\]`)

// moving is a mail program that puts messages into the trash and deletes some for good.
func (s *session) moving() error {
	if err := s.reader("alice"); err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.Do("SELECT Archive"); err != nil {
		return err
	}
	i := 0
	err := s.each(func(token string) error {
		uid, err := s.append(token)
		if i++; err == nil && i%3 > 0 {
			err = s.move(token, uid)
		} else if err == nil {
			err = s.delete(token, uid)
		}
		return err
	}, s.noop)
	return s.logout(err)
}

func (s *session) move(token, uid string) error {
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

func (s *session) delete(token, uid string) error {
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
func (s *session) popping() error {
	account, _, _ := strings.Cut(s.name, "-")
	for i := 0; !s.enough(i); i++ {
		token := fmt.Sprintf("%s-%d", s.name, i)
		if err := s.refill(token, account); err != nil {
			return err
		}
		if err := s.empty(account); err != nil {
			return err
		}
		s.count(&s.done, 1)
		s.pause(s.Pause)
	}
	return nil
}

// refill has a message delivered, by each way in.
func (s *session) refill(token, account string) (err error) {
	from, a := stranger, martlet.Account{}
	service, hello := "lmtp", "LHLO"
	switch s.rng.IntN(3) {
	case 0:
		service, hello = "smtp", "EHLO"
	case 1:
		a = s.Server.Account("alice")
		service, hello, from = "submission", "EHLO", a.Address
	}
	if s.Talk, err = Mailer(s.Server.Addr(service), hello, a.Address, a.Password); err != nil {
		return err
	}
	defer s.Close()
	return s.bye(s.mail(token, from, []string{account}, 1), "221", "QUIT")
}

// empty reads and deletes every message. Whatever is marked is gone once QUIT is answered
// with yes, and all of it is there when it was never asked.
func (s *session) empty(account string) (err error) {
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
	for i := 1; i <= count; i++ {
		token, err := s.retrieve(i)
		if err == nil {
			_, err = s.pop("DELE %d", i)
		}
		if err != nil {
			return err
		}
		if token != "" {
			gone = append(gone, token)
		}
	}
	return s.quit(account, gone)
}

func (s *session) quit(account string, gone []string) error {
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
func (s *session) pop(format string, args ...any) (string, error) {
	s.mid = true
	l, err := s.Ask("+OK", format, args...)
	var end *End
	if !errors.As(err, &end) {
		s.mid = false
	}
	return l, err
}

// retrieve reads a message and returns its token; the welcome message has none.
func (s *session) retrieve(i int) (token string, err error) {
	s.mid = true
	if _, err := s.Ask("+OK", "RETR %d", i); err != nil {
		return "", err
	}
	for {
		l, err := s.Line()
		if err != nil {
			return "", err
		}
		if after, ok := strings.CutPrefix(l, tokenField); ok {
			token = after
		}
		if l == "." {
			s.mid = false
			return token, nil
		}
	}
}

// idling waits for news in bob's INBOX. Its session ends well only with BYE, or with the
// answer to DONE once the crowd stops.
func (s *session) idling() error {
	if err := s.reader("bob"); err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.Do("SELECT INBOX"); err != nil {
		return err
	}
	if _, err := s.Ask("+", "i IDLE"); err != nil {
		return err
	}
	s.count(&s.idle, 1)
	defer s.count(&s.idle, -1)
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

func (s *session) news() error {
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
func (s *session) idleDone() (string, error) {
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
