package imapd

// links is a forest under construction by references (RFC 5256, 3, step 1).
type links struct {
	*forest
	kids  []int32 // of each node: how many children it has
	nodes map[uint64]int32
	steps int // that walks in search of loops may still take
}

const (
	// Message-IDs without a message that a THREAD knows, beyond four times the number
	// of messages. References to others are passed over, as if the sender's client had
	// cut them off.
	maxDummies = 1 << 20
	// A link is checked for a loop only if its child has children and takes then as
	// many steps as its parent is deep. Honest mail needs about one for each message;
	// when a hostile mailbox has used up these for each node, links that would need
	// more are not made.
	stepsPerNode = 64
)

// byReferences links messages by their References.
func byReferences(msgs []threadMessage) *forest {
	l := &links{
		forest: newForest(msgs), kids: make([]int32, len(msgs)), nodes: make(map[uint64]int32, len(msgs)),
		steps: stepsPerNode * (len(msgs) + 1024),
	}
	for m := range msgs {
		if _, taken := l.nodes[msgs[m].id]; msgs[m].named && !taken {
			l.nodes[msgs[m].id] = int32(m)
		}
	}
	for m := range msgs {
		last := int32(noParent)
		for _, ref := range msgs[m].refs {
			node, ok := l.node(ref)
			if !ok {
				continue
			}
			if last != noParent && l.parent[node] == noParent {
				l.link(last, node)
			}
			last = node
		}
		// What a message says of itself is better than what others say of it (1.B).
		if l.parent[m] != last {
			l.cut(int32(m))
			l.link(last, int32(m))
		}
	}
	return l.forest
}

// node returns the node of a Message-ID, if need be a new dummy.
func (l *links) node(id uint64) (int32, bool) {
	node, ok := l.nodes[id]
	if ok {
		return node, true
	}
	if len(l.parent) >= 5*len(l.msgs)+maxDummies {
		return 0, false
	}
	node = l.addDummy()
	l.kids = append(l.kids, 0)
	l.nodes[id] = node
	l.steps += stepsPerNode
	return node, true
}

func (l *links) cut(child int32) {
	if p := l.parent[child]; p != noParent {
		l.kids[p]--
		l.parent[child] = noParent
	}
}

// link makes parent that of child, which has none, unless that would be a loop.
func (l *links) link(parent, child int32) {
	if parent == noParent || parent == child {
		return
	}
	if l.kids[child] > 0 { // else nothing is below it
		for at := l.parent[parent]; at != noParent; at = l.parent[at] {
			if l.steps--; at == child || l.steps <= 0 {
				return
			}
		}
	}
	l.parent[child] = parent
	l.kids[parent]++
}
