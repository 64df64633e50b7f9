package crash

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/traffic"
)

// setUp makes the folder in which most scenarios begin.
func (st *stage) setUp() error {
	dir := filepath.Join(st.dir, "mail")
	s, err := martlet.Start(martlet.Options{Binary: st.binary, Dir: dir, Accounts: []string{"carol", "dave"}, Set: st.sink.Smarthost()})
	if err != nil {
		return err
	}
	defer s.Kill()
	for _, a := range s.Accounts {
		st.logins["mail"] = append(st.logins["mail"], login{a.Address, a.Password})
	}
	st.logins["killed"] = st.logins["mail"]
	if _, err := ask(s, "POST", "/v1/accounts", map[string]any{"address": leaver.address, "password": leaver.password}); err != nil {
		return err
	}
	for who, boxes := range map[login]map[string]int{
		of(s, "alice"): {"INBOX": 8, "Archive": 3}, of(s, "bob"): {"INBOX": 2}, of(s, "dave"): {"INBOX": 6}, leaver: {"INBOX": 3, "Sent": 2},
	} {
		if err := fill(s, who, boxes); err != nil {
			return err
		}
	}
	return s.Stop()
}

// leaver is an account that try does not make.
var leaver = login{"leaver@martlet.test", "secret of the leaver"}

func of(s *martlet.Server, name string) login {
	a := s.Account(name)
	return login{a.Address, a.Password}
}

// fill appends notes to mailboxes of an account.
func fill(s *martlet.Server, who login, boxes map[string]int) error {
	c, err := traffic.Reader(s.Addr("imap"), who.address, who.password)
	if err != nil {
		return err
	}
	defer c.Close()
	for box, n := range boxes {
		for i := range n {
			text := note(fmt.Sprintf("%s-%s-%d", who.address, box, i), 10+i*300)
			if _, err := c.Do("APPEND %s (\\Seen) {%d+}\r\n%s", box, len(text), text); err != nil {
				return err
			}
		}
	}
	return nil
}

// setUpKilled makes a folder that was left by kills, again and again: its logs are to be
// read and its tables to be merged.
func (st *stage) setUpKilled() error {
	dir := filepath.Join(st.dir, "killed")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(st.dir, "mail"))); err != nil {
		return err
	}
	s, err := st.serve(dir, nil)
	if err != nil {
		return err
	}
	for i := range 9 {
		if err := fill(s, of(s, "carol"), map[string]int{"INBOX": 1 + i%2, "Trash": 1}); err != nil {
			return err
		}
		s.Kill()
		if i < 8 {
			if err := s.Restart(); err != nil {
				return err
			}
		}
	}
	return os.Remove(filepath.Join(dir, "data", "admin.sock"))
}

// setUpKeep makes a folder whose server keeps what is deleted for a while.
func (st *stage) setUpKeep() error {
	dir := filepath.Join(st.dir, "keep")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(st.dir, "mail"))); err != nil {
		return err
	}
	st.logins["keep"] = st.logins["mail"]
	config, err := os.OpenFile(filepath.Join(dir, "martlet.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = config.WriteString("\n[deleted]\nkeep = \"7d\"\n")
	return errors.Join(err, config.Close())
}

// setUpHundred makes a folder with a hundred accounts more.
func (st *stage) setUpHundred() error {
	dir := filepath.Join(st.dir, "hundred")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(st.dir, "mail"))); err != nil {
		return err
	}
	s, err := st.serve(dir, nil)
	if err != nil {
		return err
	}
	defer s.Kill()
	for i := range 100 {
		if _, err := ask(s, "POST", "/v1/accounts", map[string]any{"address": nthAccount(i), "password": "a password of no use"}); err != nil {
			return err
		}
	}
	return s.Stop()
}

func nthAccount(i int) string { return fmt.Sprintf("user%02d@martlet.test", i) }

// note writes a message of about so many bytes; the same each time.
func note(token string, size int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "From: <a@example.org>\r\nSubject: note\r\nMessage-ID: <%s@crash.example>\r\n%s%s\r\n\r\n", token, traffic.TokenField, token)
	rng := rand.New(rand.NewPCG(7, uint64(size)))
	for b.Len() < size {
		fmt.Fprintf(&b, "%016x%016x%016x\r\n", rng.Uint64(), rng.Uint64(), rng.Uint64())
	}
	return b.String()
}

// imap opens a session of an account and selects a mailbox.
func imap(name, box string) func(*scene) error {
	return func(sc *scene) (err error) {
		a := sc.server.Account(name)
		if sc.c, err = traffic.Reader(sc.server.Addr("imap"), a.Address, a.Password); err != nil {
			return err
		}
		_, err = sc.c.Do("SELECT %s", box)
		return err
	}
}

// command is a step that is one IMAP command.
func command(format string, args ...any) func(*scene) error {
	return func(sc *scene) error {
		_, err := sc.c.Do(format, args...)
		return err
	}
}

// marked selects INBOX and marks some messages as deleted.
func marked(sc *scene) error {
	return errors.Join(imap("alice", "INBOX")(sc), command(`STORE 2:5 +FLAGS.SILENT (\Deleted)`)(sc))
}

// letterTo opens an SMTP session up to DATA, with recipients.
func letterTo(service, hello, from string, to ...string) func(*scene) error {
	return func(sc *scene) (err error) {
		user, password := "", ""
		if service == "submission" {
			a := sc.server.Account("alice")
			user, password = a.Address, a.Password
		}
		if sc.c, err = traffic.Mailer(sc.server.Addr(service), hello, user, password); err != nil {
			return err
		}
		err = sc.c.Ask("250", "MAIL FROM:<%s>", from)
		for _, a := range to {
			err = errors.Join(err, sc.c.Ask("250", "RCPT TO:<%s>", a))
		}
		return errors.Join(err, sc.c.Ask("354", "DATA"))
	}
}

// data is a step that is the message itself.
func data(token string, size int) func(*scene) error {
	return func(sc *scene) error {
		if err := sc.c.Send("%s.\r\n", note(token, size)); err != nil {
			return err
		}
		return sc.c.Ask("250", "")
	}
}

// admin is a step that is one request of the administrator.
func admin(method, path string, in any) func(*scene) error {
	return func(sc *scene) error {
		_, err := ask(sc.server, method, path, in)
		return err
	}
}

const (
	someone = "someone@crash.example"
	alice   = "alice@martlet.test"
	bob     = "bob@martlet.test"
	carol   = "carol@martlet.test"
)

// scenarios are what R2 kills in the middle.
func scenarios() []scenario {
	literal := func(token string, size int) string {
		text := note(token, size)
		return fmt.Sprintf("{%d+}\r\n%s", len(text), text)
	}
	return append(lives(), []scenario{
		{name: "delivery", open: letterTo("smtp", "EHLO", someone, alice), steps: steps{data("one", 3000)}},
		{name: "delivery to two", open: letterTo("smtp", "EHLO", someone, bob, carol), steps: steps{data("two", 30_000)}},
		{name: "APPEND", open: imap("alice", "INBOX"), steps: steps{
			command("APPEND Archive (\\Flagged) %s", literal("appended", 2000)), command("APPEND INBOX %s", literal("another", 9000))}},
		{name: "MULTIAPPEND", open: imap("alice", "INBOX"), steps: steps{
			command("APPEND Archive %s %s %s", literal("first", 500), literal("second", 20_000), literal("third", 900))}},
		{name: "COPY", open: imap("alice", "INBOX"), steps: steps{command("COPY 1:5 Archive")}},
		{name: "MOVE", open: imap("alice", "INBOX"), steps: steps{command("MOVE 1:5 Trash"), command("MOVE 1:3 Archive")}},
		{name: "STORE", open: imap("alice", "INBOX"), steps: steps{
			command("STORE 1:* +FLAGS (\\Answered)"), command("STORE 1:* FLAGS ($Forwarded work)")}},
		{name: "EXPUNGE", open: marked, steps: steps{command("EXPUNGE")}},
		{name: "undelete", base: "keep", open: marked, steps: steps{
			command("EXPUNGE"), admin("POST", "/v1/accounts/"+alice+"/undelete", map[string]any{"mailbox": "INBOX"})}},
		{name: "CLOSE", open: marked, steps: steps{command("CLOSE")}},
		{name: "mailboxes", open: imap("alice", "INBOX"), steps: steps{
			command("CREATE New/Box"), command("COPY 1:2 New/Box"), command("RENAME New/Box New/Other"),
			command("SUBSCRIBE New/Other"), command("DELETE New/Other"), command("RENAME Archive Old")}},
		{name: "annotations", open: imap("alice", "INBOX"), steps: steps{
			command(`SETMETADATA INBOX (/private/comment "one")`), command(`SETACL Archive %s lr`, bob), command(`DELETEACL Archive %s`, bob)}},
		{name: "large message", open: imap("alice", "INBOX"), steps: steps{command("APPEND Archive %s", literal("large", 10<<20))}},
		{name: "POP3 QUIT", open: popMarked, steps: steps{func(sc *scene) error { return sc.c.Ask("+OK", "QUIT") }}},
		{name: "account added", logins: []login{{"newcomer@martlet.test", "secret of the newcomer"}}, steps: steps{
			admin("POST", "/v1/accounts", map[string]any{"address": "newcomer@martlet.test", "password": "secret of the newcomer"}),
			admin("POST", "/v1/aliases", map[string]any{"address": "sales@martlet.test", "targets": []string{"newcomer@martlet.test", alice}})}},
		{name: "account removed", logins: []login{leaver}, steps: steps{admin("DELETE", "/v1/accounts/"+leaver.address, nil)}},
		{name: "password", logins: []login{{bob, "another secret"}}, steps: steps{
			admin("PUT", "/v1/accounts/"+bob+"/password", map[string]any{"password": "another secret"})}},
		{name: "quota", steps: steps{admin("PUT", "/v1/accounts/"+bob+"/quota", map[string]any{"quota_bytes": 1 << 20})}},
		{name: "queued", refuse: "451 come back later", open: letterTo("submission", "EHLO", alice, "somebody@"+traffic.Elsewhere, bob), steps: steps{data("queued", 6000)}},
		{name: "sent on", open: letterTo("submission", "EHLO", alice, "somebody@"+traffic.Elsewhere), steps: steps{data("sent", 2000), left}, check: sentOn},
		{name: "sent back", refuse: "550 unknown here", open: letterTo("submission", "EHLO", alice, "somebody@"+traffic.Elsewhere), steps: steps{data("back", 2000), left}, check: sentBack},
		{name: "delivery to a hundred", base: "hundred", open: letterTo("lmtp", "LHLO", someone, hundred()...),
			steps: steps{toHundred}, check: hundredHave},
	}...)
}

// lives are those that are about the server's own life.
func lives() []scenario {
	return []scenario{
		{name: "first start", base: "none", start: true, check: firstStart},
		{name: "start", start: true, quiet: true},
		{name: "start after kills", base: "killed", start: true, quiet: true},
		{name: "sweep", base: "killed", quiet: true, steps: steps{admin("POST", "/v1/sweep", nil)}},
		{name: "stop", base: "killed", quiet: true, open: func(sc *scene) error { return fill(sc.server, of(sc.server, "bob"), map[string]int{"Trash": 1}) },
			steps: steps{func(sc *scene) error {
				if err := sc.server.Stop(); err != nil {
					return &traffic.End{Err: err}
				}
				return nil
			}}},
	}
}

type steps = []func(*scene) error

func popMarked(sc *scene) (err error) {
	a := sc.server.Account("dave")
	if sc.c, err = traffic.Popper(sc.server.Addr("pop3"), a.Address, a.Password); err != nil {
		return err
	}
	for _, i := range []int{1, 3, 4} {
		err = errors.Join(err, sc.c.Ask("+OK", "DELE %d", i))
	}
	return err
}

// left waits until the queue is empty.
func left(sc *scene) error {
	return settle("the queue is not empty", func() (bool, error) {
		lines, err := ask(sc.server, "GET", "/v1/queue", nil)
		return len(lines) == 0, err
	})
}

// sentOn wants the message at the other host if it was acknowledged: once, or again if the
// server was killed before it had noted the answer.
func sentOn(sc *scene, acked int, _ picture) (wrong []string) {
	if err := left(sc); err != nil {
		return []string{err.Error()}
	}
	n := sc.sink.Seen()["sent"]
	if acked > 0 && n == 0 || n > 2 || acked > 1 && n != 1 {
		wrong = append(wrong, fmt.Sprintf("sent on %d times", n))
	}
	return wrong
}

// sentBack wants one report to the sender of a message that was acknowledged. It comes a moment
// after the message has left the queue's list: nobody waits there any more.
func sentBack(sc *scene, acked int, _ picture) (wrong []string) {
	if err := left(sc); err != nil {
		return []string{err.Error()}
	}
	const before = 9
	n := 0
	err := settle("the report has not come", func() (bool, error) {
		lines, err := ask(sc.server, "GET", "/v1/accounts/"+alice+"/mailboxes", nil)
		if err != nil || len(lines) == 0 || lines[0]["name"] != "INBOX" {
			return false, fmt.Errorf("%v %w", lines, err)
		}
		n = int(lines[0]["messages"].(float64))
		return acked == 0 || n > before, nil
	})
	if err != nil {
		return []string{fmt.Sprint(n, " messages in INBOX: ", err)}
	}
	if n > before+1 {
		wrong = append(wrong, fmt.Sprintf("%d messages in INBOX", n))
	}
	return wrong
}

func hundred() (to []string) {
	for i := range 100 {
		to = append(to, nthAccount(i))
	}
	return to
}

func toHundred(sc *scene) error {
	if err := sc.c.Send("%s.\r\n", note("hundred", 5000)); err != nil {
		return err
	}
	for _, to := range hundred() {
		if err := sc.c.Ask("250", ""); err != nil {
			return err
		}
		sc.told[to] = true
	}
	return nil
}

// hundredHave wants the message in each account that was answered for, and nowhere twice.
func hundredHave(sc *scene, _ int, _ picture) (wrong []string) {
	for _, to := range hundred() {
		lines, err := ask(sc.server, "GET", "/v1/accounts/"+to, nil)
		if err != nil || len(lines) != 1 {
			return []string{fmt.Sprint(to, lines, err)}
		}
		n, _ := lines[0]["messages"].(float64)
		if n > 1 || sc.told[to] && n != 1 {
			wrong = append(wrong, fmt.Sprintf("%s has it %v times, told %t", to, n, sc.told[to]))
		}
	}
	return wrong
}

// firstStart wants what try promises: two accounts that can log in, each with a welcome.
func firstStart(sc *scene, _ int, _ picture) (wrong []string) {
	for _, name := range []string{"alice", "bob"} {
		a := sc.server.Account(name)
		p, err := look(sc.server, []login{{a.Address, a.Password}})
		if err != nil {
			return []string{err.Error()}
		}
		if mail := p["mail of "+a.Address]; strings.Count(mail, " FETCH ") != 1 || strings.Count(mail, "\nmailbox ") != 6 {
			wrong = append(wrong, name+" has\n"+mail)
		}
	}
	return wrong
}
