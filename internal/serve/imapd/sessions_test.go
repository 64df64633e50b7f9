package imapd

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
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
	t        *testing.T
	w        *world
	rng      *rand.Rand
	clients  []*modelClient
	box      *refBox           // the mailbox that all have selected
	archive  *refBox           // another
	recent   map[uint32]string // who was told that a message is \Recent
	script   strings.Builder
	file     string // where the script goes if the run fails
	turns    int    // mailboxes there have been
	exact    bool   // nothing is left to chance, such as who is first to claim \Recent
	many     bool   // commands are made that will be sent together
	contents int    // different messages there have been
	keep     bool   // deleted mail is kept
}

// deed is one command of a client, what it does to the mailboxes and how it is answered.
type deed struct {
	command string
	expunge bool               // expunges may be told before its answer
	fetches bool               // FETCH lines in it are asked for
	effect  func()             // on the model, at the moment it is carried out
	check   func(string) error // of the tagged answer, after all has been heard
	no      bool               // it is refused with NO
	finds   func() (gone bool) // not nil: it is a SEARCH or the like
}

func (s *story) failf(format string, args ...any) {
	s.t.Helper()
	if err := os.WriteFile(s.file, []byte(s.script.String()), 0o600); err == nil {
		s.t.Logf("the conversation is in %s", s.file)
	}
	s.t.Fatalf(format, args...)
}

func (s *story) send(m *modelClient, text string) {
	s.t.Helper()
	fmt.Fprintf(&s.script, "%s> %s\n", m.name, strings.ReplaceAll(text, "\r\n", `\r\n`))
	m.c.send(s.t, text+"\r\n")
}

// read returns the next line that a client is told.
func (s *story) read(m *modelClient) (string, bool) {
	s.t.Helper()
	line, ok := m.c.read(s.t)
	if ok {
		fmt.Fprintf(&s.script, "%s< %s\n", m.name, line)
	} else {
		fmt.Fprintf(&s.script, "%s closed\n", m.name)
	}
	return line, ok
}

// hear takes in what a client is told up to the answer of a tag.
func (s *story) hear(m *modelClient, tag, command string, mayExpunge bool) (tagged string) {
	s.t.Helper()
	for {
		line, ok := s.read(m)
		if !ok {
			s.failf("%s: %s: the connection ended", m.name, command)
		}
		if m.hearTagged(line, tag) {
			return line
		}
		if err := m.hear(line, mayExpunge); err != nil {
			s.failf("%s: %s: %q: %v", m.name, command, line, err)
		}
	}
}

// run sends commands of a client at once, and checks what it is told in answer to each,
// that the mailboxes are as they should be, and that the client knows all it must.
func (s *story) run(m *modelClient, deeds ...*deed) {
	s.t.Helper()
	tag := func(i int) string { return fmt.Sprint("z", i+1) }
	var all []string
	for i, d := range deeds {
		all = append(all, tag(i)+" "+d.command)
	}
	s.send(m, strings.Join(all, "\r\n"))
	for i, d := range deeds {
		m.begin()
		if d.effect != nil {
			d.effect()
		}
		tagged := s.hear(m, tag(i), d.command, d.expunge)
		if want := map[bool]string{false: "OK", true: "NO"}[d.no]; !strings.HasPrefix(tagged, tag(i)+" "+want) {
			s.failf("%s: %s: %s", m.name, d.command, tagged)
		}
		s.claim(m)
		m.settle(s.box, d.expunge)
		if i == len(deeds)-1 {
			s.check(m, d.command)
		}
		if d.finds != nil && (d.finds() || m.gone()) != strings.Contains(tagged, "[EXPUNGEISSUED]") {
			s.failf("%s: %s: %s, messages are gone: %v", m.name, d.command, tagged, m.gone())
		}
		if m.condstore && m.unmod && !d.fetches { // RFC 7162, 3.1
			s.failf("%s: %s: a FETCH without MODSEQ", m.name, d.command)
		}
		if d.check != nil {
			if err := d.check(tagged); err != nil {
				s.failf("%s: %s: %s: %v", m.name, d.command, tagged, err)
			}
		}
	}
}

// claim checks that a message is \Recent for one session only.
func (s *story) claim(m *modelClient) {
	for _, uid := range m.recents {
		if who := s.recent[uid]; who != "" && who != m.name && !m.readOnly && s.w.nodeOf(who) == s.w.nodeOf(m.name) {
			s.failf("UID %d is \\Recent for %s and for %s", uid, who, m.name)
		}
		if !m.readOnly {
			s.recent[uid] = m.name
		}
	}
}

// check compares what there is with the model, and what a client knows with it.
func (s *story) check(m *modelClient, command string) {
	s.t.Helper()
	for _, b := range []*refBox{s.box, s.archive} {
		if err := b.check(s.w.picture(b.name)); err != nil {
			s.failf("%s, after %s: %v", m.name, command, err)
		}
	}
	if err := m.knows(s.box); err != nil {
		s.failf("%s, after %s: %v", m.name, command, err)
	}
}

// deliver lets a message arrive from outside.
func (s *story) deliver() {
	subject := fmt.Sprint("m", s.rng.IntN(1000))
	fmt.Fprintln(&s.script, "deliver", s.box.name, subject)
	text := message(subject)
	s.w.deliver(s.box.name, text, 0)
	s.box.add("", len(text))
	if err := s.box.check(s.w.picture(s.box.name)); err != nil {
		s.failf("after a delivery: %v", err)
	}
}

// step lets a client do one thing at random.
func (s *story) step(m *modelClient) {
	switch n := s.rng.IntN(200); {
	case n < 20:
		s.deliver()
	case n < 24:
		s.idle(m)
	case n < 30:
		s.leave(m)
		s.open(m)
	case n < 33:
		s.rejoin(m)
	case n < 34:
		s.rename(m)
	case n < 35 && !s.exact && s.rng.IntN(3) == 0:
		s.rebirth(m)
	case n < 45:
		s.pipeline(m)
	default:
		s.run(m, s.deed(m))
	}
}

// pipeline sends some commands at once: numbers in them stay what they are up to the
// first that may tell of expunges (RFC 9051, 5.5).
func (s *story) pipeline(m *modelClient) {
	s.many = true
	defer func() { s.many = false }()
	var deeds []*deed
	for range 6 {
		if d := s.steady(m); !d.expunge {
			deeds = append(deeds, d)
		}
	}
	s.run(m, append(deeds, s.steady(m))...)
}

// idle lets a client idle while others do something. It must be told without asking
// (RFC 2177).
//
// What is pushed may be told at once or piece by piece. Where nothing is left to chance
// there is one piece: nothing old, and one thing that happens.
func (s *story) idle(m *modelClient) {
	happens := 1 + s.rng.IntN(4)
	if s.exact {
		s.run(m, &deed{command: "NOOP", expunge: true})
		happens = 1
	}
	m.begin()
	s.send(m, "z1 IDLE")
	for line, ok := "", true; line != "+ idling"; {
		if line, ok = s.read(m); !ok {
			s.failf("%s: IDLE: the connection ended", m.name)
		}
		if line != "+ idling" {
			if err := m.hear(line, true); err != nil {
				s.failf("%s: IDLE: %q: %v", m.name, line, err)
			}
		}
	}
	s.claim(m)
	for range happens {
		other := s.clients[s.rng.IntN(len(s.clients))]
		switch {
		case other == m:
			s.deliver()
		case s.exact:
			s.run(other, s.store(other))
		default:
			s.run(other, s.deed(other))
		}
		s.catchUp(m)
	}
	s.send(m, "DONE")
	if tagged := s.hear(m, "z1", "IDLE", true); !strings.HasPrefix(tagged, "z1 OK") {
		s.failf("%s: IDLE: %s", m.name, tagged)
	}
	s.claim(m)
	s.check(m, "IDLE")
}

// catchUp reads what an idling client is told, until it knows of every arrival, expunge
// and flag.
func (s *story) catchUp(m *modelClient) {
	for m.settle(s.box, true); m.knows(s.box) != nil; {
		line, ok := s.read(m)
		if !ok {
			s.failf("%s: IDLE: the connection ended", m.name)
		}
		if err := m.hear(line, true); err != nil {
			s.failf("%s: IDLE: %q: %v", m.name, line, err)
		}
	}
}

// rename gives the mailbox another name, under everybody who has it selected.
func (s *story) rename(m *modelClient) {
	s.turns++
	name := fmt.Sprint("box", s.turns)
	old := s.box.name
	s.run(m, &deed{command: "RENAME " + old + " " + name, expunge: true, effect: func() { s.box.name = name }})
}

// rebirth deletes the mailbox and makes another of its name: everybody else who has it
// selected is told BYE (RFC 2180, 3.3).
func (s *story) rebirth(m *modelClient) {
	s.leave(m)
	name := s.box.name
	s.send(m, "z1 DELETE "+name)
	s.hear(m, "z1", "DELETE", true)
	s.send(m, "z2 CREATE "+name)
	s.hear(m, "z2", "CREATE", true)
	for _, other := range s.clients {
		if other == m {
			continue
		}
		s.send(other, "z1 NOOP")
		line, _ := s.read(other)
		if _, more := s.read(other); !strings.HasPrefix(line, "* BYE ") || more {
			s.failf("%s, whose mailbox is deleted, was told %q", other.name, line)
		}
	}
	was := s.box
	s.begin(name)
	if s.box.validity <= was.validity {
		s.failf("UIDVALIDITY went from %d to %d", was.validity, s.box.validity)
	}
	for i, other := range s.clients {
		if other != m {
			s.clients[i] = s.join(other.name)
		}
	}
	s.open(m)
}

// begin takes up the model of the mailbox, which is empty.
func (s *story) begin(name string) {
	box := s.w.picture(name).Mailbox()
	s.box = &refBox{name: name, validity: uint32(box.UIDValidity), next: uint32(box.UIDNext), highest: uint64(box.HighestModSeq), ever: map[uint32]refMsg{}, contents: &s.contents}
	s.recent = map[uint32]string{}
}

// join makes a connection, in some mode, and opens the mailbox.
func (s *story) join(name string) *modelClient {
	fmt.Fprintln(&s.script, "login", name)
	m := newModelClient(name, s.w.login(name, ""))
	enable := func(word string) {
		s.send(m, "z1 ENABLE "+word)
		s.hear(m, "z1", "ENABLE", true)
	}
	switch s.rng.IntN(8) {
	case 0, 1:
		m.condstore = true
		enable("CONDSTORE")
	case 2, 3:
		m.condstore, m.qresync = true, true
		enable("QRESYNC")
	case 4:
		m.uidOnly = true
		enable("UIDONLY")
	case 5:
		m.uidOnly, m.condstore, m.qresync = true, true, true
		enable("UIDONLY QRESYNC")
	}
	if m.rev2 = s.rng.IntN(3) == 0; m.rev2 {
		enable("IMAP4rev2")
	}
	s.open(m)
	return m
}

// rejoin lets a client lose its connection and come back as another one.
func (s *story) rejoin(m *modelClient) {
	if s.rng.IntN(2) == 0 {
		s.send(m, "z1 LOGOUT")
		if line, _ := s.read(m); !strings.HasPrefix(line, "* BYE") {
			s.failf("%s: LOGOUT: %q", m.name, line)
		}
		s.hear(m, "z1", "LOGOUT", false)
	}
	s.clients[slices.Index(s.clients, m)] = s.join(m.name)
}

// leave closes the mailbox, with or without expunging what is deleted. Nothing is told
// of it (RFC 9051, 6.4.1).
func (s *story) leave(m *modelClient) {
	command := []string{"CLOSE", "UNSELECT"}[s.rng.IntN(2)]
	m.begin()
	s.send(m, "z1 "+command)
	line, ok := s.read(m)
	if !ok || !strings.HasPrefix(line, "z1 OK") {
		s.failf("%s: %s: %q", m.name, command, line)
	}
	if command == "CLOSE" && !m.readOnly {
		s.box.remove(s.box.uids(func(msg *refMsg) bool { return msg.has(`\Deleted`) }))
	}
	if err := s.box.check(s.w.picture(s.box.name)); err != nil {
		s.failf("%s, after %s: %v", m.name, command, err)
	}
}

// open selects the mailbox: a client of QRESYNC with what it knows, others as if for the
// first time. Then it reads all flags.
func (s *story) open(m *modelClient) {
	command, param := "SELECT", ""
	if m.readOnly = s.rng.IntN(8) == 0; m.readOnly {
		command = "EXAMINE"
	}
	known, resync := m.flag, m.qresync && m.synced == s.box.validity && m.upTo > 0
	if resync {
		param = fmt.Sprintf(" (QRESYNC (%d %d))", m.synced, m.upTo)
	}
	m.forget()
	if resync {
		m.flag = known
	}
	m.synced, m.upTo = s.box.validity, 0
	s.run(m, &deed{command: command + " " + s.box.name + param, fetches: true, effect: func() { m.settle(s.box, true) }, expunge: true})
	if resync {
		for uid, flags := range m.flag { // which knows() has held against the model
			if s.box.find(uid) == nil {
				s.failf("%s still has UID %d (%s), which is gone", m.name, uid, flags)
			}
		}
	}
	s.run(m, s.fetchAll(m))
}

// Two to ten sessions of one account change one mailbox in any order and come and go, in
// all the modes there are. A reference model foretells what each command does and what
// each client must be told; after each command the mailbox is as the model has it, and
// the client knows the truth but for expunges that it may not be told yet (RFC 9051,
// 7.5.1). A run that fails is kept as a transcript.
func TestSessionsAgree(t *testing.T) {
	for i := range uint64(*sessionRuns) {
		seed := *sessionSeed + i
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := &story{
				t: t, w: newWorld(t), rng: rand.New(rand.NewPCG(seed, 1)),
				file: filepath.Join(os.TempDir(), fmt.Sprintf("martlet-sessions-%d.txt", seed)),
			}
			if seed%2 == 1 {
				s.w = keepingWorld(t)
			}
			s.tell(250, seed%2 == 1)
		})
	}
}

// tell plays a story in which deleted mail is kept or not, to its end.
func (s *story) tell(steps int, keep bool) {
	if s.keep = keep; keep {
		s.script.WriteString("\nkeep\n")
	}
	s.play(2+s.rng.IntN(9), steps)
	if lost := s.lost(); keep && lost != 0 {
		s.failf("%d messages are neither in a mailbox nor kept", lost)
	} else if !keep && lost == 0 {
		s.failf("nothing was deleted, or it is kept all the same") // the control
	}
}

// A story that was written down is a transcript that passes.
func TestStoryIsTranscript(t *testing.T) {
	s := &story{t: t, w: newWorld(t), rng: rand.New(rand.NewPCG(7, 1)), exact: true, file: filepath.Join(t.TempDir(), "story.txt")}
	s.play(5, 300)
	if err := os.WriteFile(s.file, []byte(s.script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	newWorld(t).run(s.file)
}

func (s *story) play(clients, steps int) {
	s.w.change(func(tx *store.Tx) error { _, err := tx.CreateMailbox("box", ""); return err })
	fmt.Fprintln(&s.script, "mailbox box")
	s.begin("Archive")
	s.archive = s.box
	s.begin("box")
	for range 5 {
		s.deliver()
	}
	for i := range clients {
		s.clients = append(s.clients, s.join(string(rune('A'+i))))
	}
	for range steps {
		s.step(s.clients[s.rng.IntN(len(s.clients))])
	}
	for _, m := range s.clients {
		s.run(m, &deed{command: "NOOP", expunge: true})
		s.run(m, s.fetchAll(m))
		if len(m.fetched) != len(m.uids) {
			s.failf("%s fetched %d of %d messages", m.name, len(m.fetched), len(m.uids))
		}
		if !m.rev2 && m.recent != len(m.recents) {
			s.failf("%s was told RECENT %d and sees %d", m.name, m.recent, len(m.recents))
		}
	}
}

// lost returns how many of all messages there have been are neither in one of the mailboxes
// nor kept. Below zero: more are kept than were deleted.
func (s *story) lost() int {
	if err := s.w.alice.Reap(s.w.ctx); err != nil {
		s.failf("%v", err)
	}
	there := map[int]bool{}
	for _, b := range []*refBox{s.box, s.archive} {
		for i := range b.msgs {
			there[b.msgs[i].content] = true
		}
	}
	kept := 0
	err := s.w.alice.Deleted(s.w.ctx, store.DeletedQuery{}, func(store.Deleted) error { kept++; return nil })
	if err != nil {
		s.failf("%v", err)
	}
	if _, err := s.w.st.Verify(s.w.ctx, func(p store.Problem) { s.failf("%+v", p) }, nil); err != nil {
		s.failf("%v", err)
	}
	return s.contents - len(there) - kept
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
