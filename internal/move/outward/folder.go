package outward

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/account"
)

// Folder is an export as a move.Source: the account as it was, byte for byte, with its
// mailboxes, roles, flags, keywords, dates and UIDs. Flags that another program has changed
// in a Maildir since are as they are there now. Mail that other programs have put into the folder
// is told of as any mail there, in mailboxes of its own.
type Folder struct {
	d        Disk
	manifest *Manifest
	others   *others // nil: not looked for yet
}

// OpenFolder opens an export. It returns nil without an error if the folder is none.
func OpenFolder(d Disk) (*Folder, error) {
	m, err := ReadManifest(d)
	if m == nil || err != nil {
		return nil, err
	}
	for _, e := range m.Mailboxes {
		if !local(e.Path) || !local(e.Index) {
			return nil, fault.Newf(fault.Invalid, "%s names a file outside the folder: %q", ManifestName, e.Path)
		}
	}
	return &Folder{d: d, manifest: m}, nil
}

// Form returns the form of the export.
func (f *Folder) Form() Form { return f.manifest.Form }

// Account returns the address whose mail it is.
func (f *Folder) Account() string { return f.manifest.Account }

// ID names the export by its account and form: the same wherever the folder lies.
func (f *Folder) ID() string { return "export:" + string(f.manifest.Form) + ":" + f.manifest.Account }

// Close does nothing.
func (f *Folder) Close() error { return nil }

// Mailboxes lists them, INBOX first and then those with a role: what is called "Sent" without being
// it is not to be taken for it. The last one has the names that were subscribed without a mailbox.
func (f *Folder) Mailboxes(ctx context.Context) ([]move.Mailbox, error) {
	var list []move.Mailbox
	for _, e := range f.manifest.Mailboxes {
		m := move.Mailbox{Name: e.Mailbox, Source: e.Path, Role: e.Role, Subscribed: e.Subscribed, UIDValidity: e.UIDValidity, Messages: e.Messages, Bytes: e.Bytes, Exact: true}
		if e.Gone {
			m.Skip = "the account had it no more when the export was last made"
		}
		if m.Source == "." {
			m.Source = "INBOX"
		}
		list = append(list, m)
	}
	slices.SortStableFunc(list, func(a, b move.Mailbox) int { return rank(a) - rank(b) })
	names := f.manifest.Subscriptions
	for i := len(list) - 1; i >= 0 && len(names) > 0; i-- {
		if list[i].Skip == "" {
			n := fitting(names)
			list[i].Subscriptions, names = names[:n], names[n:]
		}
	}
	var err error
	if f.others, err = findOthers(ctx, f.d, f.manifest); err != nil {
		return nil, err
	}
	return append(list, f.others.list...), nil
}

// fitting returns how many of some names one mailbox may have with it.
func fitting(names []string) int {
	const most = 256 << 10
	size := 0
	for i, name := range names {
		if size += 2*len(name) + 3; size > most {
			return max(1, i)
		}
	}
	return len(names)
}

func rank(m move.Mailbox) int {
	switch {
	case m.Name == "INBOX":
		return 0
	case m.Role != "" && m.Skip == "":
		return 1
	}
	return 2
}

// Read goes through a mailbox in the order of UIDs.
func (f *Folder) Read(ctx context.Context, m move.Mailbox, how move.Reading, v move.Visitor) error {
	if strings.HasPrefix(m.Source, otherPrefix) {
		if f.others == nil {
			if _, err := f.Mailboxes(ctx); err != nil {
				return err
			}
		}
		return f.others.read(ctx, m, how, v)
	}
	i := slices.IndexFunc(f.manifest.Mailboxes, func(e Entry) bool {
		return e.Path == m.Source || e.Path == "." && m.Source == "INBOX"
	})
	if i < 0 {
		return fault.Newf(fault.NotFound, "the export has no mailbox %q", m.Source)
	}
	e := &f.manifest.Mailboxes[i]
	x, err := readIndex(f.d, e.Index)
	if err != nil {
		return err
	}
	defer x.close()
	b, err := f.box(e)
	if err != nil {
		return err
	}
	defer b.close()
	x.sort()
	for from := 0; from < len(x.rows); from += move.MaxItems {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.some(ctx, e, b, x, x.rows[from:min(from+move.MaxItems, len(x.rows))], v); err != nil {
			return err
		}
	}
	return nil
}

// box opens a mailbox to be read, which changes nothing.
func (f *Folder) box(e *Entry) (box, error) {
	switch f.manifest.Form {
	case Mbox:
		file, err := f.d.OpenFile(e.Path, 0, 0)
		if err != nil {
			return nil, fault.Wrap(fault.Unavailable, e.Path+" cannot be read", err)
		}
		return &mboxBox{d: f.d, name: e.Path, f: file, quoting: f.manifest.Quoting, id: e.UIDValidity}, nil
	case Maildir:
		b := &maildirBox{files: files{d: f.d}, dir: e.Path, key: maildirKey(e)}
		if err := b.readWords(); err != nil {
			return nil, err
		}
		return b, b.list()
	}
	return &emlBox{files{d: f.d}, e.Path}, nil
}

// some tells of some messages.
func (f *Folder) some(ctx context.Context, e *Entry, b box, x *index, rows []mark, v move.Visitor) error {
	var items []move.Item
	var lines []Line
	for i := range rows {
		if rows[i].gone {
			continue // the account that comes back is the one that was last exported
		}
		l, err := x.line(&rows[i])
		if err != nil {
			return err
		}
		if md, ok := b.(*maildirBox); ok {
			md.flags(&l)
		}
		it := move.Item{
			Key: fmt.Sprintf("%d.%d", e.UIDValidity, l.UID), UID: l.UID, Size: l.Size,
			Flags: account.ParseFlags(l.Flags), Keywords: l.Keywords,
		}
		if l.Date != nil {
			it.Date = *l.Date
		}
		if it.Content, err = account.ParseContent(l.Content); err != nil {
			return err
		}
		items, lines = append(items, it), append(lines, l)
	}
	if len(items) == 0 {
		return nil
	}
	want, err := v.Want(ctx, items)
	if err != nil {
		return err
	}
	for i, it := range items {
		if i >= len(want) || !want[i] {
			continue
		}
		if err := put(ctx, b, &lines[i], it, v); err != nil {
			return err
		}
	}
	return nil
}

// put hands over a message, if its bytes are those that were exported.
func put(ctx context.Context, b box, l *Line, it move.Item, v move.Visitor) error {
	if why := damaged(b, l, it.Content); why != nil {
		return v.Skip(ctx, it, why)
	}
	r, err := message(b, l)
	if err != nil {
		return v.Skip(ctx, it, err)
	}
	defer r.Close()
	return v.Put(ctx, it, r)
}

// damaged reads a message to see whether it is whole: once it is on its way it is too late.
func damaged(b box, l *Line, want move.Content) error {
	r, err := message(b, l)
	if err != nil {
		return fault.Wrap(fault.NotFound, "the message's file cannot be read", err)
	}
	defer r.Close()
	var h move.Summer
	if _, err := io.Copy(&h, r); err != nil {
		return fault.Wrap(fault.Corrupt, "the message cannot be read", err)
	}
	if h.Content() != want {
		return fault.New(fault.Corrupt, "the message has been changed since it was exported")
	}
	return nil
}
