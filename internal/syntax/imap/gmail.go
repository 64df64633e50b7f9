package imap

import (
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// The items and keys of X-GM-EXT-1, Gmail's extension: X-GM-MSGID, X-GM-THRID,
// X-GM-LABELS and X-GM-RAW (developers.google.com, "IMAP extensions"). A label is the
// name of a mailbox, or one of these words.

// System labels, as Gmail spells them in its answers.
const (
	LabelInbox     = `\Inbox`
	LabelSent      = `\Sent`
	LabelDraft     = `\Draft`
	LabelTrash     = `\Trash`
	LabelSpam      = `\Spam`
	LabelAll       = `\All`
	LabelStarred   = `\Starred`
	LabelImportant = `\Important`
)

// systemLabels are the words that clients write after the backslash, in lower case.
var systemLabels = map[string]string{
	"inbox": LabelInbox, "sent": LabelSent, "draft": LabelDraft, "drafts": LabelDraft, "trash": LabelTrash,
	"spam": LabelSpam, "junk": LabelSpam, "all": LabelAll, "allmail": LabelAll,
	"starred": LabelStarred, "flagged": LabelStarred, "important": LabelImportant,
}

// MaxLabels is how many labels one STORE may name.
const MaxLabels = 100

// IsSystemLabel tells whether a label is a word of Gmail's and no name of a mailbox.
func IsSystemLabel(label string) bool { return strings.HasPrefix(label, `\`) }

// expectLabel reads a label: a system label in its one spelling, or a mailbox name as
// ParseMailbox returns it. One that cannot be is an error of kind Unsupported, as it is
// with mailbox names.
func (d *Decoder) expectLabel(out *string) bool {
	var s string
	if d.Special('\\') {
		d.Special('\\') // scripts that escape once too often
		if !d.Atom(&s) {
			return d.expected("a label")
		}
		s = `\` + s
	} else if !d.expectAString(&s, "a label") {
		return false
	}
	if IsSystemLabel(s) {
		if *out = systemLabels[strings.ToLower(strings.TrimLeft(s, `\`))]; *out == "" {
			return d.fault(fault.New(fault.Unsupported, "there is no label "+clip(s)))
		}
		return true
	}
	name, err := ParseMailbox(s, d.UTF8)
	if err == nil && name == "" {
		err = fault.New(fault.Unsupported, "a label is empty")
	}
	if err != nil {
		return d.fault(fault.Wrap(fault.Unsupported, fault.Say(err), err))
	}
	*out = name
	return true
}

// expectLabels reads labels, with or without parentheses, each once.
func (d *Decoder) expectLabels(out *[]string) bool {
	var labels []string
	one := func() bool {
		var l string
		if !d.expectLabel(&l) {
			return false
		}
		if !slices.Contains(labels, l) {
			labels = append(labels, l)
		}
		return len(labels) <= MaxLabels || d.Fail("too many labels")
	}
	if c, _ := d.peek(); c == '(' {
		if !d.List(one) {
			return false
		}
		*out = labels
		return true
	}
	for {
		if !one() {
			return false
		}
		if !d.SP() {
			*out = labels
			return d.err == nil
		}
	}
}

// appendLabel appends a label as a client writes it.
func appendLabel(b []byte, label string) []byte {
	if IsSystemLabel(label) {
		return append(b, label...)
	}
	return AppendString(b, EncodeUTF7(label), false, true)
}

func appendLabels(b []byte, labels []string) []byte {
	b = append(b, '(')
	for i, l := range labels {
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendLabel(b, l)
	}
	return append(b, ')')
}

// Label appends a label as Gmail does: a system label in quotes, a name as mailbox
// names are written.
func (e *Encoder) Label(label string) *Encoder {
	if IsSystemLabel(label) {
		return e.String(label)
	}
	return e.Mailbox(label)
}
