package imapd

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// boxClient is a client that knows mailboxes by what NOTIFY told it.
type boxClient struct {
	t        *testing.T
	w        *world
	a, other *client                      // other asks for the truth
	status   map[string]map[string]string // by name, of those it knows
	subs     map[string]bool
	selected string
}

var (
	statusLine = regexp.MustCompile(`^\* STATUS "?([^"(]*?)"? \((.*)\)$`)
	listLine   = regexp.MustCompile(`^\* LIST \(([^)]*)\) "/" (\S+)(?: \("OLDNAME" \((\S+)\)\))?$`)
)

func (m *boxClient) hear(lines []string) {
	m.t.Helper()
	for _, line := range lines {
		if s := statusLine.FindStringSubmatch(line); s != nil {
			m.learn(s[1], s[2])
		}
		if l := listLine.FindStringSubmatch(line); l != nil {
			m.listed(l[1], l[2], l[3])
		}
		if strings.Contains(line, "NOTIFICATIONOVERFLOW") {
			m.t.Fatal(line)
		}
	}
}

func (m *boxClient) learn(name, items string) {
	if m.status[name] == nil {
		m.status[name] = map[string]string{}
	}
	words := strings.Fields(items)
	for i := 0; i+1 < len(words); i += 2 {
		m.status[name][words[i]] = words[i+1]
	}
}

func (m *boxClient) listed(attrs, name, old string) {
	delete(m.subs, name)
	if strings.Contains(attrs, `\Subscribed`) {
		m.subs[name] = true
	}
	if old != "" { // and all that is below it
		for known, status := range m.status {
			if known == old || strings.HasPrefix(known, old+"/") {
				delete(m.status, known)
				m.status[name+known[len(old):]] = status
			}
		}
	}
	switch {
	case strings.Contains(attrs, `\NonExistent`):
		delete(m.status, name)
	case m.status[name] == nil:
		m.ask(name)
	}
}

const allStatus = "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)"

// ask asks how a mailbox is, as a client does that has just heard of it.
func (m *boxClient) ask(name string) {
	m.t.Helper()
	lines, _ := m.other.command(m.t, "STATUS "+name+" "+allStatus)
	for _, line := range lines {
		if s := statusLine.FindStringSubmatch(line); s != nil {
			m.learn(s[1], s[2])
		}
	}
}

// check compares what the client knows with what there is. The selected mailbox is told
// of otherwise.
func (m *boxClient) check() {
	m.t.Helper()
	truth := boxClient{t: m.t, other: m.other, status: map[string]map[string]string{}, subs: map[string]bool{}}
	lines, _ := m.other.command(m.t, `LIST (SUBSCRIBED) "" * RETURN (SUBSCRIBED)`)
	for _, line := range lines {
		if l := listLine.FindStringSubmatch(line); l != nil && strings.Contains(l[1], `\Subscribed`) {
			truth.subs[l[2]] = true
		}
	}
	lines, _ = m.other.command(m.t, `LIST "" * RETURN (STATUS `+allStatus+`)`)
	for _, line := range lines {
		if s := statusLine.FindStringSubmatch(line); s != nil {
			truth.learn(s[1], s[2])
		}
	}
	known := m.status
	if m.selected != "" {
		known = make(map[string]map[string]string)
		for name, s := range m.status {
			known[name] = s
		}
		known[m.selected] = truth.status[m.selected]
	}
	if got, want := fmt.Sprint(known), fmt.Sprint(truth.status); got != want {
		m.t.Fatalf("the client knows %s\nand it is %s", got, want)
	}
	if got, want := fmt.Sprint(m.subs), fmt.Sprint(truth.subs); got != want {
		m.t.Fatalf("the client knows the subscriptions %s\nand they are %s", got, want)
	}
}

// A client that has asked for all news of all mailboxes knows at any time what a new LIST
// and STATUS say, whatever others do.
func TestNotifyTellsTheTruth(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 6))
			w := newWorld(t)
			m := &boxClient{t: t, w: w, a: w.login("A", ""), other: w.login("B", ""), status: map[string]map[string]string{}, subs: map[string]bool{}}
			m.a.command(t, "ENABLE CONDSTORE")
			filters := []string{"", "(selected (MessageNew (UID) MessageExpunge FlagChange)) ", "(selected-delayed (MessageNew MessageExpunge)) "}
			filter := filters[rng.IntN(len(filters))]
			if _, tagged := m.a.command(t, "NOTIFY SET "+filter+"(personal (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange))"); tagged != "zz OK NOTIFY done" {
				t.Fatal(tagged)
			}
			lines, _ := m.other.command(t, `LIST "" * RETURN (SUBSCRIBED STATUS `+allStatus+`)`)
			m.hear(lines)
			for range 60 {
				for range 1 + rng.IntN(4) {
					m.disturb(rng)
				}
				switch rng.IntN(8) {
				case 0:
					m.selectOne(rng, filter)
				case 1:
					lines, _ := m.a.command(t, "IDLE\r\nDONE")
					m.hear(lines)
				}
				lines, _ := m.a.command(t, "NOOP")
				m.hear(lines)
				m.check()
			}
		})
	}
}

// selectOne selects another mailbox, or none. What was told of the one that is left while
// it was selected the client takes from elsewhere; what was not told it hears of.
func (m *boxClient) selectOne(rng *rand.Rand, filter string) {
	left := m.selected
	if left != "" && rng.IntN(2) == 0 {
		lines, _ := m.a.command(m.t, "UNSELECT")
		m.selected = ""
		m.hear(lines)
	} else {
		name := m.some(rng)
		lines, tagged := m.a.command(m.t, "SELECT "+name)
		if !strings.HasPrefix(tagged, "zz OK") {
			m.t.Fatal(name, tagged)
		}
		m.selected = name
		m.ask(name)
		m.hear(lines)
	}
	if left != "" && filter != "" && left != m.selected {
		m.ask(left)
	}
}

func (m *boxClient) some(rng *rand.Rand) string {
	var names []string
	for name := range m.status {
		names = append(names, name)
	}
	slices.Sort(names)
	return names[rng.IntN(len(names))]
}

// disturb lets somebody else do something.
func (m *boxClient) disturb(rng *rand.Rand) {
	name := func() string {
		parts := []string{"a", "b", "c", "a/x", "a/y", "b/x/y", "INBOX/z"}
		return parts[rng.IntN(len(parts))]
	}
	p, err := m.w.st.Receive(m.w.ctx, strings.NewReader("Subject: x\r\n\r\n"))
	if err != nil {
		m.t.Fatal(err)
	}
	_ = m.w.alice.Update(m.w.ctx, func(tx *store.Tx) error { // what cannot be is not done
		boxes, err := tx.Mailboxes()
		if err != nil {
			return err
		}
		box := boxes[rng.IntN(len(boxes))]
		set := mail.UIDSet{{From: mail.UID(1 + rng.IntN(4)), To: mail.UID(4 + rng.IntN(4))}}
		switch rng.IntN(10) {
		case 0:
			_, err = tx.CreateMailbox(name(), "")
		case 1:
			if box.Name == m.selected || box.Role != "" { // it would end the session
				return nil
			}
			err = tx.DeleteMailbox(box.Name)
		case 2:
			if m.selected != "" && m.selected != "INBOX" { // the client would have to follow it
				return nil
			}
			err = tx.RenameMailbox(name(), name())
		case 3:
			err = tx.Subscribe([]string{name(), box.Name}[rng.IntN(2)], rng.IntN(3) > 0)
		case 4, 5:
			change := store.FlagChange{Op: []store.FlagOp{store.AddFlags, store.RemoveFlags}[rng.IntN(2)], Flags: mail.Seen}
			_, err = tx.SetFlags(box.ID, set, change)
		case 6:
			_, err = tx.Expunge(box.ID, set, false)
		default:
			_, err = tx.Append(box.ID, store.NewMessage{Parcel: p})
		}
		return err
	})
}

// NOTIFY of everything with 10,000 mailboxes takes bounded memory, and what happens in
// one of them costs a look at that one. Too much at once ends it, and is said.
func TestNotifyEverything(t *testing.T) {
	w := newWorldOn(t, 16<<20)
	const n = 10_000
	for from := 0; from < n; from += 1000 {
		w.change(func(tx *store.Tx) error {
			for i := from; i < from+1000; i++ {
				if _, err := tx.CreateMailbox(fmt.Sprintf("box %05d", i), ""); err != nil {
					return err
				}
			}
			return nil
		})
	}
	a := w.login("A", "")
	const everything = "(MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange)"
	lines, tagged := a.command(t, "NOTIFY SET STATUS (personal "+everything+") (subscribed "+everything+")")
	if len(lines) < n || tagged != "zz OK NOTIFY done" {
		t.Fatalf("%d lines, %s", len(lines), tagged)
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	lines = nil
	for _, box := range []string{"00000", "05000", "09999"} {
		w.deliver("box "+box, message("y"), 0)
		if line, _ := a.read(t); !strings.HasPrefix(line, `* STATUS "box `+box+`" (MESSAGES 1 `) {
			t.Fatal(line)
		}
	}
	// As many clients want it all as may: each costs the names and no more.
	before := heap()
	const clients = 4
	for i := range clients {
		c := w.login(string(rune('B'+i)), "")
		if _, tagged := c.command(t, "NOTIFY SET (personal "+everything+")"); tagged != "zz OK NOTIFY done" {
			t.Fatal(tagged)
		}
	}
	if grown := (heap() - before) / clients; grown > 3<<20 {
		t.Errorf("a client that watches %d mailboxes costs %d bytes", n, grown)
	}
	// A storm: more in one moment than the session remembers.
	w.change(func(tx *store.Tx) error {
		for i := range 5000 {
			if _, err := tx.CreateMailbox(fmt.Sprintf("new %05d", i), ""); err != nil {
				return err
			}
		}
		return nil
	})
	if line, _ := a.read(t); !strings.HasPrefix(line, "* OK [NOTIFICATIONOVERFLOW]") {
		t.Fatal(line)
	}
	w.deliver("box 00001", message("z"), 0)
	if lines, tagged := a.command(t, "NOOP"); len(lines) != 0 || tagged != "zz OK NOOP done" {
		t.Fatal(lines, tagged)
	}
	// It can be asked for again.
	a.command(t, "NOTIFY SET (personal "+everything+")")
	w.deliver("box 00001", message("z"), 0)
	if line, _ := a.read(t); !strings.HasPrefix(line, `* STATUS "box 00001" (MESSAGES 2 `) {
		t.Fatal(line)
	}
}

// Sessions that have ended are not woken any more.
func TestNotifyEnds(t *testing.T) {
	w := newWorld(t)
	for _, end := range []string{"LOGOUT", "UNAUTHENTICATE", "NOTIFY NONE"} {
		c := w.login("A", "")
		c.command(t, "NOTIFY SET (personal (MessageNew MessageExpunge))")
		c.command(t, end)
		if end == "LOGOUT" {
			for ok := true; ok; {
				_, ok = c.read(t)
			}
		}
		if n := w.alice.Followers(); n != 0 {
			t.Errorf("after %s %d sessions follow the account", end, n)
		}
	}
}
