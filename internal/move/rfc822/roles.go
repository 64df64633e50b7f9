package rfc822

import (
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// usual are the names by which programs that know no roles call the mailboxes that have
// them, in lower case.
var usual = map[string]mail.Role{
	"inbox": mail.RoleInbox,
	"sent":  mail.RoleSent, "sent items": mail.RoleSent, "sent messages": mail.RoleSent, "sent mail": mail.RoleSent, "sent-mail": mail.RoleSent, "outbox": "",
	"drafts": mail.RoleDrafts, "draft": mail.RoleDrafts,
	"trash": mail.RoleTrash, "deleted items": mail.RoleTrash, "deleted messages": mail.RoleTrash, "deleted": mail.RoleTrash, "bin": mail.RoleTrash,
	"junk": mail.RoleJunk, "spam": mail.RoleJunk, "junk e-mail": mail.RoleJunk, "junk email": mail.RoleJunk, "bulk mail": mail.RoleJunk,
	"archive": mail.RoleArchive, "archives": mail.RoleArchive, "archived": mail.RoleArchive,
}

// RoleOf returns the role that a mailbox of the first level is known to have by its name.
func RoleOf(name string) mail.Role { return usual[strings.ToLower(name)] }

// GiveRoles gives roles to mailboxes by their names, each once, and makes INBOX of the one
// with its role. Those that have a role keep it.
func GiveRoles(list []move.Mailbox) {
	taken := map[mail.Role]bool{}
	for i := range list {
		taken[list[i].Role] = true
	}
	for i := range list {
		if list[i].Role != "" {
			continue
		}
		if r := RoleOf(list[i].Name); r != "" && !taken[r] {
			list[i].Role, taken[r] = r, true
		}
	}
	for i := range list {
		if list[i].Role == mail.RoleInbox {
			list[i].Name = "INBOX"
		}
	}
}

// InboxFirst puts INBOX before the others, which stay in their order.
func InboxFirst(list []move.Mailbox) {
	for i := range list {
		if list[i].Name == "INBOX" {
			first := list[i]
			copy(list[1:i+1], list[:i])
			list[0] = first
			return
		}
	}
}

// Apart keeps apart mailboxes of several names that would have one name here (move.NameHere):
// all but the first get a number.
func Apart(list []move.Mailbox) {
	first, taken := map[string]string{}, map[string]bool{}
	for _, m := range list {
		taken[move.NameHere(m.Name)] = true
	}
	for i := range list {
		name := list[i].Name
		here := move.NameHere(name)
		if was, ok := first[here]; !ok || strings.EqualFold(was, name) {
			first[here] = name
			continue
		}
		for n := 2; ; n++ {
			if next := here + " " + strconv.Itoa(n); !taken[next] {
				taken[next], list[i].Name = true, next
				break
			}
		}
	}
}
