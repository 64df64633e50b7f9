package move

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// tell is an account's mailboxes with their roles, and its subscriptions.
func (w *world) tell(t *testing.T) string {
	t.Helper()
	var list []string
	err := w.Store.Account(1).View(ctx, func(s *store.Snapshot) error {
		boxes, err := s.Mailboxes()
		if err != nil {
			return err
		}
		subs, err := s.Subscriptions()
		for _, b := range boxes {
			list = append(list, fmt.Sprintf("%s=%s", b.Name, b.Role))
		}
		for _, name := range subs {
			list = append(list, "+"+name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// A new account becomes the one that its mailboxes are told of.
func TestExactMailboxes(t *testing.T) {
	fill := func(name string) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			box := Box{"other", "x"}
			if out, err := w.Put(ctx, box, w.place(t, name).ID, []Incoming{incoming(Item{Key: "1"}, letter(1))}); err != nil || out[0].UID == 0 {
				t.Fatal(out, err)
			}
		}
	}
	box := func(name string, role mail.Role, subscribed bool) Mailbox {
		return Mailbox{Name: name, Source: name, Role: role, Subscribed: subscribed, UIDValidity: 77, Exact: true}
	}
	for what, c := range map[string]struct {
		here   []string // made before, "name=role"
		before func(*testing.T, *world)
		boxes  []Mailbox
		want   string
	}{
		"another name":   {[]string{"Sent=Sent"}, nil, []Mailbox{box("Gesendet", mail.RoleSent, true)}, "+Gesendet Gesendet=Sent INBOX=Inbox"},
		"not subscribed": {[]string{"Archive=Archive"}, nil, []Mailbox{box("Archive", mail.RoleArchive, false)}, "Archive=Archive INBOX=Inbox"},
		"a level down":   {[]string{"Sent=Sent"}, nil, []Mailbox{box("Sent/2026", mail.RoleSent, false)}, "+Sent INBOX=Inbox Sent/2026=Sent Sent="},
		"swapped": {[]string{"Sent=Sent", "Trash=Trash"}, nil, []Mailbox{box("Trash", mail.RoleSent, true), box("Sent", mail.RoleTrash, true)},
			"+Sent +Trash INBOX=Inbox Sent=Trash Trash=Sent"},
		"without its role":        {[]string{"Sent=Sent"}, nil, []Mailbox{box("Sent", "", true)}, "+Sent INBOX=Inbox Sent="},
		"and another of the name": {[]string{"Sent=Sent"}, nil, []Mailbox{box("Gesendet", mail.RoleSent, true), box("Sent", "", true)}, "+Gesendet +Sent Gesendet=Sent INBOX=Inbox Sent="},
		"children stay":           {[]string{"Sent=Sent", "Sent/2025="}, nil, []Mailbox{box("Gesendet", mail.RoleSent, true)}, "+Gesendet +Sent +Sent/2025 Gesendet=Sent INBOX=Inbox Sent/2025= Sent="},
		"in use":                  {[]string{"Sent=Sent"}, fill("Sent"), []Mailbox{box("Gesendet", mail.RoleSent, true)}, "+Sent INBOX=Inbox Sent=Sent"},
		"names without a mailbox": {nil, nil, []Mailbox{{Name: "INBOX", Source: "INBOX", Role: mail.RoleInbox, Exact: true, Subscriptions: []string{"gone", "a/b"}}}, "+a/b +gone INBOX=Inbox"},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, store.Quota{})
			err := w.Store.Account(1).Update(ctx, func(tx *store.Tx) error {
				all, err := tx.Mailboxes()
				for _, b := range all { // what every account begins with
					if err == nil {
						err = tx.Subscribe(b.Name, false)
					}
					if err == nil && b.Name != "INBOX" {
						err = tx.DeleteMailbox(b.Name)
					}
				}
				if err != nil {
					return err
				}
				for _, b := range c.here {
					name, role, _ := strings.Cut(b, "=")
					if _, err := tx.CreateMailbox(name, mail.Role(role)); err != nil {
						return err
					}
					if err := tx.Subscribe(name, true); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if c.before != nil {
				c.before(t, w)
			}
			for _, m := range c.boxes {
				w.open(t, "export:x", m)
			}
			if got := w.tell(t); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
			// What its owner changes later stays.
			for _, m := range c.boxes {
				at, _ := w.open(t, "export:x", m)
				if err := w.Store.Account(1).Update(ctx, func(tx *store.Tx) error { return tx.Subscribe(at.Name, !m.Subscribed) }); err != nil {
					t.Fatal(err)
				}
				m.Name, m.Role = "Other", mail.RoleJunk
				if again, _ := w.open(t, "export:x", m); again.ID != at.ID || again.Name != at.Name {
					t.Errorf("%+v, want %+v", again, at)
				}
			}
			w.verify(t)
		})
	}
}
