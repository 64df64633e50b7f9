package imap

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// StatusItems is what STATUS asks for (RFC 9051, 6.3.11).
type StatusItems uint16

const (
	StatusMessages StatusItems = 1 << iota
	StatusRecent               // RFC 3501 only
	StatusUIDNext
	StatusUIDValidity
	StatusUnseen
	StatusDeleted
	StatusSize          // RFC 8438
	StatusHighestModSeq // RFC 7162, 3.1.7
	StatusAppendLimit   // RFC 7889
	StatusMailboxID     // RFC 8474, 4.3
	StatusDeletedBytes  // DELETED-STORAGE, RFC 9208, 4.1.4
	StatusObjectID      // OBJECTID: the ids of the mailbox and its account (OBJECTID+)
)

var statusNames = [...]string{
	"MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "DELETED", "SIZE", "HIGHESTMODSEQ", "APPENDLIMIT", "MAILBOXID",
	"DELETED-STORAGE", "OBJECTID",
}

// Names yields the names of the items of s, in a fixed order.
func (s StatusItems) Names() []string {
	var names []string
	for i, n := range statusNames {
		if s&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

// ExpectStatusItems reads the list of items of STATUS.
func (d *Decoder) ExpectStatusItems(out *StatusItems) bool {
	var items StatusItems
	if !d.ExpectList(func() bool {
		var word string
		if !d.ExpectWord(&word, "a status item") {
			return false
		}
		i := slices.Index(statusNames[:], word)
		if i < 0 {
			return d.Fail("there is no status item " + clip(word))
		}
		items |= 1 << i
		return true
	}) {
		return false
	}
	if items == 0 {
		return d.Fail("STATUS asks for nothing")
	}
	*out = items
	return true
}

// Status is the arguments of STATUS.
type Status struct {
	Mailbox string
	Items   StatusItems
}

// ExpectStatus reads the arguments of STATUS.
func (d *Decoder) ExpectStatus(out *Status) bool {
	return d.ExpectMailbox(&out.Mailbox) && d.ExpectSP() && d.ExpectStatusItems(&out.Items)
}

// ListOptions are the words of the extended LIST (RFC 5258, RFC 6154, RFC 5819, RFC 8440).
type ListOptions uint8

const (
	ListSubscribed     ListOptions = 1 << iota // select and return
	ListRemote                                 // select
	ListRecursiveMatch                         // select
	ListSpecialUse                             // select and return
	ListChildren                               // return
	ListMyRights                               // return (RFC 8440)
)

// List is the arguments of LIST and LSUB (RFC 9051, 6.3.9).
type List struct {
	Extended  bool // any part of the extended form was used
	Select    ListOptions
	Reference string
	Patterns  []string // UTF-8; what is no name matches nothing and is left out
	Root      bool     // the only pattern is "": the client asks for the separator
	Return    ListOptions
	Status    StatusItems // RETURN (STATUS (...))
	Metadata  []string    // RETURN (METADATA (...)): names of annotations (RFC 9590)
}

// ExpectListCommand reads the arguments of LIST.
func (d *Decoder) ExpectListCommand(out *List) bool {
	var l List
	if c, _ := d.peek(); c == '(' {
		l.Extended = true
		if !d.List(func() bool { return d.listSelect(&l) }) || !d.ExpectSP() {
			return false
		}
		if l.Select&ListRecursiveMatch != 0 && l.Select&(ListSubscribed|ListSpecialUse) == 0 {
			return d.Fail("RECURSIVEMATCH needs another selection option")
		}
	}
	if !d.listNames(&l) {
		return false
	}
	if d.SP() {
		l.Extended = true
		var word string
		if !d.ExpectWord(&word, "RETURN") || word != "RETURN" && !d.Fail("expected RETURN, found "+clip(word)) {
			return false
		}
		if !d.ExpectSP() || !d.ExpectList(func() bool { return d.listReturn(&l) }) {
			return false
		}
	}
	l.Root = l.Root && !l.Extended // RFC 9051, 6.3.9: extended, "" means nothing
	*out = l
	return d.err == nil
}

// ExpectLSub reads the arguments of LSUB (RFC 3501, 6.3.9).
func (d *Decoder) ExpectLSub(out *List) bool {
	var l List
	if !d.listNames(&l) {
		return false
	}
	*out = l
	return !l.Extended || d.Fail("there can be one pattern only")
}

// listNames reads the reference and one pattern or a list of them.
func (d *Decoder) listNames(l *List) bool {
	var ref string
	if !d.expectAString(&ref, "a reference name") || !d.ExpectSP() {
		return false
	}
	reference, badRef := ParseMailbox(ref, d.UTF8)
	l.Reference = reference
	one := func() bool {
		var s string
		if !d.word(isListChar, &s) && !d.String(&s) {
			return d.expected("a mailbox pattern")
		}
		if s == "" {
			l.Root = true
			return true
		}
		name, err := ParseMailbox(s, d.UTF8)
		if err == nil && badRef == nil {
			l.Patterns = append(l.Patterns, name)
		}
		return true
	}
	if c, _ := d.peek(); c != '(' {
		return one()
	}
	l.Extended = true
	return d.List(one)
}

func (d *Decoder) listSelect(l *List) bool {
	var word string
	if !d.ExpectWord(&word, "a selection option") {
		return false
	}
	switch word {
	case "SUBSCRIBED":
		l.Select |= ListSubscribed
	case "REMOTE":
		l.Select |= ListRemote
	case "RECURSIVEMATCH":
		l.Select |= ListRecursiveMatch
	case "SPECIAL-USE":
		l.Select |= ListSpecialUse
	default:
		return d.Fail("LIST cannot select by " + clip(word))
	}
	return true
}

func (d *Decoder) listReturn(l *List) bool {
	var word string
	if !d.ExpectWord(&word, "a return option") {
		return false
	}
	switch word {
	case "SUBSCRIBED":
		l.Return |= ListSubscribed
	case "CHILDREN":
		l.Return |= ListChildren
	case "SPECIAL-USE":
		l.Return |= ListSpecialUse
	case "MYRIGHTS":
		l.Return |= ListMyRights
	case "STATUS":
		return d.ExpectSP() && d.ExpectStatusItems(&l.Status)
	case "METADATA":
		return d.ExpectSP() && d.metadataList(&l.Metadata)
	default:
		return d.Fail("LIST cannot return " + clip(word))
	}
	return true
}

// AppendMessage is one message of APPEND up to its literal (RFC 9051, 6.3.12; RFC
// 3502 for more than one).
type AppendMessage struct {
	Flags FlagSet
	Date  time.Time // zero if none was given
	Data  *Literal
	Notes []NoteValue
	UTF8  bool // UTF8 (~{...}), RFC 6855, 4
	Parts bool // CATENATE: Data is nil, and NextCatPart reads the parts (RFC 4469)
}

// ExpectAppendMessage reads the flags, date and literal announcement of a message.
// The caller reads Data, then calls ExpectAppendEnd.
func (d *Decoder) ExpectAppendMessage(out *AppendMessage) bool {
	var m AppendMessage
	if d.FlagList(&m.Flags) && !d.ExpectSP() {
		return false
	}
	if d.DateTime(&m.Date) && !d.ExpectSP() {
		return false
	}
	var word string
	given := d.letters(&word)
	if given && strings.EqualFold(word, "ANNOTATION") { // RFC 5257, 4.7
		if !d.ExpectSP() || !d.expectNotes(&m.Notes) || !d.ExpectSP() {
			return false
		}
		given = d.letters(&word)
	}
	if given {
		if strings.EqualFold(word, "CATENATE") {
			m.Parts = true
			*out = m
			return d.ExpectSP() && d.ExpectSpecial('(')
		}
		if !strings.EqualFold(word, "UTF8") {
			return d.Fail("APPEND knows no data of the form " + clip(word))
		}
		m.UTF8 = true
		if !d.ExpectSP() || !d.ExpectSpecial('(') {
			return false
		}
	}
	if !d.ExpectLiteral(&m.Data, true) {
		return false
	}
	*out = m
	return true
}

// ExpectAppendEnd reads what follows the literal of m and tells whether another
// message follows (MULTIAPPEND). With more false and true returned, the CRLF is next.
func (d *Decoder) ExpectAppendEnd(m AppendMessage, more *bool) bool {
	if m.UTF8 && !d.ExpectSpecial(')') {
		return false
	}
	*more = d.SP()
	return d.err == nil
}

// Create is the arguments of CREATE (RFC 9051, 6.3.4; RFC 6154, 3).
type Create struct {
	Mailbox string
	Use     []mail.Role
}

// ErrUse is the cause of the error for a special use nobody knows; the answer is
// NO [USEATTR] (RFC 6154, 3).
var ErrUse = errors.New("special use is not known")

// ExpectCreate reads the arguments of CREATE. A use attribute nobody knows is an
// error of kind Unsupported, NO [USEATTR].
func (d *Decoder) ExpectCreate(out *Create) bool {
	var c Create
	if !d.ExpectMailbox(&c.Mailbox) {
		return false
	}
	if d.SP() && !d.ExpectList(func() bool { return d.createParam(&c) }) {
		return false
	}
	*out = c
	return d.err == nil
}

func (d *Decoder) createParam(c *Create) bool {
	var word string
	if !d.ExpectWord(&word, "USE") {
		return false
	}
	if word != "USE" {
		return d.Fail("CREATE knows no parameter " + clip(word))
	}
	return d.ExpectSP() && d.ExpectList(func() bool {
		var attr string
		slash := d.Special('\\')
		if !d.Atom(&attr) {
			return d.expected("a special use")
		}
		if slash {
			attr = `\` + attr
		}
		role := mail.SpecialUse(attr)
		switch {
		case role == "" && !slash:
			return d.Fail("a special use begins with a backslash")
		case role == "":
			return d.fault(fault.Wrap(fault.Unsupported, "there is no special use "+clip(attr), ErrUse))
		}
		if !slices.Contains(c.Use, role) {
			c.Use = append(c.Use, role)
		}
		return true
	})
}

// Resync is what a client that knows the mailbox from before says of it (RFC 7162,
// 3.2.5).
type Resync struct {
	UIDValidity uint32
	ModSeq      uint64
	Known       mail.UIDSet // "" is all
	Seqs, UIDs  mail.UIDSet // pairs that the client believes in
}

// Select is the arguments of SELECT and EXAMINE.
type Select struct {
	Mailbox   string
	CondStore bool
	Annotate  bool // tell of annotations that change
	Resync    *Resync
	ObjectID  *ObjectID
}

// ExpectSelect reads the arguments of SELECT and EXAMINE (RFC 9051, 6.3.2; RFC
// 7162, 3.1.8 and 3.2.5).
func (d *Decoder) ExpectSelect(out *Select) bool {
	var s Select
	if !d.ExpectMailbox(&s.Mailbox) {
		return false
	}
	if d.SP() && !d.ExpectList(func() bool { return d.selectParam(&s) }) {
		return false
	}
	*out = s
	return d.err == nil
}

func (d *Decoder) selectParam(s *Select) bool {
	var word string
	if !d.ExpectWord(&word, "a parameter") {
		return false
	}
	switch word {
	case "CONDSTORE":
		s.CondStore = true
		return true
	case "ANNOTATE": // RFC 5257, 4.2
		s.Annotate = true
		return true
	case "OBJECTID":
		return d.selectObjectID(s)
	case "QRESYNC":
		s.Resync = new(Resync)
		return d.ExpectSP() && d.resync(s.Resync)
	}
	return d.Fail("SELECT knows no parameter " + clip(word))
}

func (d *Decoder) resync(r *Resync) bool {
	if !d.ExpectSpecial('(') || !d.ExpectNumber(&r.UIDValidity) || !d.ExpectSP() || !d.ExpectNumber64(&r.ModSeq) {
		return false
	}
	if d.SP() {
		if c, _ := d.peek(); c != '(' {
			if !d.expectUIDs(&r.Known) {
				return false
			}
			if !d.SP() {
				return d.ExpectSpecial(')')
			}
		}
		if !d.ExpectSpecial('(') || !d.expectUIDs(&r.Seqs) || !d.ExpectSP() || !d.expectUIDs(&r.UIDs) || !d.ExpectSpecial(')') {
			return false
		}
	}
	return d.ExpectSpecial(')')
}

// IDField is one field of ID and its value, nil for NIL.
type IDField struct {
	Name  string
	Value *string
}

// Limits of ID (RFC 2971, 3.3).
const (
	MaxIDFields = 30
	MaxIDName   = 30
	MaxIDValue  = 1024
)

// ExpectID reads the arguments of ID: a list of pairs or NIL (RFC 2971, 3.1).
func (d *Decoder) ExpectID(out *[]IDField) bool {
	var fields []IDField
	if !d.List(func() bool {
		var f IDField
		if !d.ExpectString(&f.Name) || !d.ExpectSP() || !d.ExpectNString(&f.Value) {
			return false
		}
		if len(fields) == MaxIDFields || len(f.Name) > MaxIDName || f.Value != nil && len(*f.Value) > MaxIDValue {
			return d.Fail("ID has too many or too long fields")
		}
		fields = append(fields, f)
		return true
	}) {
		var word string
		if !d.Atom(&word) || !strings.EqualFold(word, "NIL") {
			return d.expected("a list of fields or NIL")
		}
	}
	*out = fields
	return d.err == nil
}

// ExpectEnable reads the capabilities that ENABLE names, in upper case (RFC 5161).
func (d *Decoder) ExpectEnable(out *[]string) bool {
	var words []string
	for {
		var w string
		if !d.count() || !d.ExpectWord(&w, "a capability") {
			return false
		}
		words = append(words, w)
		if !d.SP() {
			*out = words
			return d.err == nil
		}
	}
}

// Copy is the arguments of COPY and MOVE (RFC 9051, 6.4.7 and 6.4.8).
type Copy struct {
	Set     SeqSet
	Mailbox string
}

// ExpectCopy reads the arguments of COPY and MOVE.
func (d *Decoder) ExpectCopy(out *Copy) bool {
	return d.ExpectSeqSet(&out.Set) && d.ExpectSP() && d.ExpectMailbox(&out.Mailbox)
}
