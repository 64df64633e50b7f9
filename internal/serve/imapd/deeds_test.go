package imapd

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// deed returns a command for a client, at random, with what the model says of it.
func (s *story) deed(m *modelClient) *deed {
	kinds := []func(*modelClient) *deed{
		s.steady, s.steady, s.steady, s.expunge, s.expunge, s.copy, s.move, s.append, s.replace,
		s.status, s.list, s.esearch,
	}
	return kinds[s.rng.IntN(len(kinds))](m)
}

// steady returns a command that leaves sequence numbers as they are, or gives none.
func (s *story) steady(m *modelClient) *deed {
	kinds := []func(*modelClient) *deed{s.store, s.store, s.store, s.fetch, s.fetchAll, s.search, s.search, s.sort, s.noop}
	return kinds[s.rng.IntN(len(kinds))](m)
}

func (s *story) noop(*modelClient) *deed {
	return &deed{command: []string{"NOOP", "CHECK"}[s.rng.IntN(2)], expunge: true}
}

// named is a set of messages as a command names it.
type named struct {
	prefix string   // "UID " or none
	text   string   // the set
	uids   []uint32 // what it means to the client, gone ones among them
	holes  bool     // it names numbers of messages of which the client counts, but which are gone
}

// some names messages at random: by number, by UID or as $. ok is false if there are none.
func (s *story) some(m *modelClient) (n named, ok bool) {
	if len(m.real) == 0 {
		return n, false
	}
	byUID := m.uidOnly || s.rng.IntN(2) == 0
	if byUID {
		n.prefix = "UID "
	}
	if len(m.saved) > 0 && s.rng.IntN(6) == 0 {
		n.text = "$"
		n.look(m)
		return n, true
	}
	a, b := s.rng.IntN(len(m.real)), s.rng.IntN(len(m.real))
	a, b = min(a, b), min(max(a, b), min(a, b)+5)
	n.uids = slices.Clone(m.real[a : b+1])
	n.text = setText(m.numbers(n.uids, byUID))
	if b == len(m.real)-1 && !s.many && s.rng.IntN(2) == 0 { // among many commands * moves on
		n.text = fmt.Sprintf("%d:*", m.numbers(n.uids[:1], byUID)[0])
	}
	if !byUID {
		n.holes = slices.ContainsFunc(n.uids, func(uid uint32) bool { _, there := m.was[uid]; return !there })
	}
	return n, true
}

// look sees what $ means by now: a SEARCH before the command may have changed it.
func (n *named) look(m *modelClient) {
	if n.text == "$" {
		n.uids = slices.DeleteFunc(slices.Clone(m.saved), func(uid uint32) bool { return !slices.Contains(m.real, uid) })
	}
}

// live returns those of the messages that are there now.
func (s *story) live(uids []uint32) []uint32 {
	return slices.DeleteFunc(slices.Clone(uids), func(uid uint32) bool { return s.box.find(uid) == nil })
}

// readable returns those of the messages that can be read: they are there, or a copy is.
func (s *story) readable(uids []uint32) []uint32 {
	held := map[int]bool{}
	for _, b := range []*refBox{s.box, s.archive} {
		for i := range b.msgs {
			held[b.msgs[i].content] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(uids), func(uid uint32) bool { return !held[s.box.ever[uid].content] })
}

// store changes flags of some messages: silently or not and, by a client that knows
// modseqs, on condition (RFC 9051, 6.4.6; RFC 7162, 3.1.3).
func (s *story) store(m *modelClient) *deed {
	n, ok := s.some(m)
	if !ok || m.readOnly {
		return s.noop(m)
	}
	op, name := []string{"", "+", "-"}[s.rng.IntN(3)], modelFlags[s.rng.IntN(len(modelFlags))]
	condition, since := "", uint64(1<<62)
	if m.condstore && s.rng.IntN(3) == 0 {
		since = s.box.highest - min(s.box.highest, uint64(s.rng.IntN(4)))
		condition = fmt.Sprintf(" (UNCHANGEDSINCE %d)", since)
	}
	silent := []string{"", ".SILENT"}[s.rng.IntN(2)]
	var changed, failed []uint32
	return &deed{
		command: fmt.Sprintf("%sSTORE %s%s %sFLAGS%s (%s)", n.prefix, n.text, condition, op, silent, name),
		expunge: n.prefix != "",
		effect: func() {
			n.look(m)
			for _, uid := range s.live(n.uids) {
				if msg := s.box.find(uid); msg.mod > since || msg.touched && condition != "" {
					failed = append(failed, uid)
				} else {
					changed = append(changed, uid)
				}
			}
			s.box.set(changed, op, name)
			if silent != "" {
				m.stored(changed, op, name)
			}
		},
		check: func(tagged string) error {
			_, code, _ := strings.Cut(tagged, "[MODIFIED ")
			code, _, _ = strings.Cut(code, "]")
			if want := setText(m.numbers(failed, n.prefix != "")); code != want {
				return fmt.Errorf("MODIFIED should be %q", want)
			}
			if n.holes && code == "" && !strings.Contains(tagged, "[EXPUNGEISSUED]") {
				return fmt.Errorf("it named messages that are gone")
			}
			for _, uid := range changed {
				if silent == "" && slices.Contains(m.uids, uid) && !strings.Contains(m.fetched[uid], "FLAGS (") {
					return fmt.Errorf("the flags of UID %d were not told", uid)
				}
			}
			return nil
		},
	}
}

// fetch reads flags, sizes or modseqs of some messages, or of those that have changed.
func (s *story) fetch(m *modelClient) *deed {
	n, ok := s.some(m)
	if !ok {
		return s.noop(m)
	}
	items := []string{"(UID FLAGS)", "(UID FLAGS RFC822.SIZE)", "(UID RFC822.SIZE)", "(UID FLAGS MODSEQ)"}[s.rng.IntN(4)]
	since := uint64(0)
	modifier := ""
	if m.condstore && s.rng.IntN(3) == 0 {
		since = s.box.highest - min(s.box.highest-1, uint64(s.rng.IntN(6)))
		modifier = fmt.Sprintf(" (CHANGEDSINCE %d)", since)
	}
	mayVanish := m.qresync && modifier != "" && n.prefix != "" && n.text != "$"
	if mayVanish && s.rng.IntN(2) == 0 {
		modifier = fmt.Sprintf(" (CHANGEDSINCE %d VANISHED)", since)
	}
	return s.reading(m, n, items, modifier, since)
}

// fetchAll reads the flags of all messages.
func (s *story) fetchAll(m *modelClient) *deed {
	n := named{text: "1:*", uids: m.real, holes: m.gone()}
	if m.uidOnly || s.rng.IntN(3) == 0 {
		n.prefix, n.holes = "UID ", false
	}
	return s.reading(m, n, "(UID FLAGS)", "", 0)
}

// reading is a FETCH: every message it names that was there when the client was last told
// and still is comes, if it was changed since.
func (s *story) reading(m *modelClient, n named, items, modifier string, since uint64) *deed {
	var want []uint32
	return &deed{
		command: n.prefix + "FETCH " + n.text + " " + items + modifier,
		expunge: n.prefix != "", fetches: true,
		effect: func() {
			n.look(m)
			m.condstore = m.condstore || strings.Contains(items+modifier, "MODSEQ") || modifier != ""
			want = s.box.uids(func(msg *refMsg) bool {
				_, known := m.was[msg.uid]
				return known && slices.Contains(n.uids, msg.uid) && (msg.mod > since || msg.touched)
			})
		},
		check: func(tagged string) error {
			for _, uid := range want {
				if _, told := m.fetched[uid]; !told {
					return fmt.Errorf("UID %d was left out", uid)
				}
			}
			if n.holes && modifier == "" && !strings.Contains(tagged, "[EXPUNGEISSUED]") {
				return fmt.Errorf("it named messages that are gone")
			}
			return nil
		},
	}
}

// query is a search by flags.
type query struct {
	text string
	test func(flags string) bool
}

func (s *story) query() query {
	name := modelFlags[s.rng.IntN(len(modelFlags))]
	has := func(flags string) bool { return slices.Contains(strings.Fields(flags), name) }
	key := strings.ToUpper(strings.TrimPrefix(name, `\`))
	if name[0] != '\\' {
		key = "KEYWORD " + name
	}
	seen := func(flags string) bool { return strings.Contains(flags, `\Seen`) }
	switch s.rng.IntN(5) {
	case 0:
		return query{"NOT " + key, func(f string) bool { return !has(f) }}
	case 1:
		return query{"OR SEEN " + key, func(f string) bool { return seen(f) || has(f) }}
	case 2:
		return query{"UNSEEN " + key, func(f string) bool { return !seen(f) && has(f) }}
	case 3:
		return query{"ALL", func(string) bool { return true }}
	}
	return query{key, has}
}

// search is a SEARCH in one of its forms. It goes by what the client was last told, finds
// nothing that is gone, and says so (RFC 5530, 3).
func (s *story) search(m *modelClient) *deed {
	q := s.query()
	byUID := m.uidOnly || s.rng.IntN(2) == 0
	d := &deed{command: "SEARCH", expunge: byUID}
	if byUID {
		d.command = "UID SEARCH"
	}
	text := s.rng.IntN(4) == 0
	if all := m.finds(func(string) bool { return true }); s.keep && len(s.readable(all)) < len(all) {
		text = false // of what is deleted and kept there may be something to read, or nothing
	}
	if text { // what has to be read
		q.text += ` SUBJECT "m"`
	}
	if len(m.saved) > 0 && !text && s.rng.IntN(5) == 0 {
		s.foretell(m, d, byUID, func() []uint32 {
			return slices.DeleteFunc(m.finds(func(string) bool { return true }), func(uid uint32) bool { return !slices.Contains(m.saved, uid) })
		}, "$")
		return d
	}
	s.foretell(m, d, byUID, func() []uint32 {
		found := m.finds(q.test)
		if text {
			found = s.readable(found)
		}
		return found
	}, q.text)
	missed := false
	inner := d.effect
	d.effect = func() {
		inner()
		missed = text && len(s.readable(m.finds(q.test))) < len(m.finds(q.test))
	}
	d.finds = func() bool { return missed }
	return d
}

// foretell completes a search: in which form its results come, and which they are.
func (s *story) foretell(m *modelClient, d *deed, byUID bool, find func() []uint32, key string) {
	returns := []string{
		"", " RETURN ()", " RETURN (COUNT)", " RETURN (MIN MAX)", " RETURN (SAVE ALL)",
		" RETURN (PARTIAL 2:3)", " RETURN (SAVE MIN MAX)", " RETURN (SAVE PARTIAL 2:3)",
	}[s.rng.IntN(8)]
	word := " UID"
	if !byUID {
		word = ""
	}
	tag := `(TAG "z1")`
	d.command += returns + " " + key
	var want string
	d.finds = func() bool { return false }
	d.effect = func() {
		found := find()
		nums := m.numbers(found, byUID)
		page := nums[min(1, len(nums)):min(3, len(nums))]
		keep := found // what $ is after it (RFC 9051, 6.4.4.2; RFC 9394, 3.2)
		line := "* ESEARCH " + tag + word
		switch {
		case returns == "" && !m.rev2:
			line = "* SEARCH"
			for _, n := range nums {
				line += fmt.Sprint(" ", n)
			}
		case strings.Contains(returns, "COUNT"):
			line += fmt.Sprint(" COUNT ", len(nums))
		case strings.Contains(returns, "PARTIAL"):
			keep = found[min(1, len(found)):min(3, len(found))]
			if line += " PARTIAL (2:3 NIL)"; len(page) > 0 {
				line = strings.TrimSuffix(line, "NIL)") + setText(page) + ")"
			}
		case len(nums) == 0:
		case strings.Contains(returns, "MIN"):
			keep = slices.Compact([]uint32{found[0], found[len(found)-1]})
			line += fmt.Sprintf(" MIN %d MAX %d", nums[0], nums[len(nums)-1])
		default:
			line += " ALL " + setText(nums)
		}
		if strings.Contains(returns, "SAVE") {
			m.saved = slices.Clone(keep)
		}
		want = line
	}
	d.check = func(string) error {
		got := anyTag.ReplaceAllString(strings.Join(m.answer, "\n"), tag)
		if got != want {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	}
}

var anyTag = regexp.MustCompile(`\(TAG "z\d"\)`)

// sort is SORT or THREAD: by size, or in threads, of which only the members are foretold.
func (s *story) sort(m *modelClient) *deed {
	q := s.query()
	byUID := m.uidOnly || s.rng.IntN(2) == 0
	word := ""
	if byUID {
		word = "UID "
	}
	var found []uint32
	d := &deed{expunge: byUID, finds: func() bool { return false }}
	if s.rng.IntN(2) == 0 {
		d.command = word + "THREAD ORDEREDSUBJECT US-ASCII " + q.text
		d.effect = func() { found = m.finds(q.test) }
		d.check = func(string) error {
			var got []uint32
			for _, n := range strings.FieldsFunc(strings.Join(m.answer, ""), func(c rune) bool { return c < '0' || c > '9' }) {
				got = append(got, uint32(number(n)))
			}
			slices.Sort(got)
			if want := m.numbers(found, byUID); !slices.Equal(got, want) || len(m.answer) != 1 {
				return fmt.Errorf("%q, want %v", m.answer, want)
			}
			return nil
		}
		return d
	}
	d.command = word + "SORT (REVERSE SIZE) US-ASCII " + q.text
	var want string
	d.effect = func() {
		found = m.finds(q.test)
		slices.SortStableFunc(found, func(a, b uint32) int { return s.box.ever[b].size - s.box.ever[a].size })
		want = "* SORT"
		for _, n := range m.numbers(found, byUID) {
			want += fmt.Sprint(" ", n)
		}
	}
	d.check = func(string) error {
		if got := strings.Join(m.answer, "\n"); got != want {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	}
	return d
}

// expunge is EXPUNGE or UID EXPUNGE (RFC 4315, 2.1).
func (s *story) expunge(m *modelClient) *deed {
	if m.readOnly {
		return s.noop(m)
	}
	deleted := func(msg *refMsg) bool { return msg.has(`\Deleted`) }
	if n, ok := s.some(m); ok && len(n.uids) > 0 && s.rng.IntN(2) == 0 {
		return &deed{command: "UID EXPUNGE " + setText(n.uids), expunge: true, effect: func() {
			s.box.remove(s.box.uids(func(msg *refMsg) bool { return deleted(msg) && slices.Contains(n.uids, msg.uid) }))
		}}
	}
	return &deed{command: "EXPUNGE", expunge: true, effect: func() { s.box.remove(s.box.uids(deleted)) }}
}

// copy is COPY: all of it or nothing, if the client counts messages that are gone (RFC
// 2180, 4.4.2).
func (s *story) copy(m *modelClient) *deed {
	n, ok := s.some(m)
	if !ok {
		return s.noop(m)
	}
	to := s.target()
	var from, into []uint32
	return &deed{
		command: n.prefix + "COPY " + n.text + " " + to.name, expunge: true, no: n.holes,
		effect: func() {
			if !n.holes {
				from, into = s.box.copyTo(to, s.live(n.uids))
			}
		},
		check: func(string) error { return m.wasTold(from, into) },
	}
}

func (s *story) target() *refBox { return []*refBox{s.box, s.archive, s.archive}[s.rng.IntN(3)] }

// wasTold checks COPYUID (RFC 4315, 3).
func (m *modelClient) wasTold(from, into []uint32) error {
	if len(from) == 0 && m.copied == nil {
		return nil
	}
	if m.copied == nil || !slices.Equal(parseSet(m.copied[0]), from) || !slices.Equal(parseSet(m.copied[1]), into) {
		return fmt.Errorf("COPYUID %q, should be %v %v", m.copied, from, into)
	}
	return nil
}

// move is MOVE, which moves what is there still.
func (s *story) move(m *modelClient) *deed {
	n, ok := s.some(m)
	if !ok || m.readOnly {
		return s.noop(m)
	}
	to := s.archive
	var from, into []uint32
	return &deed{
		command: n.prefix + "MOVE " + n.text + " " + to.name, expunge: true,
		effect: func() {
			from, into = s.box.copyTo(to, s.live(n.uids))
			s.box.remove(from)
		},
		check: func(string) error { return m.wasTold(from, into) },
	}
}

// text is a message that a client brings.
func text(rng *rand.Rand) string {
	return fmt.Sprintf("Subject: m%d\r\n\r\n%s\r\n", rng.IntN(1000), strings.Repeat("x", rng.IntN(200)))
}

// append is APPEND of one or two messages (RFC 3502).
func (s *story) append(*modelClient) *deed {
	to := s.target()
	d := &deed{command: "APPEND " + to.name, expunge: true}
	var want []uint32
	var adds []func()
	for range 1 + s.rng.IntN(2) {
		flags, text := modelFlags[s.rng.IntN(len(modelFlags))], text(s.rng)
		d.command += fmt.Sprintf(" (%s) {%d+}\r\n%s", flags, len(text), text)
		adds = append(adds, func() { want = append(want, to.add(flags, len(text))) })
	}
	d.effect = func() {
		for _, add := range adds {
			add()
		}
	}
	d.check = func(tagged string) error {
		if code := fmt.Sprintf("[APPENDUID %d %s]", to.validity, setText(want)); !strings.Contains(tagged, code) {
			return fmt.Errorf("should say %s", code)
		}
		return nil
	}
	return d
}

// replace is REPLACE of one message by another, in the mailbox or elsewhere (RFC 8508).
func (s *story) replace(m *modelClient) *deed {
	there := s.live(m.real)
	if len(there) == 0 || m.readOnly {
		return s.noop(m)
	}
	byUID := m.uidOnly || s.rng.IntN(2) == 0
	uid, to, text := there[s.rng.IntN(len(there))], s.target(), text(s.rng)
	word := ""
	if byUID {
		word = "UID "
	}
	return &deed{
		command: fmt.Sprintf("%sREPLACE %d %s (\\Seen) {%d+}\r\n%s", word, m.numbers([]uint32{uid}, byUID)[0], to.name, len(text), text),
		expunge: true,
		effect: func() {
			to.add(`\Seen`, len(text))
			s.box.remove([]uint32{uid})
		},
	}
}

var statusPair = regexp.MustCompile(`([A-Z]+) (\d+)`)

// status asks for everything that STATUS knows of a mailbox.
func (s *story) status(m *modelClient) *deed {
	of := s.target()
	m.condstore = true // RFC 7162, 3.1.1: HIGHESTMODSEQ makes it one
	return &deed{
		command: "STATUS " + of.name + " (MESSAGES UIDNEXT UIDVALIDITY UNSEEN DELETED SIZE HIGHESTMODSEQ)", expunge: true,
		check: func(string) error {
			if len(m.answer) != 1 || !sameStatus(m.answer[0], of.status()) {
				return fmt.Errorf("%q, want %q", m.answer, of.status())
			}
			return nil
		},
	}
}

// sameStatus compares STATUS lines whose items may come in any order.
func sameStatus(a, b string) bool {
	pairs := func(line string) []string {
		p := statusPair.FindAllString(line, -1)
		slices.Sort(p)
		return p
	}
	return strings.Fields(a)[2] == strings.Fields(b)[2] && slices.Equal(pairs(a), pairs(b))
}

// list asks for both mailboxes and how many messages are in them (RFC 5819).
func (s *story) list(m *modelClient) *deed {
	boxes := []*refBox{s.archive, s.box}
	return &deed{
		command: fmt.Sprintf(`LIST "" (%s %s) RETURN (STATUS (MESSAGES UIDNEXT))`, s.archive.name, s.box.name), expunge: true,
		check: func(string) error {
			got := strings.Join(m.answer, "\n")
			for _, b := range boxes {
				line := fmt.Sprintf("* STATUS %s (MESSAGES %d UIDNEXT %d)", b.name, len(b.msgs), b.next)
				if !slices.ContainsFunc(m.answer, func(a string) bool { return strings.HasPrefix(a, "* STATUS") && sameStatus(a, line) }) {
					return fmt.Errorf("%q, which lacks %q", got, line)
				}
			}
			if len(m.answer) != 4 {
				return fmt.Errorf("%q", m.answer)
			}
			return nil
		},
	}
}

// esearch counts in both mailboxes at once (RFC 7377).
func (s *story) esearch(m *modelClient) *deed {
	return &deed{
		command: fmt.Sprintf("ESEARCH IN (mailboxes (%s %s)) RETURN (COUNT) FLAGGED", s.archive.name, s.box.name), expunge: true,
		check: func(string) error {
			for _, b := range []*refBox{s.archive, s.box} {
				n := len(b.uids(func(msg *refMsg) bool { return msg.has(`\Flagged`) }))
				if b == s.box {
					n = -1 // of the selected one, as the client knew it
				}
				at := fmt.Sprintf("MAILBOX %s UIDVALIDITY %d) UID COUNT ", b.name, b.validity)
				i := slices.IndexFunc(m.answer, func(a string) bool { return strings.Contains(a, at) })
				if n > 0 && (i < 0 || !strings.HasSuffix(m.answer[i], " "+strconv.Itoa(n))) {
					return fmt.Errorf("%q, want %d in %s", m.answer, n, b.name)
				}
			}
			return nil
		},
	}
}
