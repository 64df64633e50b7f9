package sim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// patience is how long clients wait for an answer.
const patience = 4 * time.Minute

// imap is one IMAP session of a client that remembers.
type imap struct {
	w    *world
	user string
	c    net.Conn
	r    *bufio.Reader
	tag  int

	chatty  bool   // each command goes to the log
	makes   bool   // mailboxes that are not there
	box     *box   // selected
	now     state  // of it, as this session was told
	next    uint32 // UIDNEXT as told
	exists  int
	bodies  map[uint32]string // what FETCH gave
	earlier map[uint32]bool   // VANISHED (EARLIER)
}

var (
	errRefused = errors.New("refused")
	errAbsent  = errors.New("there is no such mailbox, and nobody was told of one")
)

func (w *world) openIMAP(user string, c net.Conn) (*imap, error) {
	s := &imap{w: w, user: user, c: c, r: bufio.NewReaderSize(c, 4096)}
	if _, _, err := s.line(); err != nil {
		return nil, err
	}
	for _, cmd := range []string{"LOGIN " + user + "@" + home + " " + secret, "ENABLE QRESYNC"} {
		if _, err := s.do("%s", cmd); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// line reads a response with its literals, which stand in it as \x00.
func (s *imap) line() (text string, literals []string, err error) {
	_ = s.c.SetReadDeadline(time.Now().Add(patience))
	for {
		part, err := s.r.ReadString('\n')
		if err != nil {
			return text, literals, err
		}
		part = strings.TrimRight(part, "\r\n")
		open := strings.LastIndexByte(part, '{')
		if open < 0 || !strings.HasSuffix(part, "}") {
			return text + part, literals, nil
		}
		n, err := strconv.Atoi(part[open+1 : len(part)-1])
		if err != nil {
			return text + part, literals, nil
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(s.r, b); err != nil {
			return text, literals, err
		}
		literals = append(literals, string(b))
		text += part[:open] + "\x00"
	}
}

// do sends a command and takes in what is said until its end. The error is errRefused, or
// that of the connection: then nobody knows.
func (s *imap) do(format string, args ...any) (answer string, err error) {
	cmd := fmt.Sprintf(format, args...)
	tag, err := s.send(cmd)
	if err == nil {
		answer, err = s.finish(tag)
	}
	if s.chatty {
		s.w.logf("%s: %s: %s %v", s.user, cmd, answer, err)
	}
	return answer, err
}

func (s *imap) send(cmd string) (tag string, err error) {
	s.tag++
	tag = "t" + strconv.Itoa(s.tag)
	_ = s.c.SetWriteDeadline(time.Now().Add(patience))
	_, err = io.WriteString(s.c, tag+" "+cmd+"\r\n")
	return tag, err
}

func (s *imap) finish(tag string) (answer string, err error) {
	for {
		line, literals, err := s.line()
		if err != nil {
			return "", err
		}
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			s.codes(rest)
			if !strings.HasPrefix(rest, "OK") {
				s.w.logf("%s: IMAP: %s", s.user, rest)
				return rest, errRefused
			}
			return rest, nil
		}
		if strings.HasPrefix(line, "* BYE") {
			return "", io.ErrUnexpectedEOF
		}
		if err := s.untagged(line, literals); err != nil {
			return "", err
		}
	}
}

// after returns what follows a word, up to one of the ends.
func after(line, word, ends string) string {
	i := strings.Index(line, word)
	if i < 0 {
		return ""
	}
	rest := line[i+len(word):]
	if j := strings.IndexAny(rest, ends); j >= 0 {
		rest = rest[:j]
	}
	return rest
}

func number(line, word string) uint64 {
	n, _ := strconv.ParseUint(after(line, word, " ])("), 10, 64)
	return n
}

func (s *imap) untagged(line string, literals []string) error {
	s.codes(line)
	switch {
	case strings.HasPrefix(line, "* VANISHED"):
		set := line[strings.LastIndexByte(line, ' ')+1:]
		for _, uid := range expand(set) {
			_, had := s.now.facts[uid]
			delete(s.now.facts, uid)
			if strings.Contains(line, "(EARLIER)") {
				s.earlier[uid] = true
			}
			if had && s.box != nil {
				s.w.ledger.toldGone(s.box, uid)
			}
		}
	case strings.HasSuffix(line, " EXISTS"):
		s.exists, _ = strconv.Atoi(after(line, "* ", " "))
	case strings.Contains(line, " FETCH ("):
		s.fetched(line, literals)
	}
	return nil
}

func (s *imap) fetched(line string, literals []string) {
	uid := uint32(number(line, "UID "))
	if uid == 0 || s.box == nil {
		return
	}
	f, had := s.now.facts[uid]
	if m := number(line, "MODSEQ ("); m > 0 {
		f.modseq = m
	}
	hasFlags := strings.Contains(line, "FLAGS (")
	if hasFlags {
		f.flags = sorted(after(line, "FLAGS (", ")"))
	}
	if strings.Contains(line, "BODY[") && len(literals) > 0 {
		s.bodies[uid] = literals[0]
		if t := field(literals[0], "X-Token"); t != "" {
			f.token = t
		}
	}
	s.now.facts[uid] = f
	_ = had
	if hasFlags && strings.Contains(line, "MODSEQ (") {
		s.w.ledger.toldFact(s.box, uid, f)
	}
}

func sorted(flags string) string {
	list := strings.Fields(flags)
	list = slices.DeleteFunc(list, func(f string) bool { return f == `\Recent` })
	slices.Sort(list)
	return strings.Join(list, " ")
}

// codes takes in response codes about the mailbox.
func (s *imap) codes(line string) {
	if s.box == nil {
		return
	}
	if n := number(line, "[UIDVALIDITY "); n > 0 {
		s.now.validity = uint32(n)
	}
	if n := number(line, "[UIDNEXT "); n > 0 {
		s.next = uint32(n)
	}
	if n := number(line, "[HIGHESTMODSEQ "); n > 0 {
		s.now.modseq = max(n, s.now.modseq)
	}
}

func expand(set string) (uids []uint32) {
	for part := range strings.SplitSeq(set, ",") {
		low, high, ranged := strings.Cut(part, ":")
		from, err := strconv.ParseUint(low, 10, 32)
		if err != nil {
			continue
		}
		to := from
		if ranged {
			to, _ = strconv.ParseUint(high, 10, 32)
		}
		if to < from {
			from, to = to, from
		}
		for n := from; n <= to; n++ {
			uids = append(uids, uint32(n))
		}
	}
	return uids
}

// open selects a mailbox, making it if there is none, and learns what is in it. From a
// state it remembers it comes to the present one by QRESYNC.
func (s *imap) open(name string, from *state) error {
	b := s.w.ledger.box(s.user, name)
	s.box, s.next, s.bodies, s.earlier = nil, 0, map[uint32]string{}, map[uint32]bool{}
	s.now = state{facts: map[uint32]fact{}}
	next, modseq := s.w.ledger.floor(b)
	existed := s.w.ledger.exists(b)
	cmd := "SELECT " + name
	if from != nil {
		s.now.facts = maps.Clone(from.facts)
		known := ""
		if !from.all && len(from.facts) > 0 {
			known = " " + compact(from.facts)
		}
		cmd += fmt.Sprintf(" (QRESYNC (%d %d%s))", from.validity, from.modseq, known)
	}
	s.box = b
	answer, err := s.do("%s", cmd)
	if err == errRefused && strings.Contains(answer, "[NONEXISTENT]") && !existed {
		if !s.makes {
			return errAbsent
		}
		if _, err := s.do("CREATE %s", name); err == nil {
			s.w.ledger.created(b)
		} else if err != errRefused {
			return err
		}
		answer, err = s.do("%s", cmd)
	}
	if err != nil {
		s.box = nil
		if err == errRefused && existed && !strings.Contains(answer, "[UNAVAILABLE]") && !strings.Contains(answer, "[INUSE]") {
			s.w.wrong("%s: SELECT %s: %s", s.user, name, answer)
		}
		return err
	}
	s.w.ledger.toldBox(b, s.now.validity, s.next, s.now.modseq, next, modseq)
	return nil
}

func compact(facts map[uint32]fact) string {
	var b strings.Builder
	for i, uid := range slices.Sorted(maps.Keys(facts)) {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d", uid)
	}
	return b.String()
}

// read learns the token of each message, or all of it.
func (s *imap) read(what string) error {
	if s.exists == 0 {
		return nil
	}
	_, err := s.do("UID FETCH 1:* (UID FLAGS MODSEQ %s)", what)
	return err
}

const tokens = "BODY.PEEK[HEADER.FIELDS (X-Token)]"
