package outward

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
)

// begin opens the folder, or makes it one, and finds a place for each mailbox.
func (r *run) begin(list []move.Mailbox) error {
	m, err := r.openManifest()
	if err != nil {
		return err
	}
	if err := r.place(m, list); err != nil {
		return err
	}
	if len(r.Mailboxes) == 0 {
		for i := range m.Mailboxes {
			e := &m.Mailboxes[i]
			e.Gone = !slices.ContainsFunc(list, e.is)
		}
		m.Subscriptions = append([]string{}, r.Source.Subscriptions()...)
	}
	m.Changed, m.Complete = r.Now().UTC().Truncate(time.Second), false
	r.manifest = m
	return m.write(r.Disk)
}

// openManifest returns the manifest of the folder: a new one if the folder is empty, and none of
// another export.
func (r *run) openManifest() (*Manifest, error) {
	m, err := ReadManifest(r.Disk)
	switch {
	case err != nil:
		return nil, err
	case m == nil:
		return r.newManifest()
	case m.Account != r.Account || m.Form != r.Form || r.Form == Mbox && m.Quoting != r.Quoting:
		return nil, fault.Newf(fault.Exists, "the folder holds an export of %s as %s%s; name another one", m.Account, m.Form, m.Quoting)
	}
	return m, nil
}

func (r *run) newManifest() (*Manifest, error) {
	have, err := names(r.Disk, ".")
	if err != nil {
		return nil, err
	}
	have = slices.DeleteFunc(have, func(n string) bool { return n == side || n == ManifestName+".tmp" })
	if len(have) > 0 {
		return nil, fault.Newf(fault.Exists, "the folder is not empty (%q) and holds no export; name an empty or a new one", have[0])
	}
	m := &Manifest{Version: manifestVersion, Form: r.Form, Account: r.Account, Subscriptions: []string{}}
	if r.Form == Mbox {
		m.Quoting = r.Quoting
	}
	return m, nil
}

// place finds a place for each mailbox: that which it had, or a new one that is nobody's.
func (r *run) place(m *Manifest, list []move.Mailbox) error {
	fold := folded
	if r.Form == Maildir { // Dovecot shows its folders as they are called: other spellings only if they must be
		one, err := folds(r.Disk)
		if err != nil {
			return err
		}
		if !one {
			fold = strings.Clone
		}
	}
	taken := map[string]bool{fold(side): true}
	for _, e := range m.Mailboxes {
		taken[fold(strings.TrimSuffix(e.Path, mboxEnding(r.Form)))] = true
	}
	for _, b := range list {
		i := slices.IndexFunc(m.Mailboxes, func(e Entry) bool { return e.is(b) })
		if i < 0 {
			i = len(m.Mailboxes)
			m.Mailboxes = append(m.Mailboxes, newEntry(r.Form, b, place(r.Form, b.Name, taken, fold), i))
		}
		e := &m.Mailboxes[i]
		e.Role, e.Subscribed, e.UIDNext, e.Gone = b.Role, b.Subscribed, r.Source.Next(b), false
		r.done.Total += b.Messages
	}
	return nil
}

// is tells whether an entry is that of a mailbox of the account.
func (e Entry) is(b move.Mailbox) bool { return e.Mailbox == b.Name && e.UIDValidity == b.UIDValidity }

func mboxEnding(f Form) string {
	if f == Mbox {
		return ".mbox"
	}
	return ""
}

func newEntry(f Form, b move.Mailbox, at string, n int) Entry {
	e := Entry{Mailbox: b.Name, UIDValidity: b.UIDValidity}
	e.Path = at + mboxEnding(f)
	e.Index = path.Join(side, number(n)+".jsonl")
	if f == EML {
		e.Index = path.Join(e.Path, "index.jsonl")
	}
	return e
}
