package imapd

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// modelClient is a client that believes what it is told, and nothing else: it counts
// messages by EXISTS, EXPUNGE and VANISHED and knows flags from FETCH and from what it
// stored silently. It complains where the server breaks a rule.
type modelClient struct {
	name string
	c    *client

	rev2      bool // has enabled IMAP4rev2
	condstore bool // has enabled CONDSTORE, or what brings it
	qresync   bool // is told of expunges by VANISHED
	uidOnly   bool // knows no numbers
	readOnly  bool // has examined the mailbox

	uids   []uint32          // by sequence number; 0 is not known yet
	flag   map[uint32]string // by UID, sorted, without \Recent
	mod    map[uint32]uint64 // the highest MODSEQ told, by UID
	recent int               // what RECENT said, -1 if it did not

	// What is true, beside what it believes:
	real  []uint32          // the UIDs of what it counts, gone ones among them
	was   map[uint32]string // the flags when it was last told of everything, of what was there then
	saved []uint32          // what $ stands for

	synced uint32 // the UIDVALIDITY of what it would come back with by QRESYNC
	upTo   uint64 // up to which modseq it is in step (RFC 7162, 6)

	// In this command:
	fetched map[uint32]string // FETCH lines by UID, the last of each
	recents []uint32          // UIDs whose flags had \Recent
	answer  []string          // what SEARCH, ESEARCH, SORT, THREAD, STATUS and LIST said
	highest uint64            // HIGHESTMODSEQ told, 0 if none
	copied  []string          // the UID sets of COPYUID
	unmod   bool              // a FETCH line had no MODSEQ
	most    uint64            // the highest MODSEQ in FETCH lines
}

func newModelClient(name string, c *client) *modelClient {
	m := &modelClient{name: name, c: c}
	m.forget()
	return m
}

// forget is what a client does that opens the mailbox as if for the first time.
func (m *modelClient) forget() {
	m.uids, m.real, m.saved, m.recent = nil, nil, nil, -1
	m.flag, m.mod, m.was = map[uint32]string{}, map[uint32]uint64{}, map[uint32]string{}
}

var (
	told     = regexp.MustCompile(`^\* (\d+) (EXISTS|EXPUNGE|RECENT|FETCH|UIDFETCH)(?: \((.*)\))?$`)
	copyCode = regexp.MustCompile(`\[(?:COPYUID \d+ ([\d:,]+) ([\d:,]+))\]`)
	sizeItem = regexp.MustCompile(`\bRFC822\.SIZE (\d+)`)
	allItems = regexp.MustCompile(`^(?:(?:UID \d+|MODSEQ \(\d+\)|FLAGS \([^)]*\)|RFC822\.SIZE \d+)(?: |$))+$`)
)

// begin forgets what the last command was told.
func (m *modelClient) begin() {
	m.fetched, m.recents, m.answer, m.highest = map[uint32]string{}, nil, nil, 0
	m.copied, m.unmod, m.most = nil, false, 0
}

// codes takes in the response codes of a line.
func (m *modelClient) codes(line string) {
	if h := highestCode.FindStringSubmatch(line); h != nil {
		m.highest = number(h[1])
	}
	if c := copyCode.FindStringSubmatch(line); c != nil {
		m.copied = c[1:]
	}
}

// hearTagged takes in the answer to a command, and tells whether the line is it.
func (m *modelClient) hearTagged(line, tag string) bool {
	if !strings.HasPrefix(line, tag+" ") {
		return false
	}
	m.codes(line)
	switch { // RFC 7162, 6
	case m.highest > 0:
		m.upTo = m.highest
	case m.most > m.upTo:
		m.upTo = m.most
	}
	return true
}

// hear takes in one line.
func (m *modelClient) hear(line string, mayExpunge bool) error {
	m.codes(line)
	if v := vanishedLine.FindStringSubmatch(line); v != nil {
		return m.vanished(v[2], v[1] != "", mayExpunge)
	}
	t := told.FindStringSubmatch(line)
	if t == nil {
		switch word := strings.Fields(line)[1]; word {
		case "SEARCH", "ESEARCH", "SORT", "THREAD", "STATUS", "LIST":
			m.answer = append(m.answer, line)
		case "BYE", "NO", "BAD":
			return fmt.Errorf("not expected")
		}
		return nil
	}
	n, _ := strconv.Atoi(t[1])
	switch word := t[2]; word {
	case "EXISTS":
		if n < len(m.uids) {
			return fmt.Errorf("there were %d", len(m.uids))
		}
		m.uids = append(m.uids, make([]uint32, n-len(m.uids))...)
	case "EXPUNGE":
		if !mayExpunge || m.qresync || m.uidOnly || n < 1 || n > len(m.uids) {
			return fmt.Errorf("not allowed here, there are %d", len(m.uids))
		}
		m.uids = slices.Delete(m.uids, n-1, n)
	case "RECENT":
		if m.rev2 || n > len(m.uids) {
			return fmt.Errorf("not to this client, or more than the %d there are", len(m.uids))
		}
		m.recent = n
	default:
		if m.uidOnly != (word == "UIDFETCH") {
			return fmt.Errorf("not the word for this client")
		}
		return m.fetch(n, t[3])
	}
	return nil
}

// vanished takes expunged UIDs out of what the client counts. One whose UID it does not
// know is one of the unknown ones before the next higher UID that it knows.
func (m *modelClient) vanished(set string, earlier, may bool) error {
	if !m.qresync && !m.uidOnly || !earlier && !may {
		return fmt.Errorf("not to this client, or not during this command")
	}
	for _, uid := range parseSet(set) {
		delete(m.flag, uid)
		delete(m.mod, uid)
		i := slices.Index(m.uids, uid)
		if earlier {
			if i >= 0 {
				return fmt.Errorf("EARLIER names UID %d, which is number %d", uid, i+1)
			}
			continue
		}
		switch {
		case i >= 0:
		case m.uidOnly: // without numbers, which of them is unknown does not matter
			i = slices.Index(m.uids, 0)
		default:
			i = slices.IndexFunc(m.uids, func(known uint32) bool { return known > uid }) - 1
			if i < -1 {
				i = len(m.uids) - 1
			}
			if i >= 0 && m.uids[i] != 0 {
				i = -1
			}
		}
		if i < 0 {
			return fmt.Errorf("UID %d is not in the view", uid)
		}
		m.uids = slices.Delete(m.uids, i, i+1)
	}
	return nil
}

// parseSet returns the numbers of a set without a star.
func parseSet(set string) (out []uint32) {
	for r := range strings.SplitSeq(set, ",") {
		from, to, two := strings.Cut(r, ":")
		if !two {
			to = from
		}
		for n := number(from); n <= number(to); n++ {
			out = append(out, uint32(n))
		}
	}
	return out
}

func (m *modelClient) fetch(n int, what string) error {
	if !allItems.MatchString(what) {
		return fmt.Errorf("not understood")
	}
	m.unmod = m.unmod || !strings.Contains(what, "MODSEQ (")
	uid := uint32(n)
	if m.uidOnly {
		if i := slices.Index(m.uids, 0); !slices.Contains(m.uids, uid) && i >= 0 {
			m.uids[i] = uid
		} else if i < 0 && !slices.Contains(m.uids, uid) {
			return fmt.Errorf("it counts no such message")
		}
	} else {
		if n < 1 || n > len(m.uids) {
			return fmt.Errorf("there are %d messages", len(m.uids))
		}
		if id := uidItem.FindStringSubmatch(what); id != nil {
			uid = uint32(number(id[1]))
			if known := m.uids[n-1]; known != 0 && known != uid {
				return fmt.Errorf("number %d is UID %d", n, known)
			}
			m.uids[n-1] = uid
		} else if uid = m.uids[n-1]; m.rev2 || m.qresync { // RFC 9051, 7.5.2; RFC 7162, 3.2.4
			return fmt.Errorf("no UID")
		}
	}
	if uid == 0 {
		return nil
	}
	m.fetched[uid] = what
	if mod := modItem.FindStringSubmatch(what); mod != nil {
		if number(mod[1]) < m.mod[uid] {
			return fmt.Errorf("its MODSEQ was %d", m.mod[uid])
		}
		m.mod[uid] = number(mod[1])
		m.most = max(m.most, m.mod[uid])
	}
	if f := flagsItem.FindStringSubmatch(what); f != nil {
		m.flag[uid] = sorted(f[1])
		if strings.Contains(f[1], `\Recent`) {
			m.recents = append(m.recents, uid)
		}
	}
	return nil
}

// stored notes what a silent STORE that was carried out made of the flags of messages.
func (m *modelClient) stored(uids []uint32, op, flag string) {
	for _, uid := range uids {
		if _, known := m.flag[uid]; known {
			m.flag[uid] = applied(m.flag[uid], op, flag)
		}
	}
}

// settle works out what the client must count after a command: everything there is, and
// if it may not be told of expunges, what it counted before as well.
func (m *modelClient) settle(b *refBox, mayExpunge bool) {
	now := b.uids(nil)
	if !mayExpunge {
		last := uint32(0)
		if n := len(m.real); n > 0 {
			last = m.real[n-1]
		}
		now = append(slices.Clone(m.real), slices.DeleteFunc(now, func(uid uint32) bool { return uid <= last })...)
	}
	m.real, m.was = now, map[uint32]string{}
	for _, uid := range now {
		if msg := b.find(uid); msg != nil {
			m.was[uid] = msg.flags
		}
	}
}

// gone tells whether the client still counts what is not there.
func (m *modelClient) gone() bool { return len(m.was) < len(m.real) }

// knows checks what the client believes after a command against what is true.
func (m *modelClient) knows(b *refBox) error {
	if len(m.uids) != len(m.real) {
		return fmt.Errorf("it counts %d messages, should count %d", len(m.uids), len(m.real))
	}
	for i, uid := range m.uids {
		if uid != 0 && uid != m.real[i] && !m.uidOnly {
			return fmt.Errorf("it takes number %d for UID %d, which is %d", i+1, uid, m.real[i])
		}
		if uid != 0 && m.uidOnly && !slices.Contains(m.real, uid) {
			return fmt.Errorf("it counts UID %d, which is not there", uid)
		}
	}
	for uid, flags := range m.flag {
		msg := b.find(uid)
		if msg != nil && flags != msg.flags {
			return fmt.Errorf("it thinks that UID %d has (%s), it has (%s)", uid, flags, msg.flags)
		}
		if msg != nil && m.condstore && m.mod[uid] > msg.mod {
			return fmt.Errorf("it was told MODSEQ %d of UID %d, which has %d", m.mod[uid], uid, msg.mod)
		}
	}
	for uid, what := range m.fetched {
		if s, msg := sizeItem.FindStringSubmatch(what), b.find(uid); s != nil && msg != nil && s[1] != strconv.Itoa(msg.size) {
			return fmt.Errorf("UID %d has %d bytes, not %s", uid, msg.size, s[1])
		}
	}
	if m.highest > b.highest {
		return fmt.Errorf("HIGHESTMODSEQ %d was told, it is %d", m.highest, b.highest)
	}
	return nil
}

// numbers returns the sequence numbers of UIDs, or the UIDs themselves.
func (m *modelClient) numbers(uids []uint32, byUID bool) []uint32 {
	if byUID {
		return uids
	}
	out := make([]uint32, len(uids))
	for i, uid := range uids {
		out[i] = uint32(slices.Index(m.real, uid) + 1)
	}
	return out
}

// finds returns what a search by flags must give: of what the client was last told.
func (m *modelClient) finds(test func(flags string) bool) (out []uint32) {
	for _, uid := range m.real {
		if flags, there := m.was[uid]; there && test(flags) {
			out = append(out, uid)
		}
	}
	return out
}
