package mail

import "strings"

// Rights is a set of what somebody may do with a mailbox (RFC 4314, 2.1).
type Rights uint16

const (
	RightLookup     Rights = 1 << iota // l: it is listed
	RightRead                          // r: select it, see its status
	RightSeen                          // s: keep \Seen
	RightWrite                         // w: flags but \Seen and \Deleted
	RightInsert                        // i: append, copy into it
	RightPost                          // p: send mail to it; not IMAP's to enforce
	RightCreate                        // k: make mailboxes below it
	RightDelete                        // x: delete and rename it
	RightDeleted                       // t: keep \Deleted
	RightExpunge                       // e: expunge
	RightAdminister                    // a: see and change who may what

)

// AllRights are all there are.
const AllRights = RightAdminister<<1 - 1

// rightLetters are the letters of the rights in order of their bits.
const rightLetters = "lrswipkxtea"

// What the two letters of RFC 2086 stand for that have no right of their own any more
// (RFC 4314, 2.1.1).
const (
	createRights = RightCreate | RightDelete
	deleteRights = RightDeleted | RightExpunge
)

// Has tells whether r contains all of g.
func (r Rights) Has(g Rights) bool { return r&g == g }

// String returns the letters of the rights: first the standard ones, then c and d if
// any of the rights they stand for is there, so that clients of RFC 2086 understand.
func (r Rights) String() string {
	var b strings.Builder
	for i, c := range []byte(rightLetters) {
		if r&(1<<i) != 0 && c != 'a' {
			b.WriteByte(c)
		}
	}
	if r&createRights != 0 {
		b.WriteByte('c')
	}
	if r&deleteRights != 0 {
		b.WriteByte('d')
	}
	if r.Has(RightAdminister) {
		b.WriteByte('a')
	}
	return b.String()
}

// ParseRights reads letters, c and d among them. Of one that means nothing it returns
// the place, else -1.
func ParseRights(letters string) (r Rights, wrong int) {
	for i := range len(letters) {
		switch c := letters[i]; c {
		case 'c':
			r |= createRights
		case 'd':
			r |= deleteRights
		default:
			bit := strings.IndexByte(rightLetters, c)
			if bit < 0 {
				return r, i
			}
			r |= 1 << bit
		}
	}
	return r, -1
}

// FlagRights returns which system flags somebody with these rights may change, and
// whether keywords (RFC 4314, 4).
func (r Rights) FlagRights() (flags Flags, keywords bool) {
	if r.Has(RightSeen) {
		flags |= Seen
	}
	if r.Has(RightDeleted) {
		flags |= Deleted
	}
	if r.Has(RightWrite) {
		flags |= Answered | Flagged | Draft
	}
	return flags, r.Has(RightWrite)
}
