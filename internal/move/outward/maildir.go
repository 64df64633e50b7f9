package outward

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/account"
)

// maildirBox is a mailbox as a Maildir, with Dovecot's files beside it: dovecot-uidlist
// keeps the UIDs, dovecot-keywords says which letters in a name are which keywords.
type maildirBox struct {
	files
	dir     string
	key     string            // what our files have in their names
	words   []string          // keywords by their letters
	changed bool              // words are more than what is written
	more    bool              // something was put
	renamed bool              // since the folder was made durable last
	have    map[string]string // full names in cur by their first part; nil: not read yet
}

// letters is how many keywords names have room for.
const letters = 26

func openMaildir(d Disk, e *Entry, x *index) (*maildirBox, error) {
	b := &maildirBox{files: files{d: d}, dir: e.Path, key: maildirKey(e)}
	for _, name := range []string{"tmp", "new", "cur"} {
		if err := mkdirs(d, path.Join(b.dir, name)); err != nil {
			return nil, err
		}
	}
	if b.dir != "." {
		f, err := d.OpenFile(path.Join(b.dir, "maildirfolder"), os.O_WRONLY|os.O_CREATE, fileMode)
		if err != nil {
			return nil, writing(b.dir, err)
		}
		f.Close()
	}
	if err := b.readWords(); err != nil {
		return nil, err
	}
	return b, b.tidy(e, x)
}

// maildirKey is what the names of our files of a mailbox have in them.
func maildirKey(e *Entry) string { return fmt.Sprintf(".M%dP", e.UIDValidity) }

// tidy takes away what an export that was stopped has left, and no index tells of.
func (b *maildirBox) tidy(e *Entry, x *index) error {
	for _, sub := range []string{"tmp", "cur"} {
		list, err := names(b.d, path.Join(b.dir, sub))
		if err != nil {
			return err
		}
		for _, name := range list {
			uid := b.uidOf(name)
			if uid == 0 || sub == "cur" && x.find(uid) != nil {
				continue
			}
			if sub == "cur" && x.lost(e) {
				return lostIndex(e)
			}
			if err := b.d.Remove(path.Join(b.dir, sub, name)); err != nil {
				return writing(name, err)
			}
		}
	}
	return nil
}

// uidOf returns the UID in the name of a file of ours, 0 if it is not.
func (b *maildirBox) uidOf(name string) mail.UID { return maildirUID(name, b.key) }

func maildirUID(name, key string) mail.UID {
	_, rest, ok := strings.Cut(name, key)
	number, _, dot := strings.Cut(rest, ".martlet,S=")
	if !ok || !dot {
		return 0
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return 0
	}
	return mail.UID(n)
}

func (b *maildirBox) readWords() error {
	f, err := b.d.OpenFile(path.Join(b.dir, "dovecot-keywords"), os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return writing(b.dir, err)
	}
	defer f.Close()
	for s := bufio.NewScanner(io.LimitReader(f, 1<<20)); s.Scan(); {
		number, word, ok := strings.Cut(s.Text(), " ")
		if n, err := strconv.Atoi(number); ok && err == nil && n >= 0 && n < letters {
			for len(b.words) <= n {
				b.words = append(b.words, "")
			}
			b.words[n] = word
		}
	}
	return nil
}

func (b *maildirBox) writeWords() error {
	if !b.changed {
		return nil
	}
	err := writeFile(b.d, path.Join(b.dir, "dovecot-keywords"), func(w io.Writer) error {
		for i, word := range b.words {
			if _, err := fmt.Fprintf(w, "%d %s\n", i, word); err != nil {
				return err
			}
		}
		return nil
	})
	b.changed = b.changed && err != nil
	return err
}

// info is what stands behind the first part of a name.
func (b *maildirBox) info(l *Line) string {
	f := account.ParseFlags(l.Flags)
	var s []byte
	for _, c := range []struct {
		flag   mail.Flags
		letter byte
	}{{mail.Draft, 'D'}, {mail.Flagged, 'F'}, {mail.Answered, 'R'}, {mail.Seen, 'S'}, {mail.Deleted, 'T'}} {
		if f.Has(c.flag) {
			s = append(s, c.letter)
		}
	}
	var small []byte
	for _, k := range l.Keywords {
		i := slices.Index(b.words, k)
		if i < 0 && len(b.words) < letters {
			i = len(b.words)
			b.words, b.changed = append(b.words, k), true
		}
		if i >= 0 {
			small = append(small, 'a'+byte(i))
		}
	}
	slices.Sort(small)
	return ":2," + string(s) + string(small)
}

func (b *maildirBox) put(l *Line, t *text) error {
	virtual := t.size + t.bare // as Dovecot counts it
	l.Raw = t.raw
	l.File = fmt.Sprintf("%d%s%d.martlet,S=%d,W=%d", max(0, l.Date.Unix()), b.key, l.UID, t.length(), virtual)
	b.more = true
	name := path.Join("cur", l.File+b.info(l))
	if b.have != nil {
		b.have[l.File] = name
	}
	return b.write(path.Join(b.dir, "tmp", l.File), path.Join(b.dir, name), *l.Date, t.write)
}

func (b *maildirBox) settle() error {
	if err := b.writeWords(); err != nil {
		return err
	}
	cur := path.Join(b.dir, "cur")
	if b.renamed && len(b.open) == 0 {
		if err := syncFolder(b.d, cur); err != nil {
			return err
		}
	}
	b.renamed = false
	return b.files.settle(cur)
}

// list reads which files there are: other programs may have given them other flags, or
// put new mail beside them.
func (b *maildirBox) list() error {
	if b.have != nil {
		return nil
	}
	b.have = map[string]string{}
	for _, sub := range []string{"new", "cur"} {
		all, err := names(b.d, path.Join(b.dir, sub))
		if err != nil {
			return err
		}
		for _, name := range all {
			first, _, _ := strings.Cut(name, ":2,")
			b.have[first] = path.Join(sub, name)
		}
	}
	return nil
}

// reflag gives a message's file the flags that the message has now.
func (b *maildirBox) reflag(_, now Line) error {
	if err := b.list(); err != nil {
		return err
	}
	old, ok := b.have[now.File]
	if !ok {
		return nil // somebody has removed it; the index keeps the flags
	}
	to := path.Join("cur", now.File+b.info(&now))
	if err := b.writeWords(); err != nil || old == to {
		return err
	}
	b.have[now.File], b.renamed = to, true
	return writing(to, b.d.Rename(path.Join(b.dir, old), path.Join(b.dir, to)))
}

// finish writes the list of UIDs.
func (b *maildirBox) finish(e *Entry, x *index) error {
	name := path.Join(b.dir, "dovecot-uidlist")
	if ok, err := b.listed(name, e, x); err != nil || ok && !b.more {
		return err
	}
	id := sha256.Sum256(fmt.Appendf(nil, "%d %s", e.UIDValidity, e.Mailbox))
	x.sort()
	return writeFile(b.d, name, func(w io.Writer) error {
		buf := bufio.NewWriter(w)
		fmt.Fprintf(buf, "3 V%d N%d G%s\n", e.UIDValidity, e.UIDNext, hex.EncodeToString(id[:16]))
		for i := range x.rows {
			l, err := x.line(&x.rows[i])
			if err != nil {
				return err
			}
			fmt.Fprintf(buf, "%d :%s\n", l.UID, l.File)
		}
		return buf.Flush()
	})
}

// listed tells whether the list of UIDs has all messages: an export may have been stopped before
// it was written, and another program may have written it since.
func (b *maildirBox) listed(name string, e *Entry, x *index) (bool, error) {
	f, err := b.d.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, writing(name, err)
	}
	defer f.Close()
	next, ours := mail.UID(0), 0
	r := bufio.NewReader(f)
	for first := true; ; first = false {
		line, err := readLine(r)
		if err == io.EOF {
			return next >= e.UIDNext && ours == len(x.rows), nil
		}
		if err != nil {
			return false, writing(name, err)
		}
		if first {
			for _, word := range strings.Fields(string(line)) {
				if n, err := strconv.ParseUint(strings.TrimPrefix(word, "N"), 10, 32); err == nil && word[0] == 'N' {
					next = mail.UID(n)
				}
			}
		} else if _, file, ok := strings.Cut(string(line), ":"); ok && b.uidOf(strings.TrimSpace(file)) != 0 {
			ours++
		}
	}
}

func (b *maildirBox) close() { b.drop() }

func (b *maildirBox) read(l *Line) (io.ReadCloser, error) {
	if err := b.list(); err != nil {
		return nil, err
	}
	name, ok := b.have[l.File]
	if !ok {
		return nil, fault.New(fault.NotFound, "the file of the message has been removed from the folder")
	}
	return b.d.OpenFile(path.Join(b.dir, name), os.O_RDONLY, 0)
}

// flags are those in the name of a message's file now.
func (b *maildirBox) flags(l *Line) {
	_, info, ok := strings.Cut(b.have[l.File], ":2,")
	if !ok {
		return
	}
	var f mail.Flags
	lettered := func(k string) bool { return slices.Contains(b.words, k) }
	words := slices.DeleteFunc(slices.Clone(l.Keywords), lettered) // those that had no room stay
	for i := range len(info) {
		switch c := info[i]; {
		case c == 'D':
			f |= mail.Draft
		case c == 'F':
			f |= mail.Flagged
		case c == 'R':
			f |= mail.Answered
		case c == 'S':
			f |= mail.Seen
		case c == 'T':
			f |= mail.Deleted
		case c >= 'a' && int(c-'a') < len(b.words) && b.words[c-'a'] != "":
			words = append(words, b.words[c-'a'])
		}
	}
	l.Flags, l.Keywords = account.FlagNames(f), words
}

// writeSubscriptions writes the list of subscribed names as Dovecot reads it.
func writeSubscriptions(d Disk, m *Manifest) error {
	return writeFile(d, "subscriptions", func(w io.Writer) error {
		var all []string
		for _, e := range m.Mailboxes {
			switch {
			case !e.Subscribed || e.Gone:
			case e.Path == ".":
				all = append(all, "INBOX")
			default:
				all = append(all, e.Path[1:])
			}
		}
		for _, name := range m.Subscriptions {
			all = append(all, maildirName(name, 0)[1:])
		}
		if len(all) == 0 {
			return nil
		}
		_, err := io.WriteString(w, strings.Join(all, "\n")+"\n")
		return err
	})
}
