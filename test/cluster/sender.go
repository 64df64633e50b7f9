package cluster

import (
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// sender brings one message after the other to one account, through HAProxy. A message that
// is not taken it brings again, and nothing else until it is.
type sender struct {
	crowd   *Crowd
	name    string
	door    string // smtp, lmtp or submission
	account string // local part; outside
	n       int
}

// letterText is the text of a message: what its token says, so that it can be told whether it
// is whole. One in four is large.
func letterText(token, from, to string) string {
	h := fnv.New64a()
	h.Write([]byte(token))
	rng := rand.New(rand.NewPCG(h.Sum64(), 1))
	lines := 3
	if rng.IntN(4) == 0 {
		lines = 400
	}
	var b strings.Builder
	fmt.Fprintf(&b, "From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\nMessage-ID: <%s@%s>\r\n%s%s\r\n\r\n", from, to, token, token, sinkDomain, tokenField, token)
	raw := make([]byte, 54)
	for range lines {
		for i := range raw {
			raw[i] = byte(rng.Uint32())
		}
		b.WriteString(base64.StdEncoding.EncodeToString(raw) + "\r\n")
	}
	return b.String()
}

// run sends until the crowd stops.
func (s *sender) run() {
	for s.crowd.enter() {
		s.n++
		s.bring(fmt.Sprintf("%s-%d", s.name, s.n))
		s.crowd.leave()
		time.Sleep(s.crowd.Pause)
	}
}

// bring sends a message until it is taken, or until the crowd has given up.
func (s *sender) bring(token string) {
	book := s.crowd.Book
	book.Try(token, s.account)
	for !s.crowd.givenUp() {
		sent, err := s.send(token)
		switch {
		case err == nil:
			book.Acked(token, time.Now())
			return
		case temporary(err):
			book.Later()
		case permanent(err):
			book.Refused(s.door + ": " + err.Error())
		default:
			book.Cut(token, sent)
		}
		time.Sleep(300 * time.Millisecond)
	}
}

// send is one attempt; sent tells whether all of the text has been sent, and not answered.
func (s *sender) send(token string) (sent bool, err error) {
	port := map[string]int{"smtp": 25, "lmtp": 24, "submission": 587}[s.door]
	from, hello, to := "someone@"+sinkDomain, "EHLO", s.account+"@"+Domain
	if s.door == "lmtp" {
		hello = "LHLO"
	}
	if s.account == outside {
		to = "someone@" + sinkDomain
	}
	t, err := s.crowd.Lab.dial(fmt.Sprintf("%s:%d", s.crowd.Lab.Proxy.Host.IPv4, port), false)
	if err != nil {
		return false, err
	}
	defer t.c.Close()
	if err = t.ask("220", ""); err == nil {
		err = t.ask("250", "%s client.%s", hello, Domain)
	}
	if s.door == "submission" && err == nil {
		who := s.crowd.accounts[0] + "@" + Domain
		from = who
		if err = t.startTLS(s.crowd.Lab); err == nil {
			err = t.ask("235", "AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+who+"\x00"+lab.Password)))
		}
	}
	for _, step := range [][2]string{{"250", "MAIL FROM:<" + from + ">"}, {"250", "RCPT TO:<" + to + ">"}, {"354", "DATA"}} {
		if err == nil {
			err = t.ask(step[0], "%s", step[1])
		}
	}
	if err != nil {
		return false, err
	}
	if err := t.send(letterText(token, from, to)); err != nil {
		return false, err
	}
	if err := t.ask("250", "."); err != nil {
		return true, err
	}
	t.send("QUIT\r\n")
	return true, nil
}
