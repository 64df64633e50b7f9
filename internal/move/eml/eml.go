// Package eml reads mail out of folders of single messages: .eml files as mail programs save
// them, and MH folders, where messages are files called by numbers.
//
// A folder is a mailbox, and so are those in it. Flags are read from the fields in which
// Thunderbird and others keep them, from Outlook's X-Unsent, and from MH's .mh_sequences.
// There is no internal date: it is that of the message's Date field. What Martlet itself has
// exported as eml has all of this beside it, and is read by package outward.
//
// It opens files only through the folder it is given, follows no link and writes nothing.
//
// RFC 5322; mh-sequence(5) of nmh.
package eml

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/mbox"
	"github.com/martlet-mail/martlet/internal/move/rfc822"
)

// Source is a folder tree of messages, or one message.
type Source struct {
	id, name, root string
	fsys           fs.FS
	folders        map[string][]string // names of files, by Mailbox.Source
}

// New returns a source that reads name within fsys: a file, or a folder ("." for all). root
// is what the mailbox of files in the folder itself is called.
func New(fsys fs.FS, name, root, id string) *Source {
	return &Source{id: id, name: name, root: root, fsys: fsys}
}

// ID names the source.
func (s *Source) ID() string { return s.id }

// Advice says that files are read, whose order is kept.
func (s *Source) Advice() move.Advice { return move.Advice{Files: true} }

// Close does nothing: files are open only while they are read.
func (s *Source) Close() error { return nil }

// Mailboxes lists the folders that have messages.
func (s *Source) Mailboxes(ctx context.Context) ([]move.Mailbox, error) {
	s.folders = map[string][]string{}
	info, err := fs.Stat(s.fsys, s.name)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, s.name+" cannot be read: "+err.Error(), err)
	}
	if !info.IsDir() {
		s.folders["."] = []string{s.name}
		return []move.Mailbox{{Name: s.root, Source: ".", Subscribed: true, Messages: 1, Bytes: info.Size()}}, nil
	}
	sub, err := fs.Sub(s.fsys, s.name)
	if err != nil {
		return nil, err
	}
	var list []move.Mailbox
	at := map[string]int{}
	err = rfc822.Walk(sub, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			list = append(list, move.Mailbox{Name: name, Source: rfc822.SourceName(name), Messages: -1, Bytes: -1, Unreadable: fault.Say(err)})
			return fs.SkipDir
		}
		if d.IsDir() || !isMessage(d.Name()) {
			return ctx.Err()
		}
		dir := path.Dir(name)
		key := rfc822.SourceName(dir)
		i, ok := at[key]
		if !ok {
			i, at[key] = len(list), len(list)
			list = append(list, move.Mailbox{Name: s.mailboxName(dir), Source: key, Subscribed: true})
		}
		list[i].Messages++
		if info, err := d.Info(); err == nil {
			list[i].Bytes += info.Size()
		}
		s.folders[key] = append(s.folders[key], path.Join(s.name, name))
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fault.New(fault.Invalid, "the folder has no messages: no file in it ends in .eml, and none is called by a number")
	}
	for _, files := range s.folders {
		slices.SortFunc(files, byNumber)
	}
	rfc822.Apart(list)
	rfc822.GiveRoles(list)
	rfc822.InboxFirst(list)
	return list, nil
}

func (s *Source) mailboxName(dir string) string {
	if dir == "." {
		return s.root
	}
	return strings.ToValidUTF8(dir, "\uFFFD")
}

// isMessage tells by its name whether a file is a message.
func isMessage(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".eml", ".rfc822", ".mime", ".mht", ".email":
		return name[0] != '.'
	}
	_, ok := number(name)
	return ok
}

// number is that of a file of an MH folder.
func number(name string) (int, bool) {
	n, err := strconv.Atoi(name)
	return n, err == nil && n > 0 && name[0] != '+' && name[0] != '0'
}

// byNumber compares names as people number files: 2 before 10.
func byNumber(a, b string) int {
	x, y := path.Base(a), path.Base(b)
	for x != "" && y != "" {
		n, m := digits(x), digits(y)
		if n > 0 && m > 0 {
			one, two := strings.TrimLeft(x[:n], "0"), strings.TrimLeft(y[:m], "0")
			if c := cmp.Or(cmp.Compare(len(one), len(two)), strings.Compare(one, two)); c != 0 {
				return c
			}
			x, y = x[n:], y[m:]
			continue
		}
		if x[0] != y[0] {
			return cmp.Compare(x[0], y[0])
		}
		x, y = x[1:], y[1:]
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(a, b))
}

func digits(s string) (n int) {
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// Read goes through a folder.
func (s *Source) Read(ctx context.Context, m move.Mailbox, how move.Reading, v move.Visitor) error {
	files, ok := s.folders[m.Source]
	if !ok {
		return fault.Newf(fault.NotFound, "there is no folder %s", m.Source)
	}
	var keys rfc822.Keys
	look := rfc822.NewLooker(rfc822.Form{}, mbox.IsStatus)
	batch := rfc822.NewBatch(v, how)
	marks := s.sequences(path.Dir(files[0]))
	for i, name := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		item, err := s.item(name, look, &keys, marks)
		if err != nil {
			// It has no content to be known by.
			item = move.Item{Key: rfc822.KeyOfName("unreadable " + name), Size: -1, Broken: fault.Say(err)}
		}
		err = batch.Add(ctx, item, func() (io.ReadCloser, error) { return open(s.fsys, files[i]) })
		if err != nil {
			return err
		}
	}
	return batch.Flush(ctx)
}

// item goes through a file.
func (s *Source) item(name string, look *rfc822.Looker, keys *rfc822.Keys, marks map[int]mail.Flags) (move.Item, error) {
	f, _, err := rfc822.Open(s.fsys, name)
	if err != nil {
		return move.Item{}, err
	}
	defer f.Close()
	seen, err := look.Look(begin(f))
	if err != nil {
		return move.Item{}, fault.Wrap(fault.Unavailable, path.Base(name)+" cannot be read to its end", err)
	}
	h := rfc822.Glance(seen.Header, append(mbox.StatusFields(), "x-unsent")...)
	status := mbox.ReadStatus(h)
	item := move.Item{
		Key: keys.Key(seen.Digest), Size: seen.Size, MessageID: h.MessageID, Broken: h.Broken,
		Flags: status.Flags, Keywords: status.Keywords,
	}
	if h.Get("x-unsent") == "1" {
		item.Flags |= mail.Draft
	}
	if n, ok := number(path.Base(name)); ok && marks != nil {
		item.Flags |= mail.Seen&^marks[n] | marks[n]&^mail.Seen
	}
	return item, nil
}

type file struct {
	io.Reader
	io.Closer
}

func open(fsys fs.FS, name string) (io.ReadCloser, error) {
	f, _, err := rfc822.Open(fsys, name)
	if err != nil {
		return nil, err
	}
	return file{rfc822.NewReader(begin(f), rfc822.Form{}), f}, nil
}

// begin passes over what some programs put before a message: a byte order mark, a From_ line.
func begin(r io.Reader) io.Reader {
	b := bufio.NewReaderSize(r, 4<<10)
	if start, _ := b.Peek(3); bytes.Equal(start, []byte("\xef\xbb\xbf")) {
		_, _ = b.Discard(3)
	}
	start, _ := b.Peek(1 << 10)
	if i := bytes.IndexByte(start, '\n'); i > 0 && mbox.IsFromLine(start[:i+1]) {
		_, _ = b.Discard(i + 1)
	}
	return b
}

// maxSequences is how long an .mh_sequences may be.
const maxSequences = 8 << 20

// sequences reads .mh_sequences: "unseen: 3-5 9". In what is returned Seen stands for unseen; nil is
// a folder without the file, in which nothing is said of it.
func (s *Source) sequences(dir string) map[int]mail.Flags {
	b, err := rfc822.ReadSmall(s.fsys, path.Join(dir, ".mh_sequences"), maxSequences)
	if err != nil {
		return nil
	}
	marks := map[int]mail.Flags{}
	for line := range strings.Lines(string(b)) {
		name, ranges, _ := strings.Cut(line, ":")
		flag := map[string]mail.Flags{"unseen": mail.Seen, "flagged": mail.Flagged, "replied": mail.Answered}[strings.TrimSpace(name)]
		if flag == 0 {
			continue
		}
		for _, r := range strings.Fields(ranges) {
			from, to, ok := strings.Cut(r, "-")
			a, err := strconv.Atoi(from)
			z := a
			if ok && err == nil {
				z, err = strconv.Atoi(to)
			}
			if err != nil || a < 1 || z < a || z-a > 1_000_000 || len(marks) > 1_000_000 {
				continue
			}
			for n := a; n <= z; n++ {
				marks[n] |= flag
			}
		}
	}
	return marks
}

var _ move.Source = (*Source)(nil)
