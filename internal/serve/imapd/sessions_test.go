package imapd

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

var (
	sessionRuns = flag.Int("sessions", 24, "how many runs TestSessionsAgree makes")
	sessionSeed = flag.Uint64("sessions.seed", 0, "the seed of the first")
)

// story is a run of several clients on one mailbox. It is written down as a
// transcript, for a run that fails to be kept.
type story struct {
	t       *testing.T
	w       *world
	rng     *rand.Rand
	clients []*modelClient
	recent  map[uint32]string // who was told that a message is \Recent
	uidNext mail.UID
	modSeq  mail.ModSeq
	script  strings.Builder
	file    string // where the script goes if the run fails
}

func (s *story) failf(format string, args ...any) {
	s.t.Helper()
	if err := os.WriteFile(s.file, []byte(s.script.String()), 0o600); err == nil {
		s.t.Logf("the conversation is in %s", s.file)
	}
	s.t.Fatalf(format, args...)
}

// do sends a command of a client and checks what it is told, and that it is told
// enough.
func (s *story) do(m *modelClient, command string, mayExpunge bool) (tagged string) {
	s.t.Helper()
	lines, tagged := m.c.command(s.t, command)
	fmt.Fprintf(&s.script, "%s> zz %s\n", m.name, strings.ReplaceAll(command, "\r\n", `\r\n`))
	for _, line := range append(lines, tagged) {
		fmt.Fprintf(&s.script, "%s< %s\n", m.name, line)
	}
	if err := m.hear(lines, mayExpunge); err != nil {
		s.failf("%s: %s: %v", m.name, command, err)
	}
	if strings.HasPrefix(tagged, "zz BAD") {
		s.failf("%s: %s: %s", m.name, command, tagged)
	}
	for _, uid := range m.recent {
		if who := s.recent[uid]; who != "" && who != m.name {
			s.failf("UID %d is \\Recent for %s and for %s", uid, who, m.name)
		}
		s.recent[uid] = m.name
	}
	return tagged
}

// check compares what a client knows with what is there, after each command.
func (s *story) check(m *modelClient, command string, mayExpunge bool) {
	s.t.Helper()
	pic := s.w.picture("INBOX")
	if err := m.knows(pic, mayExpunge); err != nil {
		s.failf("%s, after %s: %v", m.name, command, err)
	}
	box := pic.Mailbox()
	if box.UIDNext < s.uidNext || box.HighestModSeq < s.modSeq || box.UIDNext <= pic.UID(pic.Len()) {
		s.failf("UIDNEXT and HIGHESTMODSEQ went from %d and %d to %d and %d", s.uidNext, s.modSeq, box.UIDNext, box.HighestModSeq)
	}
	s.uidNext, s.modSeq = box.UIDNext, box.HighestModSeq
}

// run is do and check.
func (s *story) run(m *modelClient, command string, mayExpunge bool) string {
	s.t.Helper()
	tagged := s.do(m, command, mayExpunge)
	s.check(m, command, mayExpunge)
	return tagged
}

// step lets a client do one thing at random.
func (s *story) step(m *modelClient) {
	one := "1"
	if len(m.uids) > 0 {
		one = fmt.Sprint(1 + s.rng.IntN(len(m.uids)))
	}
	switch n := s.rng.IntN(100); {
	case n < 12:
		subject := fmt.Sprint("m", s.rng.IntN(1000))
		fmt.Fprintln(&s.script, "deliver INBOX", subject)
		s.w.deliver("INBOX", message(subject), 0)
	case n < 42:
		s.store(m)
	case n < 52:
		s.fetchAll(m)
	case n < 57:
		s.run(m, "UID FETCH 1:* (UID FLAGS)", true)
	case n < 64:
		s.search(m)
	case n < 71:
		s.run(m, "NOOP", true)
	case n < 75:
		s.run(m, "IDLE\r\nDONE", true)
	case n < 79:
		s.status(m)
	case n < 86:
		s.run(m, "EXPUNGE", true)
	case n < 88:
		s.run(m, "UID EXPUNGE 1:"+one, true)
	case n < 90:
		s.reopen(m)
	case n < 94 && len(m.uids) > 0:
		s.run(m, "MOVE "+one+" Archive", true)
	case len(m.uids) > 0:
		s.run(m, "COPY "+one+" INBOX", true)
	}
}

// store changes flags of some messages: by number or UID, silently or not, and, by a
// client that knows modseqs, on condition.
func (s *story) store(m *modelClient) {
	if len(m.uids) == 0 {
		return
	}
	rng := s.rng
	a, b := 1+rng.IntN(len(m.uids)), 1+rng.IntN(len(m.uids))
	a, b = min(a, b), max(a, b)
	op, name := []string{"", "+", "-"}[rng.IntN(3)], modelFlags[rng.IntN(len(modelFlags))]
	verb, set, uid := "STORE", fmt.Sprintf("%d:%d", a, b), false
	if id := m.uids[a-1]; id != 0 && rng.IntN(2) == 0 {
		verb, set, uid, b = "UID STORE", fmt.Sprint(id), true, a
	}
	touched := slices.Clone(m.uids[a-1 : b])
	condition, want := "", ""
	if m.condstore && rng.IntN(3) == 0 && !slices.Contains(touched, 0) {
		since := s.modSeq - min(s.modSeq, mail.ModSeq(rng.IntN(4)))
		condition = fmt.Sprintf(" (UNCHANGEDSINCE %d)", since)
		touched, want = s.unchanged(touched, a, uid, since)
	}
	silent := ""
	if rng.IntN(2) == 0 {
		silent = ".SILENT"
		m.stored(touched, op, name)
	}
	command := fmt.Sprintf("%s %s%s %sFLAGS%s (%s)", verb, set, condition, op, silent, name)
	tagged := s.run(m, command, uid)
	if _, code, _ := strings.Cut(tagged, "[MODIFIED "); want != "" && !strings.HasPrefix(code, want+"]") || want == "" && code != "" {
		s.failf("%s: %s: %s, and MODIFIED should be %q", m.name, command, tagged, want)
	}
}

// unchanged parts messages in those a conditional STORE changes and those it must
// name as MODIFIED (RFC 7162, 3.1.3). The first of them has the number seq.
func (s *story) unchanged(uids []uint32, seq int, byUID bool, since mail.ModSeq) (change []uint32, modified string) {
	pic := s.w.picture("INBOX")
	var failed mail.UIDSet
	for i, uid := range uids {
		msg, there := pic.Message(mail.UID(uid))
		switch {
		case !there || msg.ModSeq <= since:
			change = append(change, uid)
		case byUID:
			failed.Add(msg.UID)
		default:
			failed.Add(mail.UID(seq + i))
		}
	}
	return change, failed.String()
}

// search compares SEARCH with what the client knows; a client of IMAP4rev2 gets ESEARCH.
func (s *story) search(m *modelClient) {
	name := modelFlags[:3][s.rng.IntN(3)]
	want, known := m.finds(func(flags string) bool { return slices.Contains(strings.Fields(flags), name) })
	command := "SEARCH " + strings.ToUpper(name[1:])
	s.do(m, command, false)
	if known {
		line := strings.TrimSuffix("* SEARCH "+strings.Join(want, " "), " ")
		if m.rev2 {
			line = `* ESEARCH (TAG "zz")`
			if len(want) > 0 {
				line += " ALL " + numbers(want).String()
			}
		}
		if !slices.Equal(m.answer, []string{line}) {
			s.failf("%s: %s: %q, want %q", m.name, command, m.answer, line)
		}
	}
	s.check(m, command, false)
}

func numbers(words []string) (set mail.UIDSet) {
	for _, w := range words {
		n, _ := strconv.Atoi(w)
		set.Add(mail.UID(n))
	}
	return set
}

// fetchAll reads all flags: each message that was there after the last command and is
// still there comes once at least.
func (s *story) fetchAll(m *modelClient) {
	before := m.live
	s.run(m, "FETCH 1:* (UID FLAGS)", false)
	for uid := range before {
		if m.live[uid] && !m.fetched[uid] {
			s.failf("%s: FETCH 1:* left UID %d out", m.name, uid)
		}
	}
}

// status compares STATUS with the mailbox.
func (s *story) status(m *modelClient) {
	s.do(m, "STATUS INBOX (MESSAGES UIDNEXT UNSEEN DELETED SIZE)", true)
	box := s.w.picture("INBOX").Mailbox()
	want := fmt.Sprintf("* STATUS INBOX (MESSAGES %d UIDNEXT %d UNSEEN %d DELETED %d SIZE %d)",
		box.Messages, box.UIDNext, box.Unseen, box.Deleted, box.Bytes)
	if !slices.Equal(m.answer, []string{want}) {
		s.failf("%s: %q, want %q", m.name, m.answer, want)
	}
	s.check(m, "STATUS", true)
}

// Two to six sessions of one account change one mailbox in any order, and come and go;
// some know modseqs, some have enabled IMAP4rev2. Each of them is told a story that
// holds together, and after each of its commands it knows the truth but for expunges
// that it may not be told yet (RFC 9051, 7.5.1). A run that fails is kept as a
// transcript.
func TestSessionsAgree(t *testing.T) {
	for i := range uint64(*sessionRuns) {
		seed := *sessionSeed + i
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := &story{
				t: t, w: newWorld(t), rng: rand.New(rand.NewPCG(seed, 1)), recent: map[uint32]string{},
				file: filepath.Join(os.TempDir(), fmt.Sprintf("martlet-sessions-%d.txt", seed)),
			}
			for i := range 5 {
				fmt.Fprintln(&s.script, "deliver INBOX", i)
				s.w.deliver("INBOX", message(fmt.Sprint(i)), 0)
			}
			for i := range 2 + s.rng.IntN(5) {
				s.join(string(rune('A' + i)))
			}
			for range 250 {
				s.step(s.clients[s.rng.IntN(len(s.clients))])
			}
			for _, m := range s.clients {
				s.run(m, "NOOP", true)
				s.run(m, "FETCH 1:* (UID FLAGS)", false)
				if len(m.fetched) != len(m.uids) {
					s.failf("%s fetched %d of %d messages", m.name, len(m.fetched), len(m.uids))
				}
			}
		})
	}
}

// join adds a client.
func (s *story) join(name string) {
	fmt.Fprintln(&s.script, "login", name)
	m := &modelClient{name: name, c: s.w.login(name, ""), flag: map[uint32]string{}, mod: map[uint32]uint64{}}
	if m.condstore = s.rng.IntN(3) == 0; m.condstore {
		s.do(m, "ENABLE CONDSTORE", true)
	}
	if m.rev2 = s.rng.IntN(3) == 0; m.rev2 {
		s.do(m, "ENABLE IMAP4rev2", true)
	}
	s.do(m, "SELECT INBOX", true)
	s.run(m, "FETCH 1:* (UID FLAGS)", false)
	s.clients = append(s.clients, m)
}

// reopen lets a client leave the mailbox, with or without expunging what is deleted,
// and come back: it counts anew, and keeps what it knows by UID of what it may keep.
func (s *story) reopen(m *modelClient) {
	if s.rng.IntN(2) == 0 {
		s.do(m, []string{"CLOSE", "UNSELECT"}[s.rng.IntN(2)], false)
		if len(m.answer)+len(m.fetched) > 0 {
			s.failf("%s was told something when it closed the mailbox", m.name)
		}
	}
	m.uids, m.flag = nil, map[uint32]string{}
	s.run(m, "SELECT INBOX", true)
}

func (w *world) picture(name string) *store.Picture {
	w.t.Helper()
	var id mail.MailboxID
	err := w.alice.View(w.ctx, func(s *store.Snapshot) error {
		box, err := s.Mailbox(name)
		id = box.ID
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	pic, err := w.alice.Picture(w.ctx, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return pic
}
