package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// session is a mail program that keeps its INBOX in step: over QRESYNC, or without. It sets a
// keyword of its own and remembers which ones it was told that it has set.
type session struct {
	crowd   *Crowd
	name    string
	account string
	node    int // where it is; it goes to the next one when it is thrown out
	idles   bool
	deletes bool // it expunges the account's old mail

	*memory
	t      *talk
	tag    int
	marked map[uint32]bool // by UID: whether its keyword is there; absent: not known
	rng    *rand.Rand
	late   []string // what was acknowledged before it asked, and not shown
	talked []string // the last lines, for whoever looks for a fault
	story  string   // of them when something untrue was told first
}

var errRefused = errors.New("refused")

func newSession(c *Crowd, name, account string, node int) *session {
	return &session{crowd: c, name: name, account: account, node: node, marked: map[uint32]bool{}, rng: rand.New(rand.NewPCG(c.Seed, uint64(len(name))*1000+uint64(node)))}
}

func (s *session) keyword() string { return "$" + s.name }

// open connects, logs in and selects; from what it remembers if it does.
func (s *session) open(l *Lab, qresync bool) (err error) {
	if s.t, err = l.dial(l.Nodes[s.node].IPv4.String()+":993", true); err != nil {
		return err
	}
	if _, _, err = s.t.line(); err == nil {
		_, err = s.do("LOGIN %s@%s %q", s.account, Domain, lab.Password)
	}
	if err == nil && qresync {
		_, err = s.do("ENABLE QRESYNC")
	}
	if err == nil {
		err = s.selects(qresync)
	}
	if err != nil {
		s.t.c.Close()
	}
	return err
}

func (s *session) selects(qresync bool) error {
	again := qresync && s.memory != nil && s.validity != 0 && s.modseq != 0
	if s.memory == nil || !again {
		old := s.memory
		s.memory = newMemory(qresync)
		if old != nil { // these hold from one session to the next
			s.validity, s.highest, s.next, s.wrong, s.gone = old.validity, old.highest, old.next, old.wrong, old.gone
		}
	}
	how := "CONDSTORE"
	if again {
		how = fmt.Sprintf("QRESYNC (%d %d)", s.validity, s.modseq)
	}
	s.selecting(again)
	if _, err := s.run("SELECT INBOX ("+how+")", true); err != nil {
		s.modseq = 0 // half of it may have been told: from the beginning next time
		return err
	}
	s.selected(again)
	return s.catchUp()
}

// do sends a command and takes in what is said until its end: errRefused is a NO, any other
// error the end of the connection.
func (s *session) do(format string, args ...any) (answer string, err error) {
	return s.run(fmt.Sprintf(format, args...), false)
}

func (s *session) run(command string, selecting bool) (answer string, err error) {
	s.tag++
	tag := fmt.Sprintf("t%d ", s.tag)
	s.heard("> " + tag + command)
	if err := s.t.send(tag + command + "\r\n"); err != nil {
		return "", err
	}
	return s.until(tag, command, selecting)
}

func (s *session) until(tag, command string, selecting bool) (string, error) {
	for {
		line, literals, err := s.t.line()
		if err != nil {
			return "", err
		}
		s.heard("< " + line)
		if rest, ok := strings.CutPrefix(line, tag); ok {
			if s.memory != nil {
				s.codes(rest, selecting)
			}
			if !strings.HasPrefix(rest, "OK") {
				s.crowd.refused(s, command, rest)
				return rest, errRefused
			}
			return rest, nil
		}
		if strings.HasPrefix(line, "* BYE") {
			return "", fmt.Errorf("the server said %q", line)
		}
		if strings.HasPrefix(line, "+") {
			return line, nil
		}
		if s.memory != nil {
			s.told(line, literals, selecting)
			s.crowd.Told(s, line)
		}
	}
}

// heard remembers a line; once something untrue was told, all lines up to it.
func (s *session) heard(line string) {
	if s.talked = append(s.talked, line); len(s.talked) > 120 {
		s.talked = s.talked[60:]
	}
	if s.memory != nil && len(s.wrong) > 0 && s.story == "" {
		s.story = fmt.Sprintf("%s: %s\n    %s", s.name, s.wrong[0], strings.Join(s.talked[max(0, len(s.talked)-60):], "\n    "))
	}
}

// sync asks for news and fetches what is new. What was acknowledged before must then be there.
func (s *session) sync() error {
	before := time.Now()
	if _, err := s.do("NOOP"); err != nil {
		return err
	}
	if err := s.catchUp(); err != nil {
		return err
	}
	have := s.tokens()
	for _, token := range s.crowd.Book.AckedBefore(s.account, before) {
		if have[token] == 0 {
			s.late = append(s.late, token)
		}
	}
	return nil
}

func (s *session) catchUp() error {
	for range 5 { // more may come meanwhile
		uid := s.unknown()
		if uid == 0 {
			break
		}
		if _, err := s.do("UID FETCH %d:* (UID FLAGS MODSEQ BODY.PEEK[HEADER.FIELDS (X-Token)])", uid); err != nil {
			return err
		}
	}
	s.settled()
	return nil
}

// mark sets or takes away its keyword at one message.
func (s *session) mark() error {
	if len(s.seq) == 0 {
		return nil
	}
	uid := s.seq[s.rng.IntN(len(s.seq))]
	if uid == 0 {
		return nil
	}
	on := s.rng.IntN(3) > 0
	delete(s.marked, uid)
	_, err := s.do("UID STORE %d %sFLAGS (%s)", uid, map[bool]string{true: "+", false: "-"}[on], s.keyword())
	if err == nil {
		s.marked[uid] = on
	}
	return err
}

// read reads one message whole and compares it.
func (s *session) read() error {
	if len(s.seq) == 0 {
		return nil
	}
	uid := s.seq[s.rng.IntN(len(s.seq))]
	token := s.facts[uid].token
	if uid == 0 || token == none || token == "" {
		return nil
	}
	if _, err := s.do("UID FETCH %d (BODY.PEEK[])", uid); err != nil {
		return err
	}
	body, ok := s.bodies[uid]
	delete(s.bodies, uid)
	_, text, _ := strings.Cut(body, "\r\n\r\n")
	_, want, _ := strings.Cut(letterText(token, "", ""), "\r\n\r\n")
	if ok && text != want {
		s.untrue("the text of UID %d (%s) is not what was sent: %d bytes of %d", uid, token, len(text), len(want))
	}
	return nil
}

// expunge removes the oldest message.
func (s *session) expunge() error {
	if len(s.seq) < 20 || s.seq[0] == 0 {
		return nil
	}
	uid := s.seq[0]
	token := s.facts[uid].token
	s.crowd.Book.Removing(token)
	if _, err := s.do(`UID STORE %d +FLAGS (\Deleted)`, uid); err != nil {
		return err
	}
	if _, err := s.do("UID EXPUNGE %d", uid); err != nil {
		return err
	}
	if _, there := s.facts[uid]; there {
		s.untrue("UID EXPUNGE %d was done, and VANISHED not told", uid)
	}
	s.crowd.Book.Removed(token)
	return nil
}

// idle waits for news for a while.
func (s *session) idle(long time.Duration) error {
	if _, err := s.do("IDLE"); err != nil {
		return err
	}
	tag := fmt.Sprintf("t%d ", s.tag)
	timer := time.AfterFunc(long, func() { s.t.send("DONE\r\n") })
	defer timer.Stop()
	_, err := s.until(tag, "IDLE", false)
	return err
}

// run works until the crowd stops.
func (s *session) live() {
	for i := 0; s.crowd.enter(); i++ {
		err := s.step(i)
		if err != nil && err != errRefused {
			s.crowd.dropped(s, err)
			s.t.c.Close()
			s.t = nil
		}
		s.crowd.leave()
		time.Sleep(s.crowd.Pause * 2)
	}
	if s.t != nil {
		s.t.c.Close()
	}
}

func (s *session) step(i int) error {
	if s.t == nil {
		return s.reopen()
	}
	switch {
	case s.idles && i%4 > 0:
		return s.idle(time.Duration(300+s.rng.IntN(700)) * time.Millisecond)
	case s.deletes && i%3 == 0:
		return s.expunge()
	case i%4 == 1:
		return s.mark()
	case i%4 == 3:
		return s.read()
	}
	return s.sync()
}

// reopen goes to the next node that takes it.
func (s *session) reopen() error {
	s.node = (s.node + 1) % len(s.crowd.Lab.Nodes)
	if err := s.open(s.crowd.Lab, s.qresync()); err != nil {
		s.t = nil
		s.crowd.note("%s cannot come back at %s: %v", s.name, s.crowd.Lab.Nodes[s.node].Name, err)
		time.Sleep(500 * time.Millisecond)
	}
	return nil
}

func (s *session) qresync() bool { return !strings.HasPrefix(s.name, "plain") }

// check says whether what it remembers is what there is: seq numbers, flags, MODSEQ, and its own
// keyword.
func (s *session) check(truth *memory) error {
	if d := s.differs(truth); d != "" {
		return fmt.Errorf("%s (%s at %s): %s", s.name, s.account, s.crowd.Lab.Nodes[s.node].Name, d)
	}
	for uid, on := range s.marked {
		f, there := truth.facts[uid]
		if there && slices.Contains(strings.Fields(f.flags), s.keyword()) != on {
			return fmt.Errorf("%s: its keyword at UID %d, acknowledged as %v, is not so", s.name, uid, on)
		}
	}
	return nil
}
