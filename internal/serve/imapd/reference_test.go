package imapd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// refBox is the reference model of a mailbox: what there must be after each command, said
// in the simplest way. Only modseqs are not foretold but learnt, and checked by rule.
type refBox struct {
	name     string
	validity uint32
	next     uint32            // UIDNEXT
	highest  uint64            // HIGHESTMODSEQ as it was last
	ever     map[uint32]refMsg // all there ever were, as they came
	msgs     []refMsg
	contents *int // how many different messages there have been
}

type refMsg struct {
	uid     uint32
	flags   string // sorted, without \Recent
	size    int
	content int // the same for copies of a message
	mod     uint64
	touched bool // by the command under way
	matched bool // a STORE named it and changed nothing: its modseq may rise
}

var modelFlags = []string{`\Seen`, `\Flagged`, `\Deleted`, "label", "$Two"}

// sorted returns flags in order, without \Recent.
func sorted(flags string) string {
	words := slices.DeleteFunc(strings.Fields(flags), func(w string) bool { return w == `\Recent` })
	slices.Sort(words)
	return strings.Join(words, " ")
}

// applied returns what a STORE of one flag makes of flags.
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

func (b *refBox) find(uid uint32) *refMsg {
	i, found := slices.BinarySearchFunc(b.msgs, uid, func(m refMsg, uid uint32) int { return int(m.uid) - int(uid) })
	if !found {
		return nil
	}
	return &b.msgs[i]
}

// uids returns the messages that a test picks, in order; nil picks all.
func (b *refBox) uids(pick func(*refMsg) bool) (out []uint32) {
	for i := range b.msgs {
		if pick == nil || pick(&b.msgs[i]) {
			out = append(out, b.msgs[i].uid)
		}
	}
	return out
}

func (m *refMsg) has(flag string) bool { return slices.Contains(strings.Fields(m.flags), flag) }

// add puts a new message in and returns its UID.
func (b *refBox) add(flags string, size int) uint32 {
	*b.contents++
	return b.put(refMsg{flags: sorted(flags), size: size, content: *b.contents})
}

func (b *refBox) put(m refMsg) uint32 {
	m.uid, m.touched, m.matched = b.next, true, false
	b.msgs = append(b.msgs, m)
	b.ever[m.uid] = m
	b.next++
	return m.uid
}

// set carries out a STORE of one flag.
func (b *refBox) set(uids []uint32, op, flag string) {
	for _, uid := range uids {
		if m := b.find(uid); m != nil {
			now := applied(m.flags, op, flag)
			m.touched, m.matched = m.touched || now != m.flags, true
			m.flags = now
		}
	}
}

func (b *refBox) remove(uids []uint32) {
	b.msgs = slices.DeleteFunc(b.msgs, func(m refMsg) bool { return slices.Contains(uids, m.uid) })
}

// copyTo copies messages, in order of UID, and returns the pairs of UIDs.
func (b *refBox) copyTo(to *refBox, uids []uint32) (from, into []uint32) {
	for _, uid := range slices.Sorted(slices.Values(uids)) {
		if m := b.find(uid); m != nil {
			from = append(from, uid)
			into = append(into, to.put(*m))
		}
	}
	return from, into
}

// check holds what there is against the model, and learns modseqs: those of messages that
// were changed lie above all that went before, the others are as they were.
func (b *refBox) check(pic *store.Picture) error {
	box := pic.Mailbox()
	if pic.Len() != len(b.msgs) || uint32(box.UIDNext) != b.next || uint32(box.UIDValidity) != b.validity {
		return fmt.Errorf("%s has %d messages, UIDNEXT %d, UIDVALIDITY %d, should have %d, %d, %d",
			b.name, pic.Len(), box.UIDNext, box.UIDValidity, len(b.msgs), b.next, b.validity)
	}
	unseen, deleted, bytes := 0, 0, 0
	for i, row := range pic.Messages(store.All()) {
		m := &b.msgs[i-1]
		if flags := sorted(string(pic.AppendFlags(nil, row))); uint32(row.UID) != m.uid || flags != m.flags || int(row.Size) != m.size {
			return fmt.Errorf("message %d of %s is UID %d (%s), %d bytes, should be UID %d (%s), %d bytes",
				i, b.name, row.UID, flags, row.Size, m.uid, m.flags, m.size)
		}
		mod := uint64(row.ModSeq)
		if m.touched && mod <= b.highest || !m.touched && mod != m.mod && !(m.matched && mod > b.highest) || mod > uint64(box.HighestModSeq) {
			return fmt.Errorf("UID %d of %s has MODSEQ %d, had %d; HIGHESTMODSEQ went from %d to %d; changed: %v",
				m.uid, b.name, mod, m.mod, b.highest, box.HighestModSeq, m.touched)
		}
		m.mod, m.touched, m.matched = mod, false, false
		bytes += m.size
		if !m.has(`\Seen`) {
			unseen++
		}
		if m.has(`\Deleted`) {
			deleted++
		}
	}
	if int(box.Unseen) != unseen || int(box.Deleted) != deleted || int(box.Bytes) != bytes || uint64(box.HighestModSeq) < b.highest {
		return fmt.Errorf("%s counts %d unseen, %d deleted, %d bytes, should be %d, %d, %d; HIGHESTMODSEQ went from %d to %d",
			b.name, box.Unseen, box.Deleted, box.Bytes, unseen, deleted, bytes, b.highest, box.HighestModSeq)
	}
	b.highest = uint64(box.HighestModSeq)
	return nil
}

// status is the STATUS line that must be told of it.
func (b *refBox) status() string {
	unseen := len(b.uids(func(m *refMsg) bool { return !m.has(`\Seen`) }))
	deleted := len(b.uids(func(m *refMsg) bool { return m.has(`\Deleted`) }))
	size := 0
	for _, m := range b.msgs {
		size += m.size
	}
	return fmt.Sprintf("* STATUS %s (MESSAGES %d UIDNEXT %d UIDVALIDITY %d UNSEEN %d DELETED %d SIZE %d HIGHESTMODSEQ %d)",
		b.name, len(b.msgs), b.next, b.validity, unseen, deleted, size, max(b.highest, 1))
}

// setText writes UIDs or numbers as a set.
func setText(uids []uint32) string {
	var set mail.UIDSet
	for _, uid := range uids {
		set.Add(mail.UID(uid))
	}
	return set.String()
}
