package imap

import "strings"

// MailboxSource is one way to say which mailboxes are meant (RFC 5465, 6
// "filter-mailboxes"; RFC 7377, 2.2).
type MailboxSource uint8

const (
	SourceSelected        MailboxSource = iota + 1 // the selected mailbox
	SourceSelectedDelayed                          // the same with expunges held back (RFC 5465, 6.2)
	SourceInboxes                                  // those that new mail may come to
	SourcePersonal                                 // all of the user's own
	SourceSubscribed
	SourceSubtree    // Names and all that is below them
	SourceSubtreeOne // Names and what is one level below them (RFC 7377, 2.2)
	SourceMailboxes  // Names
)

var sourceNames = map[string]MailboxSource{
	"SELECTED": SourceSelected, "SELECTED-DELAYED": SourceSelectedDelayed, "INBOXES": SourceInboxes,
	"PERSONAL": SourcePersonal, "SUBSCRIBED": SourceSubscribed, "SUBTREE": SourceSubtree,
	"SUBTREE-ONE": SourceSubtreeOne, "MAILBOXES": SourceMailboxes,
}

// MailboxFilter is a source with its names, if it takes any.
type MailboxFilter struct {
	Source MailboxSource
	Names  []string // UTF-8
}

// ExpectMailboxFilter reads one filter.
func (d *Decoder) ExpectMailboxFilter(out *MailboxFilter) bool {
	var word string
	if !d.ExpectWord(&word, "a choice of mailboxes") {
		return false
	}
	f := MailboxFilter{Source: sourceNames[word]}
	if f.Source == 0 {
		return d.Fail("there is no choice of mailboxes called " + clip(word))
	}
	if f.Source >= SourceSubtree && (!d.ExpectSP() || !d.someMailboxes(&f.Names)) {
		return false
	}
	*out = f
	return true
}

// someMailboxes reads one mailbox name or a list of them (RFC 5465, 8
// "one-or-more-mailbox").
func (d *Decoder) someMailboxes(out *[]string) bool {
	name := func() bool {
		var s string
		if !d.ExpectMailbox(&s) {
			return false
		}
		*out = append(*out, s)
		return true
	}
	if c, _ := d.peek(); c != '(' {
		return name()
	}
	return d.List(name) && (len(*out) > 0 || d.Fail("an empty list of mailboxes"))
}

// MultiSearch is the arguments of ESEARCH (RFC 7377, 4).
type MultiSearch struct {
	Sources []MailboxFilter // none is the selected mailbox
	Search
}

// ExpectMultiSearch reads the arguments of ESEARCH, without the space before them.
func (d *Decoder) ExpectMultiSearch(out *MultiSearch) bool {
	var m MultiSearch
	var first string
	given := d.letters(&first)
	if given && strings.EqualFold(first, "IN") {
		if !d.ExpectSP() || !d.sources(&m) || !d.ExpectSP() {
			return false
		}
		given = d.letters(&first)
	}
	ok := d.searchArguments(&m.Search, first, given)
	*out = m // what it was to return is known even if the rest fails
	return ok
}

// sources reads the parenthesised choices of mailboxes. Options of their scope, for
// which there is a place in the grammar, do not exist (RFC 7377, 4 "scope-option").
func (d *Decoder) sources(m *MultiSearch) bool {
	return d.ExpectList(func() bool {
		var f MailboxFilter
		if !d.ExpectMailboxFilter(&f) {
			return false
		}
		if f.Source == SourceSelectedDelayed {
			return d.Fail("SELECTED-DELAYED cannot be searched")
		}
		m.Sources = append(m.Sources, f)
		return true
	}) && (len(m.Sources) > 0 || d.Fail("an empty choice of mailboxes"))
}
