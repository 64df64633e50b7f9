package imap

import (
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Access control lists (RFC 4314).

// RightsChange is what SETACL does to the rights of an identifier: sets them, or with
// AddFlags and RemoveFlags, adds to them and takes from them.
type RightsChange struct {
	Op     StoreOp
	Rights mail.Rights
}

// String returns the change as a client writes it.
func (c RightsChange) String() string {
	sign := ""
	switch c.Op {
	case AddFlags:
		sign = "+"
	case RemoveFlags:
		sign = "-"
	}
	// c and d are shown to clients that know no others, and mean more than is there.
	return sign + strings.NewReplacer("c", "", "d", "").Replace(c.Rights.String())
}

// Apply returns what rights become by the change.
func (c RightsChange) Apply(had mail.Rights) mail.Rights {
	switch c.Op {
	case AddFlags:
		return had | c.Rights
	case RemoveFlags:
		return had &^ c.Rights
	}
	return c.Rights
}

// SetACL is the arguments of SETACL; those of DELETEACL and LISTRIGHTS have no change.
type SetACL struct {
	Mailbox    string
	Identifier string // without the dash of a negative one
	Negative   bool
	Change     RightsChange
}

// ExpectSetACL reads the arguments of SETACL (RFC 4314, 3.1). A letter that is no right
// is an error (RFC 4314, 3.1).
func (d *Decoder) ExpectSetACL(out *SetACL) bool {
	var a SetACL
	var rights string
	if !d.ExpectACL(&a) || !d.ExpectSP() || !d.expectAString(&rights, "rights") {
		return false
	}
	switch letters := strings.TrimLeft(rights, "+-"); {
	case len(rights)-len(letters) > 1:
		return d.Fail("rights have one sign at most")
	case strings.HasPrefix(rights, "+"):
		a.Change.Op = AddFlags
	case strings.HasPrefix(rights, "-"):
		a.Change.Op = RemoveFlags
	}
	rights = strings.TrimLeft(rights, "+-")
	var wrong int
	if a.Change.Rights, wrong = mail.ParseRights(rights); wrong >= 0 {
		return d.Fail("there is no right " + clip(printable(rights[wrong:wrong+1])))
	}
	*out = a
	return true
}

func printable(s string) string {
	if s[0] <= ' ' || s[0] >= 0x7f {
		return "of that letter"
	}
	return s
}

// ExpectACL reads the arguments of DELETEACL and LISTRIGHTS: a mailbox and an identifier
// (RFC 4314, 3.2 and 3.4).
func (d *Decoder) ExpectACL(out *SetACL) bool {
	var a SetACL
	if !d.ExpectMailbox(&a.Mailbox) || !d.ExpectSP() || !d.expectAString(&a.Identifier, "an identifier") {
		return false
	}
	a.Identifier, a.Negative = strings.CutPrefix(a.Identifier, "-")
	*out = a
	return true
}

// AppendText appends the arguments of SETACL as a client writes them.
func (a SetACL) AppendText(b []byte) []byte {
	b = AppendString(b, a.Mailbox, true, true)
	id := a.Identifier
	if a.Negative {
		id = "-" + id
	}
	b = AppendString(append(b, ' '), id, true, true)
	return AppendString(append(b, ' '), a.Change.String(), true, true)
}
