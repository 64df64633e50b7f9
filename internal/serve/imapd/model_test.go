package imapd

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// modelClient is a client that believes what it is told, and nothing else: it counts
// messages by EXISTS and EXPUNGE and knows flags from FETCH and from what it stored
// silently. It complains where the server breaks a rule.
type modelClient struct {
	name string
	c    *client

	rev2      bool // has enabled IMAP4rev2
	condstore bool // has enabled CONDSTORE

	uids []uint32          // by sequence number; 0 is not known yet
	flag map[uint32]string // by UID, sorted, without \Recent
	mod  map[uint32]uint64 // the highest MODSEQ told, by UID
	live map[uint32]bool   // what there was after its last command

	fetched map[uint32]bool // UIDs that a FETCH line had, in this command
	recent  []uint32        // those that had \Recent, in this command
	answer  []string        // what SEARCH, ESEARCH and STATUS said in this command
}

var (
	told  = regexp.MustCompile(`^\* (\d+) (EXISTS|EXPUNGE|RECENT|FETCH)(?: \((.*)\))?$`)
	items = regexp.MustCompile(`^(?:UID (\d+) ?)?(?:MODSEQ \((\d+)\) ?)?(?:UID (\d+) ?)?(?:FLAGS \(([^)]*)\))?$`)
)

// hear takes in the untagged lines of a command.
func (m *modelClient) hear(lines []string, mayExpunge bool) error {
	m.fetched, m.recent, m.answer = map[uint32]bool{}, nil, nil
	for _, line := range lines {
		t := told.FindStringSubmatch(line)
		if t == nil {
			if word := strings.Fields(line)[1]; word == "SEARCH" || word == "ESEARCH" || word == "STATUS" {
				m.answer = append(m.answer, line)
			}
			continue
		}
		n, _ := strconv.Atoi(t[1])
		if err := m.take(n, t[2], t[3], mayExpunge); err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
	}
	return nil
}

func (m *modelClient) take(n int, word, rest string, mayExpunge bool) error {
	switch word {
	case "EXISTS":
		if n < len(m.uids) {
			return fmt.Errorf("there were %d", len(m.uids))
		}
		m.uids = append(m.uids, make([]uint32, n-len(m.uids))...)
	case "EXPUNGE":
		if !mayExpunge || n < 1 || n > len(m.uids) {
			return fmt.Errorf("not allowed here, there are %d", len(m.uids))
		}
		m.uids = slices.Delete(m.uids, n-1, n)
	case "RECENT":
		if m.rev2 || n > len(m.uids) {
			return fmt.Errorf("not to this client, or more than the %d there are", len(m.uids))
		}
	case "FETCH":
		return m.fetch(n, rest)
	}
	return nil
}

func (m *modelClient) fetch(n int, what string) error {
	f := items.FindStringSubmatch(what)
	if f == nil {
		return fmt.Errorf("not understood")
	}
	if n < 1 || n > len(m.uids) {
		return fmt.Errorf("there are %d messages", len(m.uids))
	}
	if id := f[1] + f[3]; id != "" {
		uid := uint32(number(id))
		if known := m.uids[n-1]; known != 0 && known != uid {
			return fmt.Errorf("number %d is UID %d", n, known)
		}
		m.uids[n-1] = uid
	} else if m.rev2 { // RFC 9051, 7.5.2; all that this client asks for has the UID
		return fmt.Errorf("no UID")
	}
	uid := m.uids[n-1]
	m.fetched[uid] = true
	if f[2] != "" {
		mod := number(f[2])
		if mod < m.mod[uid] {
			return fmt.Errorf("its MODSEQ was %d", m.mod[uid])
		}
		m.mod[uid] = mod
	}
	if uid != 0 && strings.Contains(what, "FLAGS (") {
		m.flag[uid] = sorted(f[4])
		if strings.Contains(f[4], `\Recent`) {
			m.recent = append(m.recent, uid)
		}
	}
	return nil
}

func sorted(flags string) string {
	words := slices.DeleteFunc(strings.Fields(flags), func(w string) bool { return w == `\Recent` })
	slices.Sort(words)
	return strings.Join(words, " ")
}

var modelFlags = []string{`\Seen`, `\Flagged`, `\Deleted`, "label", "$Two"}

// stored notes what a silent STORE that was carried out made of the flags of messages.
func (m *modelClient) stored(uids []uint32, op, flag string) {
	for _, uid := range uids {
		if _, known := m.flag[uid]; known {
			m.flag[uid] = applied(m.flag[uid], op, flag)
		}
	}
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

// knows checks what the client knows after a command against what is there. An expunge
// it may not have been told of; everything else it must have.
func (m *modelClient) knows(pic *store.Picture, mayExpunge bool) error {
	if n := len(m.uids); n < pic.Len() || mayExpunge && n > pic.Len() {
		return fmt.Errorf("it counts %d messages, there are %d", n, pic.Len())
	}
	m.live = map[uint32]bool{}
	gone, last := 0, uint32(0)
	for i, uid := range m.uids {
		if uid == 0 {
			continue
		}
		if uid <= last {
			return fmt.Errorf("number %d is UID %d, the one before it is %d", i+1, uid, last)
		}
		last = uid
		msg, there := pic.Message(mail.UID(uid))
		if !there {
			gone++
			continue
		}
		m.live[uid] = true
		if seq, _ := pic.Seq(msg.UID); mayExpunge && seq != i+1 {
			return fmt.Errorf("UID %d has number %d, it takes it for %d", uid, seq, i+1)
		}
		want := sorted(string(pic.AppendFlags(nil, msg)))
		if got, known := m.flag[uid]; known && got != want {
			return fmt.Errorf("it thinks that UID %d has (%s), it has (%s)", uid, got, want)
		}
		if known := m.mod[uid]; m.condstore && known > uint64(msg.ModSeq) {
			return fmt.Errorf("it was told MODSEQ %d of UID %d, which has %d", known, uid, msg.ModSeq)
		}
	}
	if holes := len(m.uids) - pic.Len(); gone > holes {
		return fmt.Errorf("%d of its messages are gone, and it counts only %d too many", gone, holes)
	}
	return nil
}

// finds returns the numbers that SEARCH with a test on flags must give: of what the
// client knew before; ok is false if it did not know everything.
func (m *modelClient) finds(test func(flags string) bool) (nums []string, ok bool) {
	for i, uid := range m.uids {
		flags, known := m.flag[uid]
		if uid == 0 || !known {
			return nil, false
		}
		if m.live[uid] && test(flags) {
			nums = append(nums, strconv.Itoa(i+1))
		}
	}
	return nums, true
}
