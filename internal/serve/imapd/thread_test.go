package imapd

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// written returns the THREAD response of an arrangement, with numbers from 1 on.
func written(a *arranged) string {
	var b strings.Builder
	for what := range a.walk {
		switch what {
		case listBegins:
			b.WriteByte('(')
		case listEnds:
			b.WriteByte(')')
		case numberFollows:
			b.WriteByte(' ')
		default:
			fmt.Fprint(&b, what+1)
		}
	}
	return b.String()
}

// tree is a node of the plain threading below, which follows the RFC's text word by
// word, with no thought of speed.
type tree struct {
	number int // -1 is a dummy
	msg    threadMessage
	parent *tree
	kids   []*tree
}

func (t *tree) lead() *tree {
	if t.number >= 0 {
		return t
	}
	return slices.MinFunc(t.kids, func(a, b *tree) int { return a.before(b) })
}

func (t *tree) before(o *tree) int {
	a, b := t.lead(), o.lead()
	return cmp.Or(cmp.Compare(a.msg.date, b.msg.date), cmp.Compare(a.number, b.number))
}

func (t *tree) below(o *tree) bool {
	for ; t != nil; t = t.parent {
		if t == o {
			return true
		}
	}
	return false
}

func (t *tree) moveTo(parent *tree) {
	if t.parent != nil {
		t.parent.kids = slices.DeleteFunc(t.parent.kids, func(k *tree) bool { return k == t })
	}
	if t.parent = parent; parent != nil {
		parent.kids = append(parent.kids, t)
	}
}

func plainLinks(msgs []threadMessage) []*tree {
	ids := map[uint64]*tree{}
	var all []*tree
	for i, m := range msgs {
		t := &tree{number: i, msg: m}
		all = append(all, t)
		if m.named && ids[m.id] == nil {
			ids[m.id] = t
		}
	}
	for i := range msgs {
		m := all[i]
		var last *tree
		for _, ref := range m.msg.refs {
			t := ids[ref]
			if t == nil {
				t = &tree{number: -1}
				ids[ref] = t
				all = append(all, t)
			}
			if last != nil && t.parent == nil && !last.below(t) {
				t.moveTo(last)
			}
			last = t
		}
		if m.parent == last {
			continue
		}
		m.moveTo(nil)
		if last != nil && !last.below(m) {
			m.moveTo(last)
		}
	}
	return all
}

// pruned returns what stands in the place of a node: itself or its children.
func pruned(t *tree, atRoot bool) []*tree {
	var kids []*tree
	for _, k := range t.kids {
		kids = append(kids, pruned(k, false)...)
	}
	t.kids = kids
	if t.number < 0 && (!atRoot || len(kids) < 2) {
		return kids
	}
	return []*tree{t}
}

func plainReferences(msgs []threadMessage, subjects bool) []*tree {
	var roots []*tree
	for _, t := range plainLinks(msgs) {
		if t.parent == nil {
			roots = append(roots, pruned(t, true)...)
		}
	}
	if !subjects {
		return roots
	}
	slices.SortFunc(roots, func(a, b *tree) int { return a.before(b) })
	table := map[subjectKey]*tree{}
	for _, r := range roots {
		subject := r.lead().msg.subject
		there := table[subject]
		if subject == (subjectKey{}) {
			continue
		}
		if there == nil || there.number >= 0 && (r.number < 0 || there.msg.reply && !r.msg.reply) {
			table[subject] = r
		}
	}
	gone := map[*tree]bool{}
	for _, r := range slices.Clone(roots) {
		subject := r.lead().msg.subject
		there := table[subject]
		switch {
		case subject == (subjectKey{}) || there == r:
			continue
		case there.number < 0 && r.number < 0:
			there.kids = append(there.kids, r.kids...)
		case there.number < 0 || r.msg.reply && !there.msg.reply:
			there.kids = append(there.kids, r)
		default:
			dummy := &tree{number: -1, kids: []*tree{r, there}}
			gone[there] = true
			table[subject] = dummy
			roots = append(roots, dummy)
		}
		gone[r] = true
	}
	return slices.DeleteFunc(roots, func(t *tree) bool { return gone[t] })
}

func plainWritten(trees []*tree) string {
	var b strings.Builder
	var list func(t *tree)
	list = func(t *tree) {
		b.WriteByte('(')
		for {
			slices.SortFunc(t.kids, func(a, b *tree) int { return a.before(b) })
			if t.number >= 0 {
				fmt.Fprint(&b, t.number+1)
				if len(t.kids) > 0 {
					b.WriteByte(' ')
				}
			}
			if len(t.kids) != 1 {
				break
			}
			t = t.kids[0]
		}
		for _, k := range t.kids {
			list(k)
		}
		b.WriteByte(')')
	}
	for _, t := range trees {
		list(t)
	}
	return b.String()
}

func latest(t *tree) int64 {
	date := int64(-1 << 63)
	if t.number >= 0 {
		date = t.msg.date
	}
	for _, k := range t.kids {
		date = max(date, latest(k))
	}
	return date
}

func plainThreads(msgs []threadMessage, by imap.Threading) string {
	trees := plainReferences(msgs, by == imap.References)
	slices.SortFunc(trees, func(a, b *tree) int {
		if by == imap.Refs && latest(a) != latest(b) {
			return cmp.Compare(latest(a), latest(b))
		}
		return a.before(b)
	})
	return plainWritten(trees)
}

// someMessages makes messages that refer to each other, to themselves and to what is
// not there, with few subjects and dates.
func someMessages(r *rand.Rand, n int) []threadMessage {
	msgs := make([]threadMessage, n)
	for i := range msgs {
		m := threadMessage{date: int64(r.IntN(n)), reply: r.IntN(2) == 0, named: r.IntN(8) > 0, id: uint64(r.IntN(n + n/2))}
		m.subject[0] = uint64(r.IntN(max(n/2, 1)))
		for range r.IntN(4) {
			m.refs = append(m.refs, uint64(r.IntN(n+n/2)))
		}
		msgs[i] = m
	}
	return msgs
}

func TestThreadsLikeTheText(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		msgs := someMessages(r, 1+r.IntN(14))
		for _, by := range []imap.Threading{imap.References, imap.Refs} {
			if got, want := written(threads(msgs, by)), plainThreads(msgs, by); got != want {
				t.Fatalf("seed %d, algorithm %d: %s, want %s\n%+v", seed, by, got, want, msgs)
			}
		}
	}
}

// checkWhole checks that a response names every message once and that its lists close.
func checkWhole(t *testing.T, a *arranged, n int) {
	t.Helper()
	seen := make([]bool, n)
	depth := 0
	for what := range a.walk {
		switch what {
		case listBegins:
			depth++
		case listEnds:
			depth--
		case numberFollows:
		default:
			if seen[what] {
				t.Fatalf("message %d stands there twice", what)
			}
			seen[what] = true
		}
		if depth < 0 {
			t.Fatal("a list ends that has not begun")
		}
	}
	if i := slices.Index(seen, false); i >= 0 || depth != 0 {
		t.Fatalf("message %d is not there; %d lists are open", i, depth)
	}
}

// Mailboxes made to be hard: what is quadratic or recursive does not come to an end.
func TestThreadsOfHostileMailboxes(t *testing.T) {
	const n = 100_000
	r := rand.New(rand.NewPCG(1, 2))
	chain := func(order []int) []threadMessage {
		msgs := make([]threadMessage, n)
		for at, i := range order {
			msgs[at] = threadMessage{named: true, id: uint64(i), date: int64(i)}
			if i > 0 {
				msgs[at].refs = []uint64{uint64(i - 1)}
			}
		}
		return msgs
	}
	rising := make([]int, n)
	for i := range rising {
		rising[i] = i
	}
	falling := slices.Clone(rising)
	slices.Reverse(falling)
	one := make([]threadMessage, n)
	loops := make([]threadMessage, n)
	dummies := make([]threadMessage, n)
	deep := chain(rising)
	for i := range n {
		one[i].subject[0], one[i].reply = 1, i%2 == 0
		loops[i] = threadMessage{named: true, id: uint64(i / 2 * 2), refs: []uint64{uint64(i), uint64((i + 1) % n), uint64(i)}}
		dummies[i] = threadMessage{refs: []uint64{uint64(10*n + i), uint64(10*n + i + 1)}}
		if i >= n/2 { // each has a child already and asks for the deepest of all as parent
			deep[i] = threadMessage{named: true, id: uint64(20*n + i), refs: []uint64{uint64(20*n + i), uint64(30*n + i), uint64(n/2 - 1)}}
		}
	}
	for name, msgs := range map[string][]threadMessage{
		"rising": chain(rising), "falling": chain(falling), "shuffled": chain(r.Perm(n)),
		"one subject": one, "loops": loops, "dummies": dummies, "deep": deep, "at random": someMessages(r, n),
	} {
		checkWhole(t, threads(msgs, imap.References), n)
		if name == "one subject" || name == "at random" {
			checkWhole(t, threads(msgs, imap.OrderedSubject), n)
		}
		if name == "rising" || name == "falling" || name == "shuffled" {
			if a := threads(msgs, imap.Refs); len(a.roots) != 1 {
				t.Errorf("%s: the chain is in %d pieces", name, len(a.roots))
			}
		}
	}
}

func FuzzThreads(f *testing.F) {
	f.Add(uint8(1), []byte{1, 2, 3, 0, 2, 3, 1, 0, 3, 1, 2, 0})
	f.Fuzz(func(t *testing.T, by uint8, b []byte) {
		if len(b) > 4000 {
			return
		}
		var msgs []threadMessage
		for ; len(b) >= 4; b = b[4:] {
			m := threadMessage{named: b[0] > 0, id: uint64(b[0]), refs: []uint64{uint64(b[1]), uint64(b[2])}, date: int64(b[3] >> 3), reply: b[3]&1 > 0}
			m.subject[0] = uint64(b[3] & 7)
			msgs = append(msgs, m)
		}
		alg := imap.Threading(by % 3)
		a := threads(msgs, alg)
		checkWhole(t, a, len(msgs))
		if alg != imap.OrderedSubject && len(msgs) < 100 {
			if got, want := written(a), plainThreads(msgs, alg); got != want {
				t.Fatalf("%s, want %s", got, want)
			}
		}
	})
}
