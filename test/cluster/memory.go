package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// fact is what a session was told of a message.
type fact struct {
	flags  string // sorted
	modseq uint64
	token  string
}

// memory is a mailbox as one session was told of it. It knows what a server may say; what
// cannot be true is noted in wrong.
type memory struct {
	seq      []uint32 // UIDs by sequence number; 0: not told yet
	facts    map[uint32]fact
	gone     map[uint32]bool // told to be expunged
	validity uint32
	highest  uint64         // HIGHESTMODSEQ as told
	modseq   uint64         // up to which all is known
	next     uint32         // UIDNEXT as told
	placed   map[int]uint32 // during SELECT: UIDs by the numbers that were told with them

	resync bool // QRESYNC is on: VANISHED in place of EXPUNGE
	bodies map[uint32]string
	wrong  []string
}

func newMemory(resync bool) *memory {
	return &memory{facts: map[uint32]fact{}, gone: map[uint32]bool{}, resync: resync, bodies: map[uint32]string{}}
}

func (m *memory) untrue(format string, args ...any) {
	m.wrong = append(m.wrong, fmt.Sprintf(format, args...))
}

// selecting begins a SELECT: numbers are told anew, the rest is remembered if it was asked
// for by QRESYNC.
func (m *memory) selecting(resync bool) {
	m.seq, m.placed = nil, map[int]uint32{}
	if !resync {
		clear(m.facts)
	}
}

// selected ends it: after a QRESYNC the numbers are those of what is remembered and was not
// told to be gone, and of what is new.
func (m *memory) selected(resync bool) {
	if !resync {
		return
	}
	if len(m.facts) != len(m.seq) {
		m.untrue("SELECT tells of %d messages, and the changes it tells make %d", len(m.seq), len(m.facts))
		return
	}
	m.seq = slices.Sorted(maps.Keys(m.facts))
	for n, uid := range m.placed {
		if m.seq[n-1] != uid {
			m.untrue("SELECT tells of UID %d with number %d, which is that of UID %d", uid, n, m.seq[n-1])
		}
	}
}

// settled notes that all was asked for that had been told to be there.
func (m *memory) settled() {
	if m.unknown() == 0 {
		m.modseq = m.highest
	}
}

// told takes in one untagged response. selecting says that it answers a SELECT.
func (m *memory) told(line string, literals []string, selecting bool) {
	m.codes(line, selecting)
	rest, ok := strings.CutPrefix(line, "* ")
	if !ok {
		return
	}
	word, tail, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(word)
	switch {
	case word == "VANISHED":
		m.vanished(tail)
	case err != nil:
	case tail == "EXISTS":
		m.exist(n)
	case tail == "EXPUNGE":
		m.expunged(n)
	case strings.HasPrefix(tail, "FETCH ("):
		m.fetched(n, tail, literals, selecting)
	}
}

func (m *memory) exist(n int) {
	if n < len(m.seq) {
		m.untrue("%d EXISTS after %d, and no expunge", n, len(m.seq))
		return
	}
	m.seq = append(m.seq, make([]uint32, n-len(m.seq))...)
}

func (m *memory) expunged(n int) {
	if m.resync {
		m.untrue("EXPUNGE with QRESYNC on")
	}
	if n < 1 || n > len(m.seq) {
		m.untrue("%d EXPUNGE of %d", n, len(m.seq))
		return
	}
	if uid := m.seq[n-1]; uid != 0 {
		m.gone[uid] = true
		delete(m.facts, uid)
	}
	m.seq = slices.Delete(m.seq, n-1, n)
}

func (m *memory) vanished(tail string) {
	set, earlier := strings.CutPrefix(tail, "(EARLIER) ")
	for _, uid := range expand(set) {
		delete(m.facts, uid)
		m.gone[uid] = true
		if earlier {
			continue
		}
		i := m.place(uid)
		if i < 0 {
			m.untrue("VANISHED %d, which is not there", uid)
			continue
		}
		m.seq = slices.Delete(m.seq, i, i+1)
	}
}

// place returns where a UID is, or where one is that was not told yet and can be it, or -1.
func (m *memory) place(uid uint32) int {
	if i := slices.Index(m.seq, uid); i >= 0 {
		return i
	}
	at := 0 // behind the last one that is known to come before it
	for i, known := range m.seq {
		if known != 0 && known < uid {
			at = i + 1
		}
	}
	if at < len(m.seq) && m.seq[at] == 0 {
		return at
	}
	return -1
}

func (m *memory) fetched(n int, tail string, literals []string, selecting bool) {
	uid := uint32(number(tail, "UID "))
	if n < 1 || n > len(m.seq) {
		m.untrue("FETCH of %d of %d: %s", n, len(m.seq), tail)
		return
	}
	was := m.seq[n-1]
	switch {
	case uid == 0:
		uid = was
	case selecting:
		m.placed[n] = uid
	case was != 0 && was != uid:
		m.untrue("number %d is UID %d, and was %d", n, uid, was)
	case n > 1 && m.seq[n-2] >= uid || n < len(m.seq) && m.seq[n] != 0 && m.seq[n] <= uid:
		m.untrue("number %d is UID %d, out of order", n, uid)
	default:
		m.seq[n-1] = uid
	}
	if uid == 0 {
		return
	}
	if m.gone[uid] {
		m.untrue("UID %d is back from the dead", uid)
	}
	f := m.facts[uid]
	before := f
	if strings.Contains(tail, "FLAGS (") {
		f.flags = sorted(after(tail, "FLAGS (", ")"))
	}
	if now := number(tail, "MODSEQ ("); now != 0 {
		if now < f.modseq {
			m.untrue("MODSEQ of UID %d goes from %d back to %d", uid, f.modseq, now)
		}
		f.modseq = now
	}
	if before.modseq != 0 && before.modseq == f.modseq && before.flags != f.flags {
		m.untrue("UID %d has other flags at the same MODSEQ %d: %q, %q", uid, f.modseq, before.flags, f.flags)
	}
	if strings.Contains(tail, "HEADER.FIELDS") && len(literals) > 0 {
		f.token = field(literals[0])
	} else if strings.Contains(tail, "BODY[]") && len(literals) > 0 {
		m.bodies[uid] = literals[0]
	}
	m.facts[uid] = f
}

// none is the token of messages without one: what a server writes to a new account.
const none = "-"

// field returns the token that a header carries.
func field(header string) string {
	_, rest, ok := strings.Cut(header, tokenField)
	if !ok {
		return none
	}
	token, _, _ := strings.Cut(rest, "\r\n")
	return token
}

// codes takes in what is said of the mailbox.
func (m *memory) codes(line string, selecting bool) {
	if n := uint32(number(line, "[UIDVALIDITY ")); n != 0 {
		if m.validity != 0 && m.validity != n {
			m.untrue("UIDVALIDITY is %d, and was %d", n, m.validity)
		}
		m.validity = n
	}
	if n := uint32(number(line, "[UIDNEXT ")); n != 0 {
		if n < m.next {
			m.untrue("UIDNEXT is %d, and was %d", n, m.next)
		}
		m.next = max(m.next, n)
	}
	if n := number(line, "[HIGHESTMODSEQ "); n != 0 {
		if n < m.highest && selecting {
			m.untrue("HIGHESTMODSEQ is %d, and was %d", n, m.highest)
		}
		m.highest = max(n, m.highest)
	}
}

// unknown returns the first UID that a session that wants to know all has to ask for, 0 if
// it knows all.
func (m *memory) unknown() uint32 {
	var last uint32
	for _, uid := range m.seq {
		if uid == 0 {
			return last + 1
		}
		if m.facts[uid].token == "" {
			return uid
		}
		last = uid
	}
	return 0
}

// differs says how the memory differs from what somebody else was told, "" if not at all.
func (m *memory) differs(truth *memory) string {
	if !slices.Equal(m.seq, truth.seq) {
		return fmt.Sprintf("numbers: it has %v, there is %v", few(m.seq), few(truth.seq))
	}
	for uid, f := range truth.facts {
		if got := m.facts[uid]; got != f {
			return fmt.Sprintf("UID %d: it has %+v, there is %+v", uid, got, f)
		}
	}
	return ""
}

func few(uids []uint32) string {
	if len(uids) <= 20 {
		return fmt.Sprint(uids)
	}
	return fmt.Sprintf("%d from %d to %v", len(uids), uids[0], uids[len(uids)-15:])
}

// tokens returns how often each is there.
func (m *memory) tokens() map[string]int {
	found := map[string]int{}
	for _, f := range m.facts {
		if f.token != none {
			found[f.token]++
		}
	}
	return found
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

func sorted(flags string) string {
	list := slices.DeleteFunc(strings.Fields(flags), func(f string) bool { return f == `\Recent` })
	slices.Sort(list)
	return strings.Join(list, " ")
}

// expand returns the UIDs of a set.
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
		for n := from; n <= to; n++ {
			uids = append(uids, uint32(n))
		}
	}
	return uids
}
