package imap

import (
	"slices"
	"strings"
)

// NotifyEvents is a set of events that NOTIFY can ask for (RFC 5465, 5).
type NotifyEvents uint8

const (
	NotifyMessageNew NotifyEvents = 1 << iota
	NotifyMessageExpunge
	NotifyFlagChange
	NotifyMailboxName
	NotifySubscriptionChange
	NotifyMailboxMetadata
	NotifyServerMetadata
	NotifyAnnotationChange

	// NotifyMessages are those about messages.
	NotifyMessages = NotifyMessageNew | NotifyMessageExpunge | NotifyFlagChange | NotifyAnnotationChange
)

var eventNames = [...]string{
	"MessageNew", "MessageExpunge", "FlagChange", "MailboxName", "SubscriptionChange", "MailboxMetadataChange", "ServerMetadataChange",
	"AnnotationChange",
}

// NotifyEventNames are the names of all events that there are, separated by spaces.
func NotifyEventNames() string { return strings.Join(eventNames[:], " ") }

// NotifyGroup is what a client wants to know of some mailboxes.
type NotifyGroup struct {
	Filter MailboxFilter
	Events NotifyEvents // none is NONE
	Fetch  []FetchItem  // of MessageNew in the selected mailbox
}

// Notify is the arguments of NOTIFY (RFC 5465, 8).
type Notify struct {
	Status  bool
	Groups  []NotifyGroup // none is NONE
	Unknown string        // an event that does not exist here, or ""
}

// ExpectNotify reads the arguments of NOTIFY, without the space before them.
func (d *Decoder) ExpectNotify(out *Notify) bool {
	var n Notify
	var word string
	if !d.ExpectWord(&word, "SET or NONE") {
		return false
	}
	switch word {
	case "NONE":
		*out = n
		return true
	case "SET":
	default:
		return d.Fail("NOTIFY is followed by SET or NONE, not by " + clip(word))
	}
	if !d.ExpectSP() {
		return false
	}
	if d.letters(&word) {
		if n.Status = strings.EqualFold(word, "STATUS"); !n.Status {
			return d.Fail("expected STATUS or mailboxes and events, found " + clip(word))
		}
		if !d.ExpectSP() {
			return false
		}
	}
	for {
		if !d.count() || !d.notifyGroup(&n) {
			return false
		}
		if !d.SP() {
			break
		}
	}
	*out = n
	return d.err == nil
}

// selected tells whether the group is about the selected mailbox.
func (g *NotifyGroup) selected() bool {
	return g.Filter.Source == SourceSelected || g.Filter.Source == SourceSelectedDelayed
}

func (d *Decoder) notifyGroup(n *Notify) bool {
	var g NotifyGroup
	if !d.ExpectSpecial('(') || !d.ExpectMailboxFilter(&g.Filter) || !d.ExpectSP() || !d.notifyEvents(n, &g) || !d.ExpectSpecial(')') {
		return false
	}
	const pair = NotifyMessageNew | NotifyMessageExpunge
	switch has := g.Events & pair; {
	case has != 0 && has != pair:
		return d.Fail("MessageNew and MessageExpunge go together")
	case g.Events&NotifyFlagChange != 0 && has == 0:
		return d.Fail("FlagChange needs MessageNew and MessageExpunge")
	case g.Events&NotifyAnnotationChange != 0 && has == 0:
		return d.Fail("AnnotationChange needs MessageNew and MessageExpunge")
	case g.selected() && g.Events&^NotifyMessages != 0:
		return d.Fail("of the selected mailbox there are events of messages only")
	case !g.selected() && len(g.Fetch) > 0:
		return d.Fail("items to fetch are for the selected mailbox only")
	case g.selected() && slices.ContainsFunc(n.Groups, func(g NotifyGroup) bool { return g.selected() }):
		return d.Fail("SELECTED or SELECTED-DELAYED may be there once")
	}
	n.Groups = append(n.Groups, g)
	return true
}

func (d *Decoder) notifyEvents(n *Notify, g *NotifyGroup) bool {
	var word string
	if d.letters(&word) {
		return strings.EqualFold(word, "NONE") || d.Fail("expected a list of events or NONE, found "+clip(word))
	}
	any := false
	return d.ExpectList(func() bool {
		if any = true; !d.Atom(&word) {
			return d.expected("an event")
		}
		i := slices.IndexFunc(eventNames[:], func(name string) bool { return strings.EqualFold(name, word) })
		if i < 0 {
			n.Unknown = word
			return true
		}
		event := NotifyEvents(1) << i
		g.Events |= event
		return event != NotifyMessageNew || d.fetchAttributes(&g.Fetch)
	}) && (any || d.Fail("an empty list of events"))
}

// fetchAttributes reads a space and a parenthesised list of fetch items if they are
// next.
func (d *Decoder) fetchAttributes(out *[]FetchItem) bool {
	if c, _ := d.peek(); c != ' ' {
		return d.err == nil
	}
	if b, err := d.r.Peek(2); err != nil || string(b) != " (" {
		return d.err == nil
	}
	var f Fetch
	if !d.ExpectSP() || !d.ExpectList(func() bool { return d.fetchItem(&f, true) }) {
		return false
	}
	*out = f.Items
	return len(f.Items) > 0 || d.Fail("an empty list of items to fetch")
}

// ExpectCancelUpdate reads the arguments of CANCELUPDATE: the tags of searches (RFC
// 5267, 5). They may be written as any string.
func (d *Decoder) ExpectCancelUpdate(out *[]string) bool {
	var tags []string
	for {
		var tag string
		if !d.count() || !d.expectFilled(&tag, "the tag of a search") {
			return false
		}
		tags = append(tags, tag)
		if !d.SP() {
			break
		}
	}
	*out = tags
	return d.err == nil
}

// AppendText appends the arguments as a client writes them.
func (n Notify) AppendText(b []byte) []byte {
	if len(n.Groups) == 0 {
		return append(b, "NONE"...)
	}
	b = append(b, "SET"...)
	if n.Status {
		b = append(b, " STATUS"...)
	}
	for i := range n.Groups {
		b = n.Groups[i].appendText(append(b, ' '))
	}
	return b
}

func (g *NotifyGroup) appendText(b []byte) []byte {
	b = g.Filter.AppendText(append(b, '('))
	if b = append(b, ' '); g.Events == 0 {
		return append(b, "NONE)"...)
	}
	b = append(b, '(')
	for i, name := range eventNames {
		event := NotifyEvents(1) << i
		if g.Events&event == 0 {
			continue
		}
		if b[len(b)-1] != '(' {
			b = append(b, ' ')
		}
		b = append(b, name...)
		if event == NotifyMessageNew && len(g.Fetch) > 0 {
			b = appendItems(append(b, ' '), g.Fetch)
		}
	}
	return append(b, "))"...)
}

// AppendText appends the filter as a client writes it.
func (f *MailboxFilter) AppendText(b []byte) []byte {
	for name, source := range sourceNames {
		if source == f.Source {
			b = append(b, name...)
		}
	}
	if f.Source < SourceSubtree {
		return b
	}
	b = append(b, " ("...)
	for i, name := range f.Names {
		if i > 0 {
			b = append(b, ' ')
		}
		b = AppendString(b, EncodeUTF7(name), false, true)
	}
	return append(b, ')')
}

// appendItems appends a list of fetch items as a client writes it.
func appendItems(b []byte, items []FetchItem) []byte {
	b = append(b, '(')
	for i := range items {
		if i > 0 {
			b = append(b, ' ')
		}
		b = items[i].appendName(b, true)
	}
	return append(b, ')')
}
