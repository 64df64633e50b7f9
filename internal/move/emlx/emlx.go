// Package emlx reads mail out of the folders of Apple Mail: its own (~/Library/Mail/V10 and
// earlier), in which messages are .emlx files, and those that it exports (NAME.mbox with a
// file mbox in it).
//
// A .emlx file is a line with the length of the message, the message, and a property list
// with flags and the date of arrival. A .partial.emlx file lacks its attachments, which
// lie in files beside it: they are put back in, encoded in base64. The bytes are then not
// those that once arrived, but the message is whole; one whose attachments are missing is
// said to be broken.
//
// It opens files only through the folder it is given, follows no link and writes nothing.
//
// Apple has published none of this; it is as its programs write it.
package emlx

import (
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
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/mbox"
	"github.com/martlet-mail/martlet/internal/move/rfc822"
)

// Source is a folder tree of Apple Mail.
type Source struct {
	id      string
	fsys    fs.FS
	root    string
	temp    func() (rfc822.Temp, error)
	folders map[string][]string // names of files, by Mailbox.Source
	mbox    *mbox.Source        // of exported folders
}

// New returns a source that reads the tree that fsys is. root is what files are called that lie
// in no mailbox; temp is for mbox files, as mbox.Options.Temp.
func New(fsys fs.FS, root, id string, temp func() (rfc822.Temp, error)) *Source {
	return &Source{id: id, fsys: fsys, root: root, temp: temp}
}

// ID names the source.
func (s *Source) ID() string { return s.id }

// Advice says that files are read, whose order is kept.
func (s *Source) Advice() move.Advice { return move.Advice{Files: true} }

// Close does nothing: files are open only while they are read.
func (s *Source) Close() error { return nil }

// Mailboxes lists the mailboxes that have messages.
func (s *Source) Mailboxes(ctx context.Context) ([]move.Mailbox, error) {
	s.folders, s.mbox = map[string][]string{}, nil
	var list []move.Mailbox
	at := map[string]int{}
	err := rfc822.Walk(s.fsys, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			list = append(list, move.Mailbox{Name: s.mailboxName(name), Source: rfc822.SourceName(name), Messages: -1, Bytes: -1, Unreadable: fault.Say(err)})
			return fs.SkipDir
		}
		if d.IsDir() || path.Ext(name) != ".emlx" || strings.HasPrefix(d.Name(), ".") {
			return ctx.Err()
		}
		box := boxOf(name)
		key := rfc822.SourceName(box)
		i, ok := at[key]
		if !ok {
			i, at[key] = len(list), len(list)
			list = append(list, move.Mailbox{Name: s.mailboxName(box), Source: key, Subscribed: true})
		}
		list[i].Messages++
		if info, err := d.Info(); err == nil {
			list[i].Bytes += info.Size()
		}
		s.folders[key] = append(s.folders[key], name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		s.mbox = mbox.New(s.fsys, ".", mbox.Options{ID: s.id, Temp: s.temp})
		if list, err = s.mbox.Mailboxes(ctx); err != nil {
			return nil, fault.New(fault.Invalid, "the folder is none of Apple Mail: it has neither .emlx files nor folders NAME.mbox with a file mbox")
		}
		return list, nil
	}
	for _, files := range s.folders {
		slices.SortFunc(files, func(a, b string) int { return cmp.Or(cmp.Compare(number(a), number(b)), strings.Compare(a, b)) })
	}
	rfc822.GiveRoles(list)
	rfc822.InboxFirst(list)
	return list, nil
}

// boxOf returns the innermost folder NAME.mbox of a file; "." if there is none.
func boxOf(name string) string {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if isBox(path.Base(dir)) {
			return dir
		}
	}
	return "."
}

func isBox(dir string) bool {
	ext := strings.ToLower(path.Ext(dir))
	return ext == ".mbox" || ext == ".imapmbox"
}

// mailboxName makes a name of the levels that are mailboxes: others are accounts.
func (s *Source) mailboxName(box string) string {
	var levels []string
	for _, dir := range strings.Split(box, "/") {
		if isBox(dir) {
			levels = append(levels, strings.ToValidUTF8(rfc822.Level(dir, ".mbox", ".imapmbox"), "\uFFFD"))
		}
	}
	if len(levels) == 0 {
		return s.root
	}
	return strings.Join(levels, "/")
}

// number is that of a message, which goes up with their arrival.
func number(name string) int64 {
	first, _, _ := strings.Cut(path.Base(name), ".")
	n, _ := strconv.ParseInt(first, 10, 62)
	return n
}

// Read goes through a mailbox.
func (s *Source) Read(ctx context.Context, m move.Mailbox, how move.Reading, v move.Visitor) error {
	if s.mbox != nil {
		return s.mbox.Read(ctx, m, how, v)
	}
	files, ok := s.folders[m.Source]
	if !ok {
		return fault.Newf(fault.NotFound, "there is no mailbox %s", m.Source)
	}
	var keys rfc822.Keys
	look := rfc822.NewLooker(rfc822.Form{}, func(string) bool { return false })
	batch := rfc822.NewBatch(v, how)
	for i, name := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		item, err := s.item(name, look, &keys)
		if err != nil {
			item = move.Item{Key: rfc822.KeyOfName("unreadable " + name), Size: -1, Broken: fault.Say(err)}
		}
		err = batch.Add(ctx, item, func() (io.ReadCloser, error) { return s.open(files[i]) })
		if err != nil {
			return err
		}
	}
	return batch.Flush(ctx)
}

// item goes through a file.
func (s *Source) item(name string, look *rfc822.Looker, keys *rfc822.Keys) (move.Item, error) {
	msg, err := s.message(name)
	if err != nil {
		return move.Item{}, err
	}
	defer msg.Close()
	seen, err := look.Look(msg)
	if err != nil {
		return move.Item{}, fault.Wrap(fault.Unavailable, path.Base(name)+" cannot be read to its end", err)
	}
	h := rfc822.Glance(seen.Header)
	item := move.Item{Key: keys.Key(seen.Digest), Size: seen.Size, MessageID: h.MessageID, Broken: cmp.Or(msg.broken, h.Broken)}
	if msg.missing != nil && *msg.missing > 0 {
		item.Broken = cmp.Or(item.Broken, strconv.Itoa(*msg.missing)+" of its attachments are not there: Apple Mail had not fetched them")
	}
	msg.list.apply(&item)
	return item, nil
}

func (s *Source) open(name string) (io.ReadCloser, error) {
	msg, err := s.message(name)
	if err != nil {
		return nil, err
	}
	return file{rfc822.NewReader(msg, rfc822.Form{}), msg}, nil
}

type file struct {
	io.Reader
	io.Closer
}

// message is what a file holds.
type message struct {
	io.Reader
	file    fs.File
	list    properties
	broken  string
	missing *int // attachments that are not there, counted while it is read; nil: it is whole
}

// Close closes the file.
func (m *message) Close() error { return m.file.Close() }

// maxList is how long a property list may be: those of Apple have about a kilobyte.
const maxList = 256 << 10

// message opens a file and reads what is around the message in it.
func (s *Source) message(name string) (*message, error) {
	f, info, err := rfc822.Open(s.fsys, name)
	if err != nil {
		return nil, err
	}
	at, ok := f.(io.ReaderAt)
	if !ok {
		_ = f.Close()
		return nil, fault.Newf(fault.Unsupported, "%s cannot be read to and fro", name)
	}
	m := &message{file: f}
	from, size := m.find(at, info.Size())
	m.Reader = io.NewSectionReader(at, from, size)
	if strings.HasSuffix(name, ".partial.emlx") {
		m.missing = new(int)
		m.Reader = newRebuild(m.Reader, s.attachments(name), m.missing)
	}
	return m, nil
}

// find returns where the message lies in the file, and reads the list behind it.
func (m *message) find(at io.ReaderAt, whole int64) (from, size int64) {
	start := make([]byte, 64)
	n, _ := at.ReadAt(start, 0)
	line, _, ok := bytes.Cut(start[:n], []byte("\n"))
	size, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 62)
	if !ok || err != nil || size < 0 {
		m.broken = "it is no .emlx file: its first line is not the length of the message"
		return 0, whole
	}
	from = int64(len(line)) + 1
	if size > whole-from {
		m.broken = "it is cut short: its file ends before the message does"
		return from, whole - from
	}
	rest := io.LimitReader(io.NewSectionReader(at, from+size, whole-from-size), maxList)
	if m.list, err = readProperties(rest); err != nil {
		m.broken = "what is kept of its flags cannot be read"
	}
	return from, size
}

var _ move.Source = (*Source)(nil)
