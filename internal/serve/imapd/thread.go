package imapd

import (
	"cmp"
	"slices"

	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// The threading algorithms of RFC 5256, 3. They see messages as numbers from 0 on, in
// mailbox order, and take time O(n log n) and about 100 bytes for each message and
// each Message-ID that is named. Nothing recurses: a thread may be as deep as there
// are messages.

// threadMessage is what threading looks at of one message.
type threadMessage struct {
	date    int64 // when it was sent, in seconds since 1970
	subject subjectKey
	reply   bool   // its subject has a mark of a reply or a forward
	named   bool   // it has a Message-ID
	id      uint64 // the hash of that
	refs    []uint64
}

// subjectKey stands for a folded base subject; zero is the empty one.
type subjectKey [2]uint64

// forest is the parents of nodes: of the messages, and after them of dummies, which
// stand for messages that are named and not there.
type forest struct {
	msgs   []threadMessage
	parent []int32 // -1: none
}

const noParent = -1

// threads puts messages into threads.
func threads(msgs []threadMessage, by imap.Threading) *arranged {
	switch by {
	case imap.OrderedSubject:
		return orderedSubject(msgs).arrange(nil)
	case imap.Refs:
		f := byReferences(msgs)
		f.prune()
		return f.arrange(f.latest())
	}
	f := byReferences(msgs)
	f.prune()
	f.gatherSubjects()
	return f.arrange(nil)
}

func (f *forest) isDummy(node int32) bool { return int(node) >= len(f.msgs) }

func (f *forest) addDummy() int32 {
	f.parent = append(f.parent, noParent)
	return int32(len(f.parent) - 1)
}

func newForest(msgs []threadMessage) *forest {
	f := &forest{msgs: msgs, parent: make([]int32, len(msgs), len(msgs)+len(msgs)/4)}
	for i := range f.parent {
		f.parent[i] = noParent
	}
	return f
}

// byDate compares messages by date, then by place in the mailbox.
func (f *forest) byDate(a, b int32) int {
	return cmp.Or(cmp.Compare(f.msgs[a].date, f.msgs[b].date), cmp.Compare(a, b))
}

// orderedSubject makes the first message of each subject the parent of all others.
func orderedSubject(msgs []threadMessage) *forest {
	f := newForest(msgs)
	first := map[subjectKey]int32{}
	for _, m := range f.inOrder() {
		if head, ok := first[msgs[m].subject]; ok {
			f.parent[m] = head
		} else {
			first[msgs[m].subject] = m
		}
	}
	return f
}

// inOrder returns the messages by date.
func (f *forest) inOrder() []int32 {
	order := make([]int32, len(f.msgs))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, f.byDate)
	return order
}

// prune takes dummies away (step 3): a message goes to the nearest message above it.
// If there is none it stays below the topmost dummy, unless it is alone there. After
// it parents are messages or dummies without a parent.
func (f *forest) prune() {
	n := len(f.msgs)
	above := make([]int32, len(f.parent)-n) // of dummies: where messages below them go
	for i := range above {
		above[i] = noParent
	}
	for m := range n {
		if p := f.parent[m]; p != noParent && f.isDummy(p) {
			f.parent[m] = f.reach(p, above)
		}
	}
	below := make([]int32, len(above))
	for _, p := range f.parent[:n] {
		if p != noParent && f.isDummy(p) {
			below[int(p)-n]++
		}
	}
	for m, p := range f.parent[:n] {
		if p != noParent && f.isDummy(p) && below[int(p)-n] == 1 {
			f.parent[m] = noParent
		}
	}
	for d := n; d < len(f.parent); d++ {
		f.parent[d] = noParent
	}
}

// reach returns the first message above a dummy or, if there is none, the topmost
// dummy, and remembers it for all dummies on the way.
func (f *forest) reach(dummy int32, above []int32) int32 {
	n := len(f.msgs)
	at := dummy
	for f.isDummy(at) && above[int(at)-n] == noParent && f.parent[at] != noParent {
		at = f.parent[at]
	}
	goal := at
	if f.isDummy(at) && above[int(at)-n] != noParent {
		goal = above[int(at)-n]
	}
	for at = dummy; f.isDummy(at) && above[int(at)-n] == noParent; at = f.parent[at] {
		if above[int(at)-n] = goal; f.parent[at] == noParent {
			break
		}
	}
	return goal
}

// leads returns for each node the message that stands for it: itself, or of a dummy
// its first child by date. For a dummy without children it is noParent.
func (f *forest) leads() []int32 {
	lead := make([]int32, len(f.parent))
	for node := range lead {
		if lead[node] = int32(node); f.isDummy(int32(node)) {
			lead[node] = noParent
		}
	}
	for m := range f.msgs {
		p := f.parent[m]
		if p != noParent && f.isDummy(p) && (lead[p] == noParent || f.byDate(int32(m), lead[p]) < 0) {
			lead[p] = int32(m)
		}
	}
	return lead
}

// latest returns for each node without a parent the latest date of its thread.
func (f *forest) latest() []int64 {
	date := make([]int64, len(f.parent))
	root := make([]int32, len(f.parent))
	for i := range root {
		root[i] = noParent
	}
	for i := range date {
		date[i] = -1 << 63
	}
	for m := range f.msgs {
		top := int32(m)
		for root[top] == noParent && f.parent[top] != noParent {
			top = f.parent[top]
		}
		if root[top] != noParent {
			top = root[top]
		}
		for at := int32(m); at != noParent && root[at] == noParent; at = f.parent[at] {
			root[at] = top
		}
		date[top] = max(date[top], f.msgs[m].date)
	}
	return date
}

// gatherSubjects brings threads of one subject together (step 5).
func (f *forest) gatherSubjects() {
	lead := f.leads()
	roots := f.roots(lead)
	f.sortRoots(roots, lead, nil)
	table := map[subjectKey]int32{}
	subject := func(node int32) subjectKey { return f.msgs[lead[node]].subject }
	isReply := func(node int32) bool { return f.msgs[lead[node]].reply }
	for _, r := range roots {
		there, ok := table[subject(r)]
		switch {
		case subject(r) == subjectKey{}:
		case !ok, !f.isDummy(there) && (f.isDummy(r) || isReply(there) && !isReply(r)):
			table[subject(r)] = r
		}
	}
	merged := map[int32]int32{} // dummies that went into another one
	for _, r := range roots {
		there, ok := table[subject(r)]
		switch {
		case !ok || there == r:
		case f.isDummy(r): // then the one in the table is a dummy, too
			merged[r] = there
		case f.isDummy(there), isReply(r) && !isReply(there):
			f.parent[r] = there
		default:
			dummy := f.addDummy()
			lead = append(lead, lead[there])
			f.parent[r], f.parent[there] = dummy, dummy
			table[subject(r)] = dummy
		}
	}
	for m := range f.msgs {
		if to, ok := merged[f.parent[m]]; ok {
			f.parent[m] = to
		}
	}
}

// roots returns the nodes without a parent, but no dummies without children.
func (f *forest) roots(lead []int32) []int32 {
	var roots []int32
	for node, p := range f.parent {
		if p == noParent && lead[node] != noParent {
			roots = append(roots, int32(node))
		}
	}
	return roots
}

// sortRoots orders the heads of threads by date: their own, that of a dummy's first
// child, or the one given.
func (f *forest) sortRoots(roots, lead []int32, dates []int64) {
	slices.SortFunc(roots, func(a, b int32) int {
		if dates != nil && dates[a] != dates[b] {
			return cmp.Compare(dates[a], dates[b])
		}
		return f.byDate(lead[a], lead[b])
	})
}

// arranged is a forest in order (step 6): every list of siblings by date.
type arranged struct {
	messages int32   // nodes from here on are dummies
	roots    []int32 // in order
	start    []int32 // of each node: where its children begin in kids; one more at the end
	kids     []int32
}

// arrange puts the forest in order; with dates given the threads by these.
func (f *forest) arrange(dates []int64) *arranged {
	lead := f.leads()
	a := &arranged{messages: int32(len(f.msgs)), roots: f.roots(lead), start: make([]int32, len(f.parent)+1)}
	f.sortRoots(a.roots, lead, dates)
	for _, p := range f.parent[:len(f.msgs)] {
		if p != noParent {
			a.start[p+1]++
		}
	}
	for i := 1; i < len(a.start); i++ {
		a.start[i] += a.start[i-1]
	}
	next := slices.Clone(a.start)
	a.kids = make([]int32, a.start[len(f.parent)])
	for _, m := range f.inOrder() {
		if p := f.parent[m]; p != noParent {
			a.kids[next[p]] = m
			next[p]++
		}
	}
	return a
}

func (a *arranged) children(node int32) []int32 { return a.kids[a.start[node]:a.start[node+1]] }

// Marks of walk.
const (
	listBegins = -1 - iota
	listEnds
	numberFollows // a space
)

// walk yields what a THREAD response is made of, in order: messages and marks (RFC
// 5256, 5 "thread-list"). It ends when yield returns false.
func (a *arranged) walk(yield func(int32) bool) {
	var stack []int32 // lists to begin, the next one last, and ends of lists between them
	for _, root := range a.roots {
		stack = append(stack[:0], root)
		for len(stack) > 0 {
			node := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if node == listEnds {
				if !yield(listEnds) {
					return
				}
				continue
			}
			var ok bool
			if stack, ok = a.list(stack, node, yield); !ok {
				return
			}
		}
	}
}

// list yields one list up to where it splits or ends, and stacks what comes then.
func (a *arranged) list(stack []int32, node int32, yield func(int32) bool) ([]int32, bool) {
	if !yield(listBegins) {
		return stack, false
	}
	for {
		real, kids := node < a.messages, a.children(node)
		if real && !yield(node) {
			return stack, false
		}
		if len(kids) == 0 {
			return stack, yield(listEnds)
		}
		if real && !yield(numberFollows) {
			return stack, false
		}
		if len(kids) > 1 {
			stack = append(stack, listEnds)
			for _, kid := range slices.Backward(kids) {
				stack = append(stack, kid)
			}
			return stack, true
		}
		node = kids[0]
	}
}
