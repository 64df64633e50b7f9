package imapd

import (
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

// modelClient is a client that believes what it is told, and nothing else: it counts
// messages by EXISTS and EXPUNGE and knows flags from FETCH and from what it stored
// silently. It complains where the server breaks a rule.
type modelClient struct {
	name string
	c    *client
	uids []uint32          // by sequence number; 0 is not known yet
	flag map[uint32]string // by UID, sorted, without \Recent
}

var (
	told    = regexp.MustCompile(`^\* (\d+) (EXISTS|EXPUNGE|RECENT|FETCH)(?: \((.*)\))?$`)
	fetched = regexp.MustCompile(`^(?:UID (\d+) ?)?(?:MODSEQ \(\d+\) ?)?(?:FLAGS \(([^)]*)\))?$`)
)

// hear takes in the untagged lines of a command.
func (m *modelClient) hear(lines []string, mayExpunge bool) error {
	for _, line := range lines {
		t := told.FindStringSubmatch(line)
		if t == nil {
			continue
		}
		n, _ := strconv.Atoi(t[1])
		switch t[2] {
		case "EXISTS":
			if n < len(m.uids) {
				return fmt.Errorf("EXISTS fell from %d to %d", len(m.uids), n)
			}
			m.uids = append(m.uids, make([]uint32, n-len(m.uids))...)
		case "EXPUNGE":
			if !mayExpunge || n < 1 || n > len(m.uids) {
				return fmt.Errorf("%q is not allowed here, there are %d", line, len(m.uids))
			}
			m.uids = slices.Delete(m.uids, n-1, n)
		case "FETCH":
			if err := m.fetched(n, t[3]); err != nil {
				return fmt.Errorf("%q: %w", line, err)
			}
		}
	}
	return nil
}

func (m *modelClient) fetched(n int, what string) error {
	f := fetched.FindStringSubmatch(what)
	if f == nil {
		return fmt.Errorf("not understood")
	}
	if n < 1 || n > len(m.uids) {
		return fmt.Errorf("there are %d messages", len(m.uids))
	}
	if f[1] != "" {
		uid, _ := strconv.ParseUint(f[1], 10, 32)
		if known := m.uids[n-1]; known != 0 && known != uint32(uid) {
			return fmt.Errorf("number %d is UID %d", n, known)
		}
		m.uids[n-1] = uint32(uid)
	}
	if strings.Contains(what, "FLAGS (") {
		m.flag[m.uids[n-1]] = sorted(f[2])
	}
	return nil
}

func sorted(flags string) string {
	words := slices.DeleteFunc(strings.Fields(flags), func(w string) bool { return w == `\Recent` })
	slices.Sort(words)
	return strings.Join(words, " ")
}

// do sends a command and takes in what is told.
func (m *modelClient) do(t *testing.T, command string, mayExpunge bool) string {
	t.Helper()
	lines, tagged := m.c.command(t, command)
	if err := m.hear(lines, mayExpunge); err != nil {
		t.Fatalf("%s: %s: %v", m.name, command, err)
	}
	if strings.HasPrefix(tagged, "zz BAD") {
		t.Fatalf("%s: %s: %s", m.name, command, tagged)
	}
	return tagged
}

var modelFlags = []string{`\Seen`, `\Flagged`, `\Deleted`, "label", "$Two"}

// storeSome changes flags of some messages, by number or UID, silently or not.
func (m *modelClient) storeSome(t *testing.T, rng *rand.Rand) {
	if len(m.uids) == 0 {
		return
	}
	a, b := 1+rng.IntN(len(m.uids)), 1+rng.IntN(len(m.uids))
	a, b = min(a, b), max(a, b)
	op, flag := []string{"", "+", "-"}[rng.IntN(3)], modelFlags[rng.IntN(len(modelFlags))]
	silent := rng.IntN(2) == 0
	command, set, may := "STORE", fmt.Sprintf("%d:%d", a, b), false
	if uid := m.uids[a-1]; uid != 0 && rng.IntN(2) == 0 {
		command, set, may, b = "UID STORE", fmt.Sprint(uid), true, a
	}
	suffix := ""
	touched := slices.Clone(m.uids[a-1 : b])
	if silent {
		suffix = ".SILENT"
		for _, uid := range touched {
			if _, known := m.flag[uid]; known {
				m.flag[uid] = applied(m.flag[uid], op, flag)
			}
		}
	}
	m.do(t, fmt.Sprintf("%s %s %sFLAGS%s (%s)", command, set, op, suffix, flag), may)
}

func applied(flags, op, flag string) string {
	words := slices.DeleteFunc(strings.Fields(flags), func(w string) bool { return w == flag })
	switch op {
	case "":
		words = []string{flag}
	case "+":
		words = append(words, flag)
	}
	return sorted(strings.Join(words, " "))
}

// step does one thing at random.
func (m *modelClient) step(t *testing.T, w *world, rng *rand.Rand) {
	one := "1"
	if len(m.uids) > 0 {
		one = fmt.Sprint(1 + rng.IntN(len(m.uids)))
	}
	switch n := rng.IntN(100); {
	case n < 15:
		w.deliver("INBOX", message(fmt.Sprint("m", rng.IntN(1000))), 0)
	case n < 50:
		m.storeSome(t, rng)
	case n < 60:
		m.do(t, "FETCH 1:* (UID FLAGS)", false)
	case n < 65:
		m.do(t, "UID FETCH 1:* (UID FLAGS)", true)
	case n < 70:
		m.do(t, "SEARCH DELETED", false)
	case n < 80:
		m.do(t, "NOOP", true)
	case n < 88:
		m.do(t, "EXPUNGE", true)
	case n < 94 && len(m.uids) > 0:
		m.do(t, "MOVE "+one+" Archive", true)
	case len(m.uids) > 0:
		m.do(t, "COPY "+one+" INBOX", true)
	}
}

// agree checks that after a NOOP the client knows the truth.
func (m *modelClient) agree(t *testing.T, pic *store.Picture) {
	t.Helper()
	m.do(t, "NOOP", true)
	if len(m.uids) != pic.Len() {
		t.Fatalf("%s counts %d messages, there are %d", m.name, len(m.uids), pic.Len())
	}
	for seq, msg := range pic.Messages(store.All()) {
		uid := m.uids[seq-1]
		if uid != 0 && uid != uint32(msg.UID) {
			t.Fatalf("%s takes number %d for UID %d, it is %d", m.name, seq, uid, msg.UID)
		}
		want := sorted(string(pic.AppendFlags(nil, msg)))
		if got, known := m.flag[uid]; known && uid != 0 && got != want {
			t.Fatalf("%s thinks that UID %d has (%s), it has (%s)", m.name, uid, got, want)
		}
	}
}

// Three sessions of one account change one mailbox in any order; each of them is told
// a story that holds together and ends in the truth (RFC 9051, 7.5.1).
func TestSessionsAgree(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t)
			for i := range 5 {
				w.deliver("INBOX", message(fmt.Sprint(i)), 0)
			}
			var clients []*modelClient
			for _, name := range []string{"A", "B", "C"} {
				m := &modelClient{name: name, c: w.login(name, ""), flag: map[uint32]string{}}
				if name == "C" {
					m.do(t, "ENABLE CONDSTORE", true)
				}
				m.do(t, "SELECT INBOX", true)
				m.do(t, "FETCH 1:* (UID FLAGS)", false)
				clients = append(clients, m)
			}
			for range 250 {
				clients[rng.IntN(len(clients))].step(t, w, rng)
			}
			for _, m := range clients {
				m.agree(t, w.picture("INBOX"))
			}
		})
	}
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
