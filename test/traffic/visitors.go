package traffic

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

// Clients that leave nothing behind, some of them without saying goodbye.

// churning is a mail program that stores drafts and deletes them for good.
func (s *Session) churning() error {
	if err := s.Open("alice", "Archive"); err != nil {
		return err
	}
	defer s.Close()
	err := s.each(func(token string) error {
		uid, err := s.Append(token)
		if err == nil {
			err = s.Delete(token, uid)
		}
		return err
	}, s.noop)
	return s.logout(err)
}

// searching is a mail program that looks for texts and reads what there is.
func (s *Session) searching() error {
	if err := s.Open("alice", ""); err != nil {
		return err
	}
	defer s.Close()
	err := s.each(func(string) error {
		for _, command := range []string{
			"SELECT INBOX", fmt.Sprintf("UID SEARCH TEXT %x", s.rng.Uint32()), "UID FETCH 1:20 (FLAGS ENVELOPE BODY.PEEK[])",
			"UID SORT (SUBJECT) UTF-8 ALL", "STATUS Archive (MESSAGES UNSEEN)", "UNSELECT",
		} {
			if _, err := s.Do("%s", command); err != nil {
				return err
			}
		}
		return nil
	}, s.noop)
	return s.logout(err)
}

// napping is in IDLE for a moment.
func (s *Session) napping() error {
	if err := s.idle(); err != nil {
		return err
	}
	defer s.Close()
	s.pause(300 * time.Millisecond)
	_, err := s.idleDone()
	return s.logout(err)
}

// aborting begins a message and goes away.
func (s *Session) aborting() (err error) {
	if s.Talk, err = Mailer(s.Server.Addr("smtp"), "EHLO", "", ""); err != nil {
		return err
	}
	defer s.Close()
	for _, command := range []string{"MAIL FROM:<" + stranger + ">", "RCPT TO:<" + s.address("bob") + ">", "DATA"} {
		if err := s.Ask("", "%s", command); err != nil {
			return err
		}
	}
	err = s.Send("Subject: never sent\r\n\r\n%x", s.rng.Uint64())
	s.pause(s.Pause)
	return err
}

// cutting connects to each port and goes away, with TLS in the middle of the handshake.
func (s *Session) cutting() error {
	for _, service := range []string{"smtp", "imap", "pop3", "submission", "imaps", "pop3s", "http"} {
		t, err := Dial(s.Server.Addr(service))
		if err != nil {
			return err
		}
		if service == "imaps" {
			tls.Client(t.conn, &tls.Config{InsecureSkipVerify: true}).Handshake() // whole
		} else {
			t.Send("\x16\x03\x01")
		}
		t.Close()
		s.pause(s.Pause)
	}
	return nil
}

// guessing gives a wrong password for an account that is not there.
func (s *Session) guessing() error {
	_, err := Reader(s.Server.Addr("imap"), "nobody@"+s.Server.Domain, fmt.Sprint(s.rng.Uint32()))
	s.pause(10 * s.Pause)
	var no *Refusal
	if errors.As(err, &no) {
		return nil
	}
	return err
}
