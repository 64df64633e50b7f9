package imapd

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

var (
	sharedRuns = flag.Int("shared", 10, "how many runs TestUsersShareAMailbox makes")
	sharedSeed = flag.Uint64("shared.seed", 0, "the seed of the first")
)

// sharers is alice's INBOX with all who use it, and what is true of it: the flags that
// are shared, and what each user has seen.
type sharers struct {
	t       *testing.T
	w       *world
	rng     *rand.Rand
	msgs    []*sharedMessage
	next    uint32
	rights  map[string]mail.Rights // bob's and carol's
	clients []*sharer
	log     []string // what was said
}

type sharedMessage struct {
	uid   uint32
	flags map[string]bool // without \Seen
	seen  map[string]bool // by user
}

// as returns the flags as a user sees them.
func (m *sharedMessage) as(user string) string {
	var words []string
	for f, on := range m.flags {
		if on {
			words = append(words, f)
		}
	}
	if m.seen[user] {
		words = append(words, `\Seen`)
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// sharer is a session of a user that believes what it is told.
type sharer struct {
	user string
	c    *client
	box  string
	uids []uint32 // by sequence number, 0 if not known
	flag map[uint32]string
}

var (
	sharerCounts = regexp.MustCompile(`^\* (\d+) (EXISTS|EXPUNGE)$`)
	sharerFetch  = regexp.MustCompile(`^\* (\d+) FETCH \((?:.*UID (\d+))?.*FLAGS \(([^)]*)\)`)
	sharerRight  = map[string]string{`\Seen`: "s", `\Deleted`: "t", `\Flagged`: "w", "label": "w"}
)

func (s *sharers) failf(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s\n%s", strings.Join(s.log[max(0, len(s.log)-60):], "\n"), fmt.Sprintf(format, args...))
}

// hear takes in one untagged answer, with the literals in it.
func (c *sharer) hear(line string) error {
	if m := sharerCounts.FindStringSubmatch(line); m != nil {
		n, _ := strconv.Atoi(m[1])
		switch {
		case m[2] == "EXISTS" && n >= len(c.uids):
			c.uids = append(c.uids, make([]uint32, n-len(c.uids))...)
		case m[2] == "EXPUNGE" && n <= len(c.uids):
			c.uids = slices.Delete(c.uids, n-1, n)
		default:
			return fmt.Errorf("there are %d", len(c.uids))
		}
		return nil
	}
	m := sharerFetch.FindStringSubmatch(line)
	if m == nil {
		return nil
	}
	n, _ := strconv.Atoi(m[1])
	if n < 1 || n > len(c.uids) {
		return fmt.Errorf("there are %d", len(c.uids))
	}
	if m[2] != "" {
		uid, _ := strconv.Atoi(m[2])
		if known := c.uids[n-1]; known != 0 && known != uint32(uid) {
			return fmt.Errorf("it is UID %d", known)
		}
		c.uids[n-1] = uint32(uid)
	}
	words := slices.DeleteFunc(strings.Fields(m[3]), func(w string) bool { return w == `\Recent` })
	slices.Sort(words)
	if uid := c.uids[n-1]; uid != 0 {
		c.flag[uid] = strings.Join(words, " ")
	}
	return nil
}

// say sends a command and takes in all that is told.
func (s *sharers) say(c *sharer, command string) (answers []string, tagged string) {
	s.t.Helper()
	s.log = append(s.log, c.user+"> "+command)
	c.c.send(s.t, "zz "+command+"\r\n")
	line := ""
	for {
		more, ok := c.c.read(s.t)
		s.log = append(s.log, c.user+"< "+more)
		if line += more; !ok {
			s.failf("the connection ended")
		}
		switch {
		case strings.HasSuffix(line, "}"): // a literal follows
			continue
		case strings.HasPrefix(line, "zz "):
			return answers, line
		case strings.HasPrefix(line, "+ "):
		case strings.HasPrefix(line, "* ") && !strings.HasSuffix(line, ")") && strings.Contains(line, "{"):
			continue // within one
		default:
			if err := c.hear(line); err != nil {
				s.failf("%v", err)
			}
			answers = append(answers, line)
		}
		line = ""
	}
}

// know compares what a session believes with what is true for its user. All commands
// here may tell everything, so it must know everything.
func (s *sharers) know(c *sharer) {
	s.t.Helper()
	if len(c.uids) != len(s.msgs) {
		s.failf("%s counts %d messages, there are %d", c.user, len(c.uids), len(s.msgs))
	}
	for i, m := range s.msgs {
		uid := c.uids[i]
		if uid != 0 && uid != m.uid {
			s.failf("%s takes UID %d for %d", c.user, m.uid, uid)
		}
		if got, known := c.flag[uid]; uid != 0 && known && got != m.as(c.user) {
			s.failf("%s thinks that UID %d has (%s), it has (%s)", c.user, uid, got, m.as(c.user))
		}
	}
	if slices.Contains(c.uids, 0) {
		s.say(c, "UID FETCH 1:* (FLAGS)")
		s.know(c)
	}
}

func (s *sharers) may(c *sharer, letters string) bool {
	need, _ := mail.ParseRights(letters)
	return c.user == "alice" || s.rights[c.user].Has(need)
}

// expect says a command that must be answered OK or not, and then the session knows all.
func (s *sharers) expect(c *sharer, ok bool, command string) []string {
	s.t.Helper()
	answers, tagged := s.say(c, command)
	if want := map[bool]string{true: "zz OK", false: "zz NO [NOPERM]"}[ok]; !strings.HasPrefix(tagged, want) {
		s.failf("want %s", want)
	}
	s.know(c)
	return answers
}

// add is a message that a user puts in with flags, as far as the user may.
func (s *sharers) add(c *sharer, flags map[string]bool) {
	m := &sharedMessage{uid: s.next, flags: map[string]bool{}, seen: map[string]bool{}}
	s.next++
	for f, on := range flags {
		switch {
		case !on || !s.may(c, sharerRight[f]):
		case f == `\Seen`:
			m.seen[c.user] = true
		default:
			m.flags[f] = true
		}
	}
	s.msgs = append(s.msgs, m)
}

func (s *sharers) flagsAtRandom() map[string]bool {
	flags := map[string]bool{}
	for f := range sharerRight {
		flags[f] = s.rng.IntN(3) == 0
	}
	return flags
}

func words(flags map[string]bool) string {
	m := sharedMessage{flags: flags}
	return m.as("")
}

func (s *sharers) step(c *sharer) {
	var m *sharedMessage // one that the session has been told of
	counted := slices.DeleteFunc(slices.Clone(s.msgs), func(m *sharedMessage) bool { return !slices.Contains(c.uids, m.uid) })
	if len(counted) > 0 {
		m = counted[s.rng.IntN(len(counted))]
	}
	switch n := s.rng.IntN(100); {
	case n < 6:
		s.w.deliver("INBOX", message(fmt.Sprint("m", s.next)), 0)
		s.add(s.clients[0], nil)
	case n < 12:
		flags := s.flagsAtRandom()
		may := s.may(c, "i")
		if may {
			s.add(c, flags)
		}
		s.expect(c, may, fmt.Sprintf("APPEND %s (%s) {4+}\r\nx:y\r\n", c.box, words(flags)))
	case n < 18:
		s.share()
	case n < 50 && m != nil:
		s.store(c, m)
	case n < 58 && m != nil:
		s.expect(c, true, "NOOP") // what it takes for seen is not marked again
		m.seen[c.user] = m.seen[c.user] || s.may(c, "s")
		s.expect(c, true, fmt.Sprintf("UID FETCH %d BODY[HEADER.FIELDS (X-None)]", m.uid))
	case n < 64:
		s.expunge(c)
	case n < 68 && m != nil:
		may := s.may(c, "i")
		if may {
			s.copied(c, m)
		}
		s.expect(c, may, fmt.Sprintf("UID COPY %d %s", m.uid, c.box))
	case n < 71 && m != nil:
		may := s.may(c, "te")
		if may {
			s.msgs = slices.DeleteFunc(s.msgs, func(o *sharedMessage) bool { return o == m })
		}
		s.expect(c, may, fmt.Sprintf("UID MOVE %d Trash", m.uid))
	case n < 80:
		s.count(c)
	case n < 88:
		s.expect(c, true, "NOOP")
	default:
		s.expect(c, true, "UID FETCH 1:* (FLAGS)")
	}
}

// store changes flags, as far as the user may, and fails if that is not at all.
func (s *sharers) store(c *sharer, m *sharedMessage) {
	flags, op := s.flagsAtRandom(), []string{"", "+", "-"}[s.rng.IntN(3)]
	silent := s.rng.IntN(2) == 0
	may := false
	for f := range sharerRight {
		may = may || (flags[f] || op == "" || words(flags) == "") && s.may(c, sharerRight[f])
	}
	believed, known := c.flag[m.uid]
	for f := range sharerRight {
		on := op != "-"
		if op == "" {
			on = flags[f]
		} else if !flags[f] {
			continue
		}
		believed = applied(believed, map[bool]string{true: "+", false: "-"}[on], f)
		switch {
		case !s.may(c, sharerRight[f]):
		case f == `\Seen`:
			m.seen[c.user] = on
		default:
			m.flags[f] = on
		}
	}
	command := fmt.Sprintf("UID STORE %d %sFLAGS (%s)", m.uid, op, words(flags))
	if silent {
		command = strings.Replace(command, "FLAGS", "FLAGS.SILENT", 1)
		if may && known { // it takes for granted what it is not told otherwise
			c.flag[m.uid] = believed
		}
	}
	s.expect(c, may, command)
}

func (s *sharers) expunge(c *sharer) {
	may := s.may(c, "e")
	if may {
		s.msgs = slices.DeleteFunc(s.msgs, func(m *sharedMessage) bool { return m.flags[`\Deleted`] })
	}
	s.expect(c, may, "EXPUNGE")
}

// copied is a copy in the same mailbox: what the owner has seen stays seen by the owner.
func (s *sharers) copied(c *sharer, m *sharedMessage) {
	flags := map[string]bool{`\Seen`: m.seen[c.user]}
	for f, on := range m.flags {
		flags[f] = on
	}
	s.add(c, flags)
	if c.user != "alice" {
		s.msgs[len(s.msgs)-1].seen["alice"] = m.seen["alice"]
	}
}

// share gives bob or carol other rights. Without r they would be shown out.
func (s *sharers) share() {
	who := []string{"bob", "carol"}[s.rng.IntN(2)]
	letters := "lr"
	for _, l := range "switek" {
		if s.rng.IntN(3) > 0 {
			letters += string(l)
		}
	}
	s.rights[who], _ = mail.ParseRights(letters)
	s.expect(s.clients[0], true, "SETACL INBOX "+who+"@example.org "+letters)
}

// count compares SEARCH and STATUS with what is true for the user.
func (s *sharers) count(c *sharer) {
	var unseen []string
	for _, m := range s.msgs {
		if !m.seen[c.user] {
			unseen = append(unseen, fmt.Sprint(m.uid))
		}
	}
	s.expect(c, true, "NOOP") // what it has not been told of is not searched
	want := strings.TrimSuffix("* SEARCH "+strings.Join(unseen, " "), " ")
	if answers := s.expect(c, true, "UID SEARCH UNSEEN"); !slices.Contains(answers, want) {
		s.failf("want %s", want)
	}
	want = fmt.Sprintf("* STATUS %s (MESSAGES %d UNSEEN %d)", c.box, len(s.msgs), len(unseen))
	if answers := s.expect(c, true, "STATUS "+c.box+" (MESSAGES UNSEEN)"); !slices.Contains(answers, want) {
		s.failf("want %s", want)
	}
}

// Three users with two sessions each change one mailbox in any order, while the owner
// changes what the others may do. Each session is told the truth as its user sees it,
// what may not be done is refused, and what may be done in part is done in part.
func TestUsersShareAMailbox(t *testing.T) {
	for i := range uint64(*sharedRuns) {
		seed := *sharedSeed + i
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := &sharers{t: t, w: newWorld(t), rng: rand.New(rand.NewPCG(seed, 2)), next: 1, rights: map[string]mail.Rights{}}
			if err := s.w.account("carol"); err != nil {
				t.Fatal(err)
			}
			for _, user := range []string{"alice", "bob", "carol", "alice", "bob", "carol"} {
				c := &sharer{user: user, box: "INBOX", flag: map[uint32]string{}}
				c.c = newClient(s.w.dial())
				t.Cleanup(func() { c.c.conn.Close() })
				c.c.read(t)
				s.say(c, fmt.Sprintf("LOGIN %s@example.org %q", user, strings.ReplaceAll(password, "alice", user)))
				if s.clients = append(s.clients, c); user != "alice" {
					c.box = `"` + otherUsers + `/alice@example.org"`
					s.rights[user] = mail.RightLookup | mail.RightRead | mail.RightSeen
					s.expect(s.clients[0], true, "SETACL INBOX "+user+"@example.org lrs")
				}
				s.expect(c, true, "SELECT "+c.box)
			}
			for range 250 {
				s.step(s.clients[s.rng.IntN(len(s.clients))])
			}
			for _, c := range s.clients {
				s.expect(c, true, "UID FETCH 1:* (FLAGS)")
			}
			verified, err := s.w.st.Verify(s.w.ctx, func(p store.Problem) { t.Error(p) }, nil)
			if err != nil || verified.Accounts != 3 {
				t.Error(verified, err)
			}
		})
	}
}
