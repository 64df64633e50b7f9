package imap

import (
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
)

// FlagSet is flags as a client names them: system flags and keywords, each keyword
// once, in the spelling and order given (RFC 9051, 2.3.2).
type FlagSet struct {
	System   mail.Flags
	Keywords []string
}

// Limits of keywords, so that a message cannot be weighed down with them.
const (
	MaxKeyword  = 128 // bytes of one
	MaxKeywords = 128 // in one list
)

// expectFlag reads one flag into set. \Recent, which no client may set, is left out
// rather than refused: clients that copy flags between servers send it (RFC 9051,
// 2.3.2). Another unknown backslash flag is an error.
func (d *Decoder) expectFlag(set *FlagSet) bool {
	system := d.Special('\\')
	var name string
	if !d.Atom(&name) {
		return d.expected("a flag")
	}
	if system {
		f := mail.SystemFlag(`\` + name)
		if f == 0 && !strings.EqualFold(name, "Recent") {
			return d.Fail(`there is no flag \` + clip(name))
		}
		set.System |= f
		return true
	}
	if len(name) > MaxKeyword {
		return d.Fail("a keyword is too long")
	}
	if !slices.ContainsFunc(set.Keywords, func(k string) bool { return strings.EqualFold(k, name) }) {
		if len(set.Keywords) == MaxKeywords {
			return d.Fail("too many keywords")
		}
		set.Keywords = append(set.Keywords, name)
	}
	return true
}

// FlagList reads a list of flags in parentheses if there is one.
func (d *Decoder) FlagList(out *FlagSet) bool {
	var set FlagSet
	if !d.List(func() bool { return d.expectFlag(&set) }) {
		return false
	}
	*out = set
	return true
}

// expectFlags reads a list of flags, with or without parentheses (RFC 9051, 9
// "store-att-flags").
func (d *Decoder) expectFlags(out *FlagSet) bool {
	if d.FlagList(out) {
		return true
	}
	var set FlagSet
	for {
		if !d.expectFlag(&set) {
			return false
		}
		if !d.SP() {
			*out = set
			return d.err == nil
		}
	}
}

// AppendText appends the flags in parentheses.
func (f FlagSet) AppendText(b []byte) []byte {
	b = f.System.Append(append(b, '('))
	for _, k := range f.Keywords {
		if b[len(b)-1] != '(' {
			b = append(b, ' ')
		}
		b = append(b, k...)
	}
	return append(b, ')')
}

// StoreOp is what STORE does with the flags it names.
type StoreOp uint8

const (
	ReplaceFlags StoreOp = iota // FLAGS
	AddFlags                    // +FLAGS
	RemoveFlags                 // -FLAGS
)

// StoreItem is what STORE changes.
type StoreItem uint8

const (
	StoreFlags  StoreItem = iota // FLAGS
	StoreLabels                  // X-GM-LABELS
	StoreNotes                   // ANNOTATION (RFC 5257, 4.5)
)

// Store is the arguments of STORE (RFC 9051, 6.4.6; RFC 7162, 3.1.3).
type Store struct {
	Item        StoreItem
	Set         SeqSet
	Conditional bool   // UNCHANGEDSINCE was given
	Unchanged   uint64 // its value, which may be 0
	Op          StoreOp
	Silent      bool
	Flags       FlagSet
	Labels      []string // system labels and mailbox names, of StoreLabels
	Notes       []NoteValue
}

// ExpectStore reads the arguments of STORE.
func (d *Decoder) ExpectStore(out *Store) bool {
	var s Store
	if !d.ExpectSeqSet(&s.Set) || !d.ExpectSP() {
		return false
	}
	if c, _ := d.peek(); c == '(' {
		if !d.List(func() bool { return d.storeModifier(&s) }) || !d.ExpectSP() {
			return false
		}
	}
	switch {
	case d.Special('+'):
		s.Op = AddFlags
	case d.Special('-'):
		s.Op = RemoveFlags
	}
	if !d.storeItem(&s) {
		return false
	}
	*out = s
	return true
}

// storeItem reads what is changed and to what.
func (d *Decoder) storeItem(s *Store) bool {
	var word string
	if !d.ExpectWord(&word, "FLAGS") {
		return false
	}
	if word == "ANNOTATION" && s.Op == ReplaceFlags {
		s.Item, s.Silent = StoreNotes, true
		return d.ExpectSP() && d.expectNotes(&s.Notes)
	}
	item, silent := strings.CutSuffix(word, ".SILENT")
	s.Silent = silent
	switch item {
	case "FLAGS":
		return d.ExpectSP() && d.expectFlags(&s.Flags)
	case "X-GM-LABELS":
		s.Item = StoreLabels
		return d.ExpectSP() && d.expectLabels(&s.Labels)
	}
	return d.Fail("STORE knows FLAGS and FLAGS.SILENT, not " + clip(word))
}

func (d *Decoder) storeModifier(s *Store) bool {
	var word string
	if !d.ExpectWord(&word, "a store modifier") {
		return false
	}
	if word != "UNCHANGEDSINCE" || s.Conditional {
		return d.Fail("STORE takes one modifier, UNCHANGEDSINCE, not " + clip(word))
	}
	s.Conditional = true
	return d.ExpectSP() && d.ExpectNumber64(&s.Unchanged)
}

// AppendText appends the arguments as a client writes them.
func (s Store) AppendText(b []byte) []byte {
	b = append(s.Set.AppendText(b), ' ')
	if s.Conditional {
		b = append(appendNumber(append(b, "(UNCHANGEDSINCE "...), s.Unchanged), ") "...)
	}
	if s.Item == StoreNotes {
		return appendNotes(append(b, "ANNOTATION "...), s.Notes)
	}
	b = append(b, [...]string{"", "+", "-"}[s.Op]...)
	b = append(b, [...]string{"FLAGS", "X-GM-LABELS"}[s.Item]...)
	if s.Silent {
		b = append(b, ".SILENT"...)
	}
	b = append(b, ' ')
	if s.Item == StoreLabels {
		return appendLabels(b, s.Labels)
	}
	return s.Flags.AppendText(b)
}
