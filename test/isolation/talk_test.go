package isolation

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/house"
)

// script is one conversation: what is sent, and what the end of the answer must match.
// A step without a pattern waits for nothing.
type script []step

type step struct{ send, until string }

// talk carries a conversation on for one user and returns why it broke off, if it did.
func talk(h *house.House, protocol, user string, s script) error {
	c, err := net.Dial("tcp", h.Addr(protocol))
	if err != nil {
		return err
	}
	defer c.Close()
	// Far more than anything takes: a session that hangs is an error, too.
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	in := bufio.NewReader(c)
	for _, st := range s {
		send := strings.NewReplacer("{user}", user+"@example.org", "{plain}", plain(user)).Replace(st.send)
		if _, err := c.Write([]byte(send)); err != nil {
			return err
		}
		if st.until == "" {
			continue
		}
		if err := await(in, regexp.MustCompile("^(?:"+st.until+")"), refusals[protocol]); err != nil {
			return fmt.Errorf("after %.60q: %w", send, err)
		}
	}
	return nil
}

var errRefused = errors.New("refused")

// refusals are how lines of each protocol begin that say no.
var refusals = map[string]*regexp.Regexp{
	"imap": regexp.MustCompile(`^\S+ (NO|BAD) `), "pop3": regexp.MustCompile(`^-ERR`),
	"smtp": regexp.MustCompile(`^[45]`), "lmtp": regexp.MustCompile(`^[45]`), "submission": regexp.MustCompile(`^[45]`),
}

// await reads lines until one begins as wanted, or refuses.
func await(in *bufio.Reader, want, no *regexp.Regexp) error {
	for {
		line, err := in.ReadString('\n')
		switch {
		case err != nil:
			return err
		case want.MatchString(line):
			return nil
		case no.MatchString(line):
			return fmt.Errorf("%w: %s", errRefused, strings.TrimSpace(line))
		}
	}
}

func plain(user string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "@example.org\x00" + house.Password))
}

const message = "From: eve@example.net\r\nTo: alice@example.org\r\nSubject: one more\r\n\r\nSome words.\r\n"

func mx(hello, to string) script {
	return script{
		{"", "220 "}, {hello + " client.example.net\r\n", "250 "}, {"MAIL FROM:<eve@example.net>\r\n", "250"},
		{"RCPT TO:<" + to + ">\r\n", "250"}, {"DATA\r\n", "354"}, {message + ".\r\n", "250"}, {"QUIT\r\n", "221"},
	}
}

// scripts are what one user does in each protocol.
var scripts = map[string]script{
	"smtp": mx("EHLO", "{user}"),
	"lmtp": mx("LHLO", "{user}"),
	"submission": {
		{"", "220 "}, {"EHLO client.example.net\r\n", "250 "}, {"AUTH PLAIN {plain}\r\n", "235"}, {"MAIL FROM:<{user}>\r\n", "250"},
		{"RCPT TO:<{user}>\r\n", "250"}, {"DATA\r\n", "354"}, {message + ".\r\n", "250"}, {"QUIT\r\n", "221"},
	},
	"imap": {
		{"", `\* OK`}, {"a LOGIN {user} \"" + house.Password + "\"\r\n", "a OK"}, {"b LIST \"\" * RETURN (STATUS (MESSAGES UNSEEN))\r\n", "b OK"},
		{"c SELECT INBOX\r\n", "c OK"}, {"d APPEND INBOX {" + fmt.Sprint(len(message)) + "+}\r\n" + message + "\r\n", "d OK"},
		{"e UID FETCH 1:* (FLAGS ENVELOPE BODYSTRUCTURE BODY.PEEK[])\r\n", "e OK"}, {"f SEARCH TEXT words\r\n", "f OK"},
		{"g UID SORT (SUBJECT) UTF-8 ALL\r\n", "g OK"}, {"h UID THREAD REFERENCES UTF-8 ALL\r\n", "h OK"},
		{"i STORE 1:* +FLAGS (\\Seen \\Deleted)\r\n", "i OK"}, {"j COPY 1 Archive\r\n", "j OK"}, {"k EXPUNGE\r\n", "k OK"},
		{"l IDLE\r\n", `\+`}, {"DONE\r\n", "l OK"}, {"m LOGOUT\r\n", "m OK"},
	},
	"pop3": {
		{"", `\+OK`}, {"USER {user}\r\n", `\+OK`}, {"PASS " + house.Password + "\r\n", `\+OK`}, {"UIDL\r\n", `\.`},
		{"RETR 1\r\n", `\.\r`}, {"DELE 1\r\n", `\+OK`}, {"QUIT\r\n", `\+OK`},
	},
}

// must carries a conversation on that has to work.
func must(t *testing.T, h *house.House, protocol, user string) {
	t.Helper()
	if err := talk(h, protocol, user, scripts[protocol]); err != nil {
		t.Errorf("%s of %s, who has nothing to do with it: %v", protocol, user, err)
	}
}
