package outward

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/account"
)

// Quoting is how a line that begins with "From " is kept from being taken for the
// beginning of a message.
type Quoting string

// The four kinds of mbox.
const (
	QuoteRD  Quoting = "rd"  // ">" before it, and before those that have some already; can be undone
	QuoteO   Quoting = "o"   // ">" before "From " only; cannot be told from what was there
	QuoteCL  Quoting = "cl"  // as o, and Content-Length
	QuoteCL2 Quoting = "cl2" // Content-Length alone
)

// mboxBox is a mailbox as an mbox file.
type mboxBox struct {
	d       Disk
	name    string
	f       *os.File
	w       *bufio.Writer
	end     int64
	quoting Quoting
	id      uint32 // UIDVALIDITY
	first   bool   // no message is in it yet
	journal journal
}

// openMbox opens one, and cuts off what an export that was stopped had begun to write. Mail that
// another program has put there since is not cut off: the error is errOthers then.
func openMbox(d Disk, e *Entry, x *index, q Quoting) (*mboxBox, error) {
	if err := mkdirs(d, path.Dir(e.Path)); err != nil {
		return nil, err
	}
	f, err := d.OpenFile(e.Path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, writing(e.Path, err)
	}
	b := &mboxBox{d: d, name: e.Path, f: f, quoting: q, id: e.UIDValidity, first: x.last == nil, end: x.exported()}
	b.journal = journal{d: d, name: journalName(e)}
	info, err := f.Stat()
	if err == nil {
		err = b.journal.read()
	}
	switch {
	case err != nil:
	case info.Size() < b.end:
		err = fault.Newf(fault.Corrupt, "%s is shorter than what was exported; remove the export and make it anew", e.Path)
	case info.Size() > b.end:
		if ours, why := b.journal.wrote(f, b.end, info.Size(), q); why != nil {
			err = why
		} else if !ours {
			err = fault.Wrap(fault.Exists, fmt.Sprintf("%s has mail behind byte %d that this export did not put there, and that it will not cut off: bring it into an account (martlet import mbox FOLDER) and export to another folder, or take it out of the file", e.Path, b.end), errOthers)
		} else {
			err = f.Truncate(b.end)
		}
	}
	if err == nil {
		_, err = f.Seek(b.end, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, writing(e.Path, err)
	}
	b.w = bufio.NewWriterSize(f, 256<<10)
	return b, syncFolder(d, path.Dir(e.Path))
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func (b *mboxBox) put(l *Line, t *text) error {
	if err := b.journal.begin(b.end); err != nil {
		return err
	}
	l.At, l.Raw = b.end, t.raw
	c := &counter{w: b.w}
	e := mboxEntry{w: c, quoting: b.quoting}
	length := int64(-1)
	if b.quoting == QuoteCL || b.quoting == QuoteCL2 {
		size := mboxEntry{w: io.Discard, quoting: b.quoting, marks: func() []byte { return nil }}
		if err := size.message(t); err != nil {
			return writing(b.name, err)
		}
		length = size.body
	}
	e.marks = func() []byte {
		m := b.marks(l, t, length)
		l.Marks, l.Marked = c.n, int64(len(m))
		return m
	}
	fmt.Fprintf(c, ourFrom+"%s\n", l.Date.UTC().Format(time.ANSIC))
	if err := e.message(t); err != nil {
		return writing(b.name, err)
	}
	if _, err := io.WriteString(c, "\n"); err != nil {
		return writing(b.name, err)
	}
	l.Length = c.n
	b.end += c.n
	b.first = false
	return nil
}

// wordsRoom is how many bytes of keywords a message has room for at least.
const wordsRoom = 64

// marks are the fields that tell what mbox has no place for, as Dovecot and UW-IMAP write
// them. They have room for other flags.
func (b *mboxBox) marks(l *Line, t *text, length int64) []byte {
	eol := lineEnd(t.raw)
	var m []byte
	if b.first {
		m = append(b.base(l.UID, l.Keywords), eol...)
	}
	if length >= 0 {
		m = fmt.Appendf(m, "Content-Length: %d%s", length, eol)
	}
	m = fmt.Appendf(m, "X-UID: %d%s", l.UID, eol)
	return append(m, flagFields(l, 0, eol)...)
}

// baseRoom is how many bytes the keywords of a file have room for in its first message.
const baseRoom = 500

// base is the field that tells UIDVALIDITY, the last UID and which keywords there are, in the
// first message of a file. Dovecot knows no others.
func (b *mboxBox) base(last mail.UID, words []string) []byte {
	text := ""
	for _, w := range words {
		if len(text)+len(w)+1 <= baseRoom {
			text += " " + w
		}
	}
	return fmt.Appendf(nil, "X-IMAPbase: %010d %010d%-*s", b.id, last, baseRoom, text)
}

func lineEnd(raw bool) string {
	if raw {
		return "\r\n"
	}
	return "\n"
}

// flagFields are those that may change. room is how many bytes the keywords are to take, 0:
// as many as they need.
func flagFields(l *Line, room int, eol string) []byte {
	f := account.ParseFlags(l.Flags)
	letter := func(flag mail.Flags, c byte) byte {
		if f.Has(flag) {
			return c
		}
		return ' '
	}
	seen := letter(mail.Seen, 'R')
	status := []byte{'O', ' '}
	if seen == 'R' {
		status = []byte{'R', 'O'}
	}
	var x []byte
	for _, c := range []struct {
		flag   mail.Flags
		letter byte
	}{{mail.Answered, 'A'}, {mail.Flagged, 'F'}, {mail.Draft, 'T'}, {mail.Deleted, 'D'}} {
		if f.Has(c.flag) {
			x = append(x, c.letter)
		}
	}
	words := strings.Join(l.Keywords, " ")
	if room == 0 {
		room = max(wordsRoom, len(words))
	}
	return fmt.Appendf(nil, "Status: %s%sX-Status: %-4s%sX-Keywords: %-*s%s", status, eol, x, eol, room, words, eol)
}

func (b *mboxBox) settle() error {
	if err := b.w.Flush(); err != nil {
		return writing(b.name, err)
	}
	b.journal.settled()
	return writing(b.name, b.f.Sync())
}

// reflag writes other flags over the ones in the file, if there is room for them.
func (b *mboxBox) reflag(_, now Line) error {
	if err := b.w.Flush(); err != nil {
		return writing(b.name, err)
	}
	old := make([]byte, now.Marked)
	if _, err := b.f.ReadAt(old, now.At+now.Marks); err != nil {
		return writing(b.name, err)
	}
	eol := lineEnd(now.Raw)
	at := bytes.Index(old, []byte("Status: "))
	words := bytes.Index(old, []byte("X-Keywords: "))
	if at < 0 || words < at {
		return nil // not as it was made; the index says what is so
	}
	room := bytes.IndexByte(old[words:], '\n') - len("X-Keywords: ") - len(eol) + 1
	fields := flagFields(&now, room, eol)
	if at+len(fields) > len(old) || len(strings.Join(now.Keywords, " ")) > room {
		return nil
	}
	_, err := b.f.WriteAt(fields, now.At+now.Marks+int64(at))
	return writing(b.name, err)
}

// finish writes the last UID and the keywords into the first message.
func (b *mboxBox) finish(e *Entry, x *index) error {
	if err := b.journal.end(); err != nil {
		return err
	}
	if x.first == nil || x.first.At != 0 {
		return nil
	}
	want := b.base(max(1, e.UIDNext)-1, x.keywords())
	have := make([]byte, len(want))
	if _, err := b.f.ReadAt(have, x.first.Marks); err != nil {
		return writing(b.name, err)
	}
	if bytes.Equal(have, want) || !bytes.HasPrefix(have, []byte(fmt.Sprintf("X-IMAPbase: %010d ", b.id))) {
		return nil
	}
	if _, err := b.f.WriteAt(want, x.first.Marks); err != nil {
		return writing(b.name, err)
	}
	return writing(b.name, b.f.Sync())
}

func (b *mboxBox) close() {
	b.journal.close()
	b.f.Close()
}

func (b *mboxBox) read(l *Line) (io.ReadCloser, error) {
	u := newUnquoted(io.NewSectionReader(b.f, l.At, l.Length), l, b.quoting)
	return io.NopCloser(io.LimitReader(u, l.Size)), nil // a line end that was added is beyond
}

// own are fields that mean something to readers of mbox files. Those of a message itself are
// written with a prefix, which is taken away again: a message must not tell its own flags,
// UID or length.
var own = []string{"status:", "x-status:", "x-keywords:", "x-uid:", "x-imapbase:", "x-imap:", "content-length:"}

const keptPrefix = "X-Kept-"

// isOwn tells whether a line of a header is such a field, behind any number of prefixes.
func isOwn(line []byte) bool {
	for bytes.HasPrefix(line, []byte(keptPrefix)) {
		line = line[len(keptPrefix):]
	}
	i := bytes.IndexByte(line[:min(len(line), 64)], ':')
	if i < 0 {
		return false
	}
	name := strings.ToLower(string(bytes.TrimRight(line[:i], " \t"))) + ":"
	return slices.Contains(own, name)
}

// fromAt tells whether a line begins with "From ", behind how many ">".
func fromAt(line []byte) (quotes int, ok bool) {
	for quotes < len(line) && line[quotes] == '>' {
		quotes++
	}
	return quotes, bytes.HasPrefix(line[quotes:], []byte("From "))
}

// quoted tells whether a line that begins with "From " behind some ">" is given one more.
func (q Quoting) quoted(quotes int, header bool) bool {
	switch {
	case q == QuoteRD, q == QuoteCL2 && header:
		return true
	case q == QuoteCL2:
		return false
	}
	return quotes == 0
}

// mboxEntry writes a message as mbox has it.
type mboxEntry struct {
	w       io.Writer
	quoting Quoting
	marks   func() []byte
	header  bool  // it is not over
	body    int64 // bytes of the body as they are written
}

// message writes the message, with the marks at the end of its header and an end to its
// last line.
func (e *mboxEntry) message(t *text) error {
	r := bufio.NewReaderSize(t.stored(), 64<<10)
	e.header = true
	start := true
	for {
		p, err := r.ReadSlice('\n')
		if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		if len(p) > 0 {
			if err := e.piece(p, start); err != nil {
				return err
			}
			start = p[len(p)-1] == '\n'
		}
		if err == io.EOF {
			break
		}
	}
	if !start {
		if _, err := io.WriteString(e.w, "\n"); err != nil {
			return err
		}
	}
	if e.header {
		return e.out(e.marks())
	}
	return nil
}

// piece writes a line, or a piece of a long one.
func (e *mboxEntry) piece(p []byte, start bool) error {
	if start && e.header && isEmpty(p) {
		if err := e.out(e.marks()); err != nil {
			return err
		}
		_, err := e.w.Write(p)
		e.header = false
		return err
	}
	if start {
		quotes, from := fromAt(p)
		before := ""
		switch {
		case from && e.quoting.quoted(quotes, e.header):
			before = ">"
		case e.header && isOwn(p):
			before = keptPrefix
		}
		if err := e.out([]byte(before)); err != nil {
			return err
		}
	}
	return e.out(p)
}

func isEmpty(line []byte) bool { return line[0] == '\n' || bytes.HasPrefix(line, []byte("\r\n")) }

func (e *mboxEntry) out(p []byte) error {
	if !e.header {
		e.body += int64(len(p))
	}
	_, err := e.w.Write(p)
	return err
}

// unquoted gives the bytes of a message that lies in an mbox file.
type unquoted struct {
	r       *bufio.Reader
	l       *Line
	quoting Quoting
	pos     int64 // of r, from the From_ line on
	begun   bool
	body    bool
	start   bool
	have    []byte
	err     error
}

func newUnquoted(r io.Reader, l *Line, q Quoting) io.Reader {
	u := &unquoted{r: bufio.NewReaderSize(r, 64<<10), l: l, quoting: q, start: true}
	if l.Raw {
		return u
	}
	return newCRLF(u)
}

func (u *unquoted) Read(p []byte) (int, error) {
	for len(u.have) == 0 {
		if u.err != nil {
			return 0, u.err
		}
		u.fill()
	}
	n := copy(p, u.have)
	u.have = u.have[n:]
	return n, nil
}

func (u *unquoted) fill() {
	if !u.begun {
		u.begun = true
		line, err := u.r.ReadSlice('\n')
		u.pos = int64(len(line))
		if err != nil || !bytes.HasPrefix(line, []byte("From ")) {
			u.err = fault.New(fault.Corrupt, "the mbox file is not as it was exported")
			return
		}
	}
	if u.pos == u.l.Marks {
		n, err := u.r.Discard(int(u.l.Marked))
		u.pos += int64(n)
		if err != nil {
			u.err = err
			return
		}
	}
	p, err := u.r.ReadSlice('\n')
	u.pos += int64(len(p))
	if !errors.Is(err, bufio.ErrBufferFull) {
		u.err = err
	}
	if len(p) == 0 {
		return
	}
	begins := u.start
	u.start = p[len(p)-1] == '\n'
	if begins {
		p = u.begin(p)
	}
	u.have = p
}

// begin takes away what was put before a line.
func (u *unquoted) begin(p []byte) []byte {
	if !u.body && isEmpty(p) {
		u.body = true
		return p
	}
	quotes, from := fromAt(p)
	switch {
	case from && quotes > 0 && u.quoting.quoted(quotes-1, !u.body):
		return p[1:]
	case !u.body && isOwn(p) && bytes.HasPrefix(p, []byte(keptPrefix)):
		return p[len(keptPrefix):]
	}
	return p
}
