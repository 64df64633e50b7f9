// Package takeout reads mail out of a Google Takeout: its archives (zip, tgz; several parts),
// the folder they were unpacked into, or the mbox file alone.
//
// A Takeout has every message once, in one mbox file, with its labels in the field
// X-Gmail-Labels: in the language of the person's Gmail. The labels become mailboxes or
// keywords, and flags; the message stays as it is, with that field and X-GM-THRID.
//
// An archive is read from its beginning to its end, once for a plan and once for the import,
// and nothing of it is unpacked onto the disk: no name in it leads anywhere. What grows as no
// mail does is refused. An archive within the archive is not opened.
//
// APPNOTE.TXT (zip), POSIX pax (tar), RFC 4155 (mbox), RFC 2047 (labels).
package takeout

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/klauspost/compress/flate"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/mbox"
	"github.com/martlet-mail/martlet/internal/move/rfc822"
)

// maxEntries is how many files an archive may have.
const maxEntries = 1_000_000

// Part is one file of a Takeout, or the folder it was unpacked into ("." for all of FS).
type Part struct {
	FS   fs.FS
	Name string
}

// Options say how a Takeout is read.
type Options struct {
	ID     string // Source.ID
	Parts  []Part // in their order
	Labels Labels
	// Names adds to what is known of Gmail's languages: the name of a label, and what it is:
	// inbox, sent, drafts, spam, trash, starred, important, unread, opened, archived, chat, label.
	Names map[string]string
	Temp  func() (rfc822.Temp, error) // for messages that do not fit in memory
}

// Source is a Takeout.
type Source struct{ opt Options }

// New returns a source. Names that are no label's meaning are refused.
func New(opt Options) (*Source, error) {
	if _, err := newDictionary(nil, opt.Names); err != nil {
		return nil, fault.New(fault.Invalid, err.Error())
	}
	return &Source{opt}, nil
}

// ID names the source.
func (s *Source) ID() string { return s.opt.ID }

// Advice says that files are read, whose order is kept.
func (s *Source) Advice() move.Advice { return move.Advice{Files: true} }

// Close does nothing: files are open only while they are read.
func (s *Source) Close() error { return nil }

// Mailboxes returns the one mailbox that is all mail. Its messages say where they lie.
func (s *Source) Mailboxes(ctx context.Context) ([]move.Mailbox, error) {
	m := move.Mailbox{Name: "Archive", Source: "All Mail", Role: mail.RoleArchive, Subscribed: true, Messages: -1, Scattered: true}
	for _, p := range s.opt.Parts {
		info, err := fs.Stat(p.FS, p.Name)
		if err != nil {
			return nil, fault.Wrap(fault.NotFound, p.Name+" cannot be read: "+err.Error(), err)
		}
		if !info.IsDir() {
			m.Bytes += info.Size()
		}
	}
	return []move.Mailbox{m}, ctx.Err()
}

// Read goes once through all parts.
func (s *Source) Read(ctx context.Context, _ move.Mailbox, how move.Reading, v move.Visitor) error {
	r := &reading{opt: s.opt, ctx: ctx, how: how, v: v, seen: map[uint64]struct{}{}, keys: &rfc822.Keys{}}
	for _, p := range s.opt.Parts {
		if err := r.part(p); err != nil {
			return rfc822.Named(p.Name, err)
		}
	}
	if r.found == 0 {
		return fault.New(fault.Invalid, "there is no mail in it: no file ends in .mbox. Choose Mail when you ask for the Takeout")
	}
	return nil
}

// reading is one pass.
type reading struct {
	opt   Options
	ctx   context.Context
	how   move.Reading
	v     move.Visitor
	seen  map[uint64]struct{} // messages, by content and Gmail's number
	keys  *rfc822.Keys
	found int // mbox files
	words *dictionary
}

func (r *reading) part(p Part) error {
	info, err := fs.Stat(p.FS, p.Name)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return r.folder(p)
	}
	f, _, err := rfc822.Open(p.FS, p.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	start := make([]byte, 4)
	n, _ := io.ReadFull(f, start)
	at, isAt := f.(io.ReaderAt)
	back, seeks := f.(io.Seeker)
	if !isAt || !seeks {
		return fault.New(fault.Unsupported, "it cannot be read to and fro")
	}
	if _, err := back.Seek(0, io.SeekStart); err != nil {
		return err
	}
	switch {
	case bytes.HasPrefix(start[:n], []byte("PK")):
		return r.zip(at, info.Size())
	case bytes.HasPrefix(start[:n], []byte("From")):
		return r.mail(f)
	}
	return r.packed(f, strings.ToLower(p.Name))
}

// folder reads what was unpacked.
func (r *reading) folder(p Part) error {
	sub, err := fs.Sub(p.FS, p.Name)
	if err != nil {
		return err
	}
	return rfc822.Walk(sub, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		switch ext := strings.ToLower(path.Ext(name)); ext {
		case ".mbox", ".zip", ".tgz", ".gz", ".tar", ".zst":
			return r.part(Part{sub, name})
		}
		return nil
	})
}

// packed reads a tar archive, or an mbox file that was packed alone.
func (r *reading) packed(f io.Reader, name string) error {
	in := &rfc822.Counter{R: f}
	plain, _, err := rfc822.Unpack(in)
	if err != nil {
		return err
	}
	defer plain.Close()
	b := bufio.NewReaderSize(plain, 64<<10)
	start, err := b.Peek(512)
	if len(start) == 0 {
		if err == io.EOF {
			err = fault.New(fault.Invalid, "it is empty")
		}
		return err
	}
	if bytes.HasPrefix(start, []byte("From ")) {
		return r.mail(b)
	}
	if len(start) < 512 || string(start[257:262]) != "ustar" {
		return fault.New(fault.Invalid, "it is neither a zip or tar archive nor an mbox file")
	}
	return r.tar(b, in)
}

// safe tells whether the name of an entry stays below the folder that it is unpacked into.
func safe(name string) bool {
	name = strings.ToValidUTF8(strings.ReplaceAll(name, `\`, "/"), "?")
	name = strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	drive := len(name) > 1 && name[1] == ':'
	return name == "" || fs.ValidPath(name) && !strings.Contains(name, "\x00") && !drive
}

func unsafe(name string) error {
	return fault.Newf(fault.Invalid, "the archive has an entry that leads out of it (%.100q): Google makes no such archive, and nothing of it is taken", name)
}

func (r *reading) tar(plain io.Reader, in *rfc822.Counter) error {
	t := tar.NewReader(plain)
	for n := 0; ; n++ {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return rfc822.Damaged(err)
		}
		switch {
		case n > maxEntries:
			return fault.Newf(fault.TooLarge, "the archive has more than %d files", maxEntries)
		case !safe(h.Name):
			return unsafe(h.Name)
		case h.Typeflag == tar.TypeLink || h.Typeflag == tar.TypeSymlink:
			return fault.Newf(fault.Invalid, "the archive has a link (%.100q): Google makes no such archive, and nothing of it is taken", h.Name)
		}
		if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeGNUSparse || !isMail(h.Name) {
			continue
		}
		// A sparse file has more than what was unpacked.
		if err := r.mail(&rfc822.Ratio{R: t, In: in}); err != nil {
			return rfc822.Named(h.Name, err)
		}
	}
}

func isMail(name string) bool { return strings.EqualFold(path.Ext(name), ".mbox") }

func (r *reading) zip(at io.ReaderAt, size int64) error {
	z, err := zip.NewReader(at, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return rfc822.Damaged(err)
	}
	if len(z.File) > maxEntries {
		return fault.Newf(fault.TooLarge, "the archive has more than %d files", maxEntries)
	}
	z.RegisterDecompressor(zip.Deflate, flate.NewReader)
	for _, f := range z.File {
		if !safe(f.Name) {
			return unsafe(f.Name)
		}
		if f.Mode()&fs.ModeSymlink != 0 {
			return fault.Newf(fault.Invalid, "the archive has a link (%.100q): Google makes no such archive, and nothing of it is taken", f.Name)
		}
	}
	// Entries may overlap: what all of them grow to counts against the whole archive.
	whole := &rfc822.Ratio{In: &rfc822.Counter{N: size}}
	for _, f := range z.File {
		if !f.Mode().IsRegular() || !isMail(f.Name) {
			continue
		}
		entry, err := f.Open()
		if err != nil {
			return rfc822.Damaged(err)
		}
		whole.R = entry
		err = r.mail(whole)
		_ = entry.Close()
		if err != nil {
			return rfc822.Named(f.Name, err)
		}
	}
	return nil
}

// sample is how much of a file is looked at for the language of its labels.
const sample = 1 << 20

// mail reads an mbox file.
func (r *reading) mail(in io.Reader) error {
	b := bufio.NewReaderSize(in, sample)
	start, err := b.Peek(sample)
	if err != nil && err != io.EOF {
		return err
	}
	r.found++
	if len(bytes.TrimSpace(start)) == 0 && err == io.EOF {
		return nil
	}
	if r.words, err = newDictionary(languagesOf(labelsIn(start)), r.opt.Names); err != nil {
		return err
	}
	p := &mbox.Pass{
		Quoting: mbox.RD, Temp: r.opt.Temp, Keys: r.keys, Ignore: notContent,
		Fields: []string{"x-gmail-labels"}, Message: r.message,
	}
	return p.Stream(r.ctx, b, r.how, r.v)
}

// notContent tells of fields that Google adds and changes.
func notContent(name string) bool {
	return name == "x-gmail-labels" || name == "x-gm-thrid" || mbox.IsStatus(name)
}

// labelsIn returns the label fields in the beginning of a file.
func labelsIn(start []byte) (values []string) {
	scan := mbox.NewScanner(bytes.NewReader(start), bytes.NewReader(start), mbox.RD)
	for len(values) < 2000 && scan.Next() {
		header, err := rfc822.ReadHeader(scan)
		if err != nil {
			break
		}
		if h := rfc822.Glance(header, "x-gmail-labels"); h.Has("x-gmail-labels") {
			values = append(values, h.Get("x-gmail-labels"))
		}
	}
	return values
}

// message gives a message its places, flags and keywords. One that was there before, in a
// part or in the file of another label, is left out.
func (r *reading) message(from string, h *rfc822.Head, d rfc822.Digest, item *move.Item) bool {
	sum := sha256.Sum256([]byte(from + hex.EncodeToString(d[:])))
	id := binary.BigEndian.Uint64(sum[:])
	if _, again := r.seen[id]; again && gmailNumber(from) {
		return false
	}
	r.seen[id] = struct{}{}
	r.words.apply(h.Get("x-gmail-labels"), h.Has("x-gmail-labels"), r.opt.Labels, item)
	return true
}

// gmailNumber tells whether a From_ line has Gmail's number of the message:
// "From 1854321077546983461@xxx Mon Jan 05 10:00:00 +0000 2026".
func gmailNumber(from string) bool {
	number, _, ok := strings.Cut(strings.TrimPrefix(from, "From "), "@")
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}

var _ move.Source = (*Source)(nil)
