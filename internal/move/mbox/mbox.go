// Package mbox reads mail out of mbox files: one, or a tree of them such as a Thunderbird
// profile, packed (gzip, bzip2, zstd) or not.
//
// All four ways of quoting are known. A message is what stands between two From_ lines, its
// lines ended by CRLF and its quoted From_ lines unquoted; nothing else is changed unless
// StripStatus asks for it. Flags and keywords are taken from the fields that Dovecot, UW,
// mutt and Thunderbird keep them in; UIDs from X-UID if the file has its UIDVALIDITY.
//
// It opens files only through the folder it is given, follows no link and writes nothing,
// except that a message of a packed file may be kept in a temporary file.
//
// RFC 4155; mbox(5) of qmail; RFC 5322.
package mbox

import (
	"context"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/rfc822"
)

// Options say how mbox files are read.
type Options struct {
	ID          string // Source.ID
	Quoting     Quoting
	StripStatus bool                        // leave the fields out in which status is kept
	Temp        func() (rfc822.Temp, error) // for messages of packed files that do not fit in memory
}

// Source is an mbox file, or a folder tree of them.
type Source struct {
	opt   Options
	fsys  fs.FS
	name  string
	files map[string]string // by Mailbox.Source
}

// New returns a source that reads name within fsys: a file, or a folder ("." for all).
func New(fsys fs.FS, name string, opt Options) *Source {
	return &Source{opt: opt, fsys: fsys, name: name, files: map[string]string{}}
}

// ID names the source.
func (s *Source) ID() string { return s.opt.ID }

// Advice says that files are read, whose order is kept.
func (s *Source) Advice() move.Advice { return move.Advice{Files: true} }

// Close does nothing: files are open only while they are read.
func (s *Source) Close() error { return nil }

// Mailboxes lists the mbox files.
func (s *Source) Mailboxes(ctx context.Context) ([]move.Mailbox, error) {
	info, err := fs.Stat(s.fsys, s.name)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, s.name+" cannot be read: "+err.Error(), err)
	}
	var list []move.Mailbox
	if !info.IsDir() {
		m, ok, err := s.mailbox(s.name, levelOf(path.Base(s.name)))
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fault.Newf(fault.Invalid, "%s is no mbox file: it does not begin with a line \"From sender date\"", s.name)
		}
		list = []move.Mailbox{m}
	} else if list, err = s.tree(ctx); err != nil {
		return nil, err
	}
	rfc822.Apart(list)
	rfc822.GiveRoles(list)
	rfc822.InboxFirst(list)
	return list, nil
}

func (s *Source) tree(ctx context.Context) (list []move.Mailbox, err error) {
	sub, err := fs.Sub(s.fsys, s.name)
	if err != nil {
		return nil, err
	}
	err = rfc822.Walk(sub, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			list = append(list, move.Mailbox{Name: name, Source: rfc822.SourceName(name), Messages: -1, Bytes: -1, Unreadable: fault.Say(err)})
			return fs.SkipDir
		}
		if err := ctx.Err(); err != nil || d.IsDir() || beside(d.Name()) {
			return err
		}
		m, ok, err := s.mailbox(path.Join(s.name, name), mailboxName(name))
		if err != nil {
			m = move.Mailbox{Name: mailboxName(name), Source: rfc822.SourceName(name), Messages: -1, Bytes: -1, Unreadable: fault.Say(err)}
		}
		if ok || err != nil {
			list = append(list, m)
		}
		return nil
	})
	if err == nil && len(list) == 0 {
		err = fault.New(fault.Invalid, "the folder has no mbox file: none of its files begins with a line \"From sender date\"")
	}
	return list, err
}

// beside tells of files that lie beside mbox files.
func beside(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".msf", ".dat", ".html", ".json", ".lock", ".idx", ".index", ".log", ".cache", ".sqlite", ".js", ".eml", ".emlx", ".plist":
		return true
	}
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "dovecot")
}

// mailboxName makes a name of a file's path: Thunderbird keeps what is below a mailbox in
// a folder NAME.sbd; Apple Mail exports a folder NAME.mbox with a file mbox in it, and readpst
// a folder NAME with such a file.
func mailboxName(name string) string {
	levels := strings.Split(name, "/")
	last := len(levels) - 1
	if last > 0 && levels[last] == "mbox" {
		levels, last = levels[:last], last-1
	}
	for i := range levels[:last] {
		levels[i] = rfc822.Level(levels[i], ".sbd", ".mbox")
	}
	levels[last] = levelOf(levels[last])
	return strings.Join(levels, "/")
}

func levelOf(file string) string {
	return rfc822.Level(rfc822.Level(file, ".gz", ".bz2", ".zst"), ".mbox", ".mbx", ".mboxrd", ".mboxo", ".mboxcl", ".mboxcl2", ".mbs")
}

// mailbox looks whether a file is an mbox file, and what it tells at its beginning.
func (s *Source) mailbox(file, name string) (m move.Mailbox, ok bool, err error) {
	f, info, err := rfc822.Open(s.fsys, file)
	if err != nil {
		return m, false, err
	}
	defer f.Close()
	m = move.Mailbox{Name: name, Source: rfc822.SourceName(file), Messages: -1, Bytes: info.Size(), Subscribed: true}
	s.files[m.Source] = file
	if info.Size() == 0 {
		m.Messages = 0
		return m, strings.HasSuffix(file, ".mbox") || s.there(file+".msf") || s.there(file+".sbd") || file == s.name, nil
	}
	in, packed, err := rfc822.Unpack(f)
	if err != nil {
		return m, false, err
	}
	defer in.Close()
	if packed {
		m.Bytes = -1
	}
	scan := NewScanner(io.LimitReader(in, lookAhead), nil, RD)
	if !scan.Next() {
		return m, false, nil
	}
	// Of a file that was not named, a beginning with the word "From" is not enough.
	if _, _, _, dated := fromLine([]byte(scan.From + "\n")); !dated && file != s.name && path.Base(file) != "mbox" && path.Ext(file) != ".mbox" {
		return m, false, nil
	}
	header, err := rfc822.ReadHeader(scan)
	if err != nil {
		return m, false, err
	}
	m.UIDValidity = uidValidity(header)
	return m, true, nil
}

func (s *Source) there(file string) bool {
	_, err := fs.Stat(s.fsys, file)
	return err == nil
}

// Read goes through a file.
func (s *Source) Read(ctx context.Context, m move.Mailbox, how move.Reading, v move.Visitor) error {
	file, ok := s.files[m.Source]
	if !ok {
		return fault.Newf(fault.NotFound, "there is no file %s", m.Source)
	}
	f, _, err := rfc822.Open(s.fsys, file)
	if err != nil {
		return err
	}
	defer f.Close()
	p := &Pass{Quoting: s.opt.Quoting, Form: Form(s.opt.StripStatus), KeepUIDs: m.UIDValidity != 0, Temp: s.opt.Temp}
	in, packed, err := rfc822.Unpack(f)
	if err != nil {
		return err
	}
	defer in.Close()
	at, _ := f.(io.ReaderAt)
	back, seeks := f.(io.Seeker)
	if packed || at == nil || !seeks {
		return named(file, p.Stream(ctx, in, how, v))
	}
	if _, err := back.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return named(file, p.File(ctx, f, at, how, v))
}

// named says of which file an error speaks.
func named(file string, err error) error {
	if err == nil || fault.Of(err) != fault.Corrupt {
		return err
	}
	return rfc822.Named(file, err)
}

var _ move.Source = (*Source)(nil)

// uids keeps UIDs as long as every message has one and they go up.
type uids struct {
	keep bool
	last mail.UID
}

func (u *uids) next(uid mail.UID) mail.UID {
	if !u.keep || uid <= u.last {
		u.keep = false
		return 0
	}
	u.last = uid
	return uid
}
