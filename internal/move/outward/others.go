package outward

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/eml"
	"github.com/martlet-mail/martlet/internal/move/maildir"
	"github.com/martlet-mail/martlet/internal/move/mbox"
	"github.com/martlet-mail/martlet/internal/move/rfc822"
)

// others is mail in an export's folder that no index tells of: other programs have put it there.
// It is read as mail of files is, by the packages that do so, which do not see ours.
type others struct {
	source move.Source
	list   []move.Mailbox          // as they are told
	there  map[string]move.Mailbox // as source knows them, by how they are told
}

// otherPrefix is before Mailbox.Source of such a mailbox.
const otherPrefix = "others:"

func findOthers(ctx context.Context, d Disk, m *Manifest) (*others, error) {
	o := &others{there: map[string]move.Mailbox{}}
	rest, err := newRest(d, m)
	if err != nil {
		return nil, err
	}
	switch m.Form {
	case Mbox:
		o.source = mbox.New(rest, ".", mbox.Options{})
	case Maildir:
		o.source = maildir.New(rest, "")
	default:
		o.source = eml.New(rest, ".", "Imported", "")
	}
	list, err := o.source.Mailboxes(ctx)
	if fault.Is(err, fault.Invalid) { // there are none
		return o, nil
	}
	if err != nil {
		return nil, err
	}
	for _, there := range list {
		if there.Messages == 0 {
			continue
		}
		told := there
		told.Source = otherPrefix + there.Source
		if len(told.Source) > 400 {
			told.Source = otherPrefix + rfc822.SourceName(there.Source+strings.Repeat("/", 400))
		}
		i := slices.IndexFunc(m.Mailboxes, func(e Entry) bool { return rfc822.SourceName(e.Path) == there.Source })
		if i >= 0 {
			e := &m.Mailboxes[i]
			told.Name, told.Role, told.Subscribed, told.UIDValidity = e.Mailbox, e.Role, e.Subscribed && !e.Gone, 0
		}
		o.list, o.there[told.Source] = append(o.list, told), there
	}
	return o, nil
}

func (o *others) read(ctx context.Context, m move.Mailbox, how move.Reading, v move.Visitor) error {
	there, ok := o.there[m.Source]
	if !ok {
		return fault.Newf(fault.NotFound, "the export has no mailbox %q", m.Source)
	}
	there.UIDValidity = m.UIDValidity
	return o.source.Read(ctx, there, how, v)
}

// rest is the folder without what was exported. Of an mbox file it has what lies behind the last
// message of the export.
type rest struct {
	d      Disk
	form   Form
	boxes  map[string]*Entry // by path
	behind map[string]int64  // mbox: how much of a file is ours
}

func newRest(d Disk, m *Manifest) (*rest, error) {
	r := &rest{d, m.Form, map[string]*Entry{}, map[string]int64{}}
	for i := range m.Mailboxes {
		e := &m.Mailboxes[i]
		r.boxes[path.Clean(e.Path)] = e
		if m.Form != Mbox {
			continue
		}
		n, err := ourPart(d, e, m.Quoting)
		if err != nil {
			return nil, err
		}
		r.behind[path.Clean(e.Path)] = n
	}
	return r, nil
}

// ourPart returns how much of an mbox file is what was exported, with what an export that was
// stopped has begun.
func ourPart(d Disk, e *Entry, q Quoting) (int64, error) {
	x, err := readIndex(d, e.Index)
	if err != nil {
		return 1 << 62, nil // it is told when the mailbox is read
	}
	defer x.close()
	f, err := d.OpenFile(e.Path, os.O_RDONLY, 0)
	if err != nil {
		return 1 << 62, nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() <= x.exported() {
		return 1 << 62, nil
	}
	j := journal{d: d, name: journalName(e)}
	if err := j.read(); err != nil {
		return 0, err
	}
	ours, err := j.wrote(f, x.exported(), info.Size(), q)
	if ours {
		return 1 << 62, err
	}
	return x.exported(), err
}

// hides tells whether a file is of the export.
func (r *rest) hides(name string) bool {
	if name == side || strings.HasPrefix(name, side+"/") || name == ManifestName {
		return true
	}
	dir, base := path.Split(name)
	dir = path.Clean(dir)
	switch r.form {
	case Maildir:
		e, sub := r.boxes[path.Dir(dir)], path.Base(dir)
		return e != nil && (sub == "cur" || sub == "new") && maildirUID(base, maildirKey(e)) != 0
	case EML:
		return r.boxes[dir] != nil && emlUID(base) != 0
	}
	return r.behind[name] == 1<<62
}

// Open opens what is not of the export.
func (r *rest) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) || r.hides(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	f, err := r.d.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	if at := r.behind[name]; at > 0 {
		info, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		return &part{io.NewSectionReader(f, at, max(0, info.Size()-at)), f, at}, nil
	}
	return &restFile{f, r, name}, nil
}

// Lstat tells of a file, or of the link itself.
func (r *rest) Lstat(name string) (fs.FileInfo, error) {
	if r.hides(name) {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	}
	return r.d.Lstat(name)
}

// ReadLink is not needed: links are not followed.
func (r *rest) ReadLink(name string) (string, error) {
	return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
}

// restFile is a file or a folder.
type restFile struct {
	*os.File
	rest *rest
	name string
}

// ReadDir lists what is not of the export.
func (f *restFile) ReadDir(n int) ([]fs.DirEntry, error) {
	for {
		list, err := f.File.ReadDir(n)
		all := len(list)
		list = slices.DeleteFunc(list, func(e fs.DirEntry) bool {
			name := path.Join(f.name, e.Name())
			return f.rest.hides(name) || e.IsDir() && strings.Count(name, "/") >= rfc822.MaxDepth // a mailbox may lie deeper
		})
		if len(list) > 0 || all == 0 || err != nil || n <= 0 {
			return list, err
		}
	}
}

// part is the end of a file.
type part struct {
	*io.SectionReader
	f  *os.File
	at int64
}

func (p *part) Close() error { return p.f.Close() }

func (p *part) Stat() (fs.FileInfo, error) {
	info, err := p.f.Stat()
	return partInfo{info, p.at}, err
}

type partInfo struct {
	fs.FileInfo
	at int64
}

func (i partInfo) Size() int64 { return max(0, i.FileInfo.Size()-i.at) }
