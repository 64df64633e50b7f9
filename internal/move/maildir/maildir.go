// Package maildir reads mail out of a Maildir: one alone, Maildir++ (folders called
// ".Sent.2025"), or a tree of Maildirs as mbsync and Dovecot's layout "fs" make them.
//
// Flags are read from the names of files. UIDs, UIDVALIDITY and keywords are those of Dovecot
// (dovecot-uidlist, dovecot-keywords) or Courier (courierimapuiddb), if their files are there:
// then clients need not download anything again. Which folders are subscribed is read from
// Dovecot's and Courier's lists.
//
// It opens files only through the folder it is given, follows no link and writes nothing.
// A Maildir may be in use: what vanishes while it is read is looked for under its new
// name, and passed over if it has none. What is in tmp is not mail yet.
//
// maildir(5) of qmail; Maildir++ of Courier; Dovecot's notes on its formats.
package maildir

import (
	"context"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/rfc822"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// Source is a Maildir with its folders.
type Source struct {
	id      string
	fsys    fs.FS
	folders map[string]string // by Mailbox.Source
}

// New returns a source that reads the Maildir, or the tree of them, that fsys is.
func New(fsys fs.FS, id string) *Source {
	return &Source{id: id, fsys: fsys, folders: map[string]string{}}
}

// ID names the source.
func (s *Source) ID() string { return s.id }

// Advice says that files are read, whose order is kept.
func (s *Source) Advice() move.Advice { return move.Advice{Files: true} }

// Close does nothing: files are open only while they are read.
func (s *Source) Close() error { return nil }

// Mailboxes lists the folders that are Maildirs.
func (s *Source) Mailboxes(ctx context.Context) ([]move.Mailbox, error) {
	subscribed, known := subscriptions(s.fsys)
	var list []move.Mailbox
	err := rfc822.Walk(s.fsys, func(name string, d fs.DirEntry, err error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if d != nil && !d.IsDir() {
			return nil
		}
		switch base := path.Base(name); {
		case err != nil:
			list = append(list, move.Mailbox{Name: mailboxName(name), Source: rfc822.SourceName(name), Messages: -1, Bytes: -1, Unreadable: fault.Say(err)})
			return fs.SkipDir
		case base == "cur" || base == "new" || base == "tmp":
			return fs.SkipDir
		case !s.isMaildir(name):
			return nil
		}
		m, err := s.mailbox(name)
		if err != nil {
			m.Unreadable = fault.Say(err)
		}
		m.Subscribed = !known || m.Name == "INBOX" || subscribed[m.Name]
		list = append(list, m)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fault.New(fault.Invalid, "the folder is no Maildir, and has none in it: no folder in it has a folder \"cur\" or \"new\"")
	}
	withoutPrefix(list)
	rfc822.Apart(list)
	rfc822.GiveRoles(list)
	rfc822.InboxFirst(list)
	return list, nil
}

func (s *Source) isMaildir(name string) bool {
	return s.isFolder(path.Join(name, "cur")) || s.isFolder(path.Join(name, "new"))
}

// isFolder tells whether a name is that of a folder, and not of a link to one.
func (s *Source) isFolder(name string) bool {
	info, err := lstat(s.fsys, name)
	return err == nil && info.IsDir()
}

// mailbox counts a folder.
func (s *Source) mailbox(folder string) (move.Mailbox, error) {
	m := move.Mailbox{Name: mailboxName(folder), Source: rfc822.SourceName(folder), Messages: -1, Bytes: -1}
	s.folders[m.Source] = folder
	l, err := s.list(folder)
	if err != nil {
		return m, err
	}
	m.UIDValidity, m.Messages, m.Bytes = l.validity, int64(len(l.rows)), 0
	for i := range l.rows {
		size, ok := sizeIn(l.name(&l.rows[i]))
		if !ok {
			m.Bytes = -1
			break
		}
		m.Bytes += size
	}
	return m, nil
}

// mailboxName makes a name of a folder's path. In Maildir++ the levels are in one name, parted
// and begun by dots; elsewhere a folder is a level.
func mailboxName(folder string) string {
	if folder == "." {
		return "INBOX"
	}
	var levels []string
	for _, dir := range strings.Split(folder, "/") {
		if rest, ok := strings.CutPrefix(dir, "."); ok && rest != "" {
			for _, level := range strings.Split(rest, ".") {
				levels = append(levels, decoded(level))
			}
			continue
		}
		levels = append(levels, decoded(dir))
	}
	return strings.Join(levels, "/")
}

// decoded reads a level in modified UTF-7, or in UTF-8 (Dovecot's setting UTF-8). A "/" that
// a level may have in UTF-7 would part it.
func decoded(level string) string {
	if name, err := imap.DecodeUTF7(level); err == nil {
		level = name
	} else if !utf8.ValidString(level) {
		level = strings.ToValidUTF8(level, "\uFFFD")
	}
	return strings.ReplaceAll(level, "/", "_")
}

// withoutPrefix takes the level INBOX off names that have more, as servers with the prefix
// "INBOX." show them, unless that is the name of another.
func withoutPrefix(list []move.Mailbox) {
	taken := map[string]bool{}
	for _, m := range list {
		taken[m.Name] = true
	}
	for i, m := range list {
		first, rest, ok := strings.Cut(m.Name, "/")
		if ok && strings.EqualFold(first, "INBOX") && !taken[rest] {
			list[i].Name, taken[rest] = rest, true
		}
	}
}

// Read goes through a folder.
func (s *Source) Read(ctx context.Context, m move.Mailbox, how move.Reading, v move.Visitor) error {
	folder, ok := s.folders[m.Source]
	if !ok {
		return fault.Newf(fault.NotFound, "there is no folder %s", m.Source)
	}
	l, err := s.list(folder)
	if err != nil {
		return err
	}
	words := keywords(s.fsys, folder)
	l.timesLost = s.timesLost(l)
	b := rfc822.NewBatch(v, how)
	for from, to := range blocks(len(l.rows), how.Order) {
		for i := from; i < to; i++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			item := s.item(l, &l.rows[i], words, how.Plan)
			row := &l.rows[i]
			if err := b.Add(ctx, item, s.opener(l, row)); err != nil {
				return err
			}
		}
		if err := b.Flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// blocks gives the ranges in which n messages are read.
func blocks(n int, order move.Order) func(yield func(from, to int) bool) {
	return func(yield func(from, to int) bool) {
		if order != move.NewestFirst {
			if n > 0 {
				yield(0, n)
			}
			return
		}
		for to := n; to > 0; to -= move.MaxItems {
			if !yield(max(0, to-move.MaxItems), to) {
				return
			}
		}
	}
}

// item tells of a message. One that has vanished is told of, too: it is skipped with a reason if it
// is wanted.
func (s *Source) item(l *listing, r *row, words []string, plan bool) move.Item {
	item := move.Item{Key: l.key(r), UID: r.uid, Size: -1}
	info, err := s.stat(l, r)
	name := l.name(r) // which it may have only now
	if err != nil {
		item.Broken = "it was removed while the folder was read"
	} else {
		item.Size, item.Date = info.Size(), info.ModTime()
	}
	if size, ok := sizeIn(name); ok {
		item.Size = size
	}
	if made := stamp(name); !made.IsZero() && (l.timesLost || err != nil) {
		item.Date = made
	}
	item.Flags, item.Keywords = flagsIn(name, words)
	for _, k := range l.courier[base(name)] {
		if !slices.Contains(item.Keywords, k) {
			item.Keywords = append(item.Keywords, k)
		}
	}
	if plan && err == nil {
		s.plan(l, r, &item)
	}
	return item
}

// timesLost tells whether the times of files are those of a copy, and not of the messages: they
// all lie behind the times in the names, and close together, where those are far apart. Some
// files are looked at.
func (s *Source) timesLost(l *listing) bool {
	const some, day = 200, 86400
	var firstMade, lastMade, first, last int64
	for i := 0; i < len(l.rows); i += 1 + len(l.rows)/some {
		made := stamp(l.name(&l.rows[i]))
		info, err := s.stat(l, &l.rows[i])
		if err != nil || made.IsZero() {
			continue
		}
		at := info.ModTime().Unix()
		if last == 0 {
			firstMade, lastMade, first, last = made.Unix(), made.Unix(), at, at
		}
		firstMade, lastMade = min(firstMade, made.Unix()), max(lastMade, made.Unix())
		first, last = min(first, at), max(last, at)
	}
	return last-first < day && (last-first)*20 < lastMade-firstMade && lastMade-firstMade > day && first > lastMade-day
}

// plan adds what only the file's beginning tells.
func (s *Source) plan(l *listing, r *row, item *move.Item) {
	f, err := s.opener(l, r)()
	if err != nil {
		item.Broken = fault.Say(err)
		return
	}
	defer f.Close()
	header, err := rfc822.ReadHeader(f)
	if err != nil {
		item.Broken = "it cannot be read"
		return
	}
	h := rfc822.Glance(header)
	item.MessageID, item.Broken = h.MessageID, h.Broken
}

var _ move.Source = (*Source)(nil)

// flagLetters are the flags in names; P, "passed", is forwarded or bounced.
var flagLetters = map[byte]mail.Flags{'D': mail.Draft, 'F': mail.Flagged, 'R': mail.Answered, 'S': mail.Seen, 'T': mail.Deleted}
