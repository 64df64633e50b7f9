package maildir

import (
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move/rfc822"
)

// maxBeside is how long the small files beside mail may be.
const maxBeside = 8 << 20

// keywords reads Dovecot's keywords of a folder: "0 $label1", for the letter a.
func keywords(fsys fs.FS, folder string) []string {
	b, err := rfc822.ReadSmall(fsys, path.Join(folder, "dovecot-keywords"), maxBeside)
	if err != nil {
		return nil
	}
	var words [26]string
	for line := range strings.Lines(string(b)) {
		number, word, ok := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		if n, err := strconv.Atoi(number); ok && err == nil && n >= 0 && n < len(words) {
			words[n] = strings.TrimSpace(word)
		}
	}
	return words[:]
}

// courierKeywords reads Courier's: names, an empty line, then "file:0 2" for each message that has some.
func courierKeywords(fsys fs.FS, folder string) map[string][]string {
	b, err := rfc822.ReadSmall(fsys, path.Join(folder, "courierimapkeywords", ":list"), maxBeside)
	if err != nil {
		return nil
	}
	head, body, _ := strings.Cut(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n\n")
	words := strings.Split(head, "\n")
	of := map[string][]string{}
	for line := range strings.Lines(body) {
		name, numbers, ok := cutLast(strings.TrimRight(line, "\n"), ":")
		if !ok {
			continue
		}
		for _, number := range strings.Fields(numbers) {
			if n, err := strconv.Atoi(number); err == nil && n >= 0 && n < len(words) && words[n] != "" && len(of[base(name)]) < 64 {
				of[base(name)] = append(of[base(name)], words[n])
			}
		}
	}
	return of
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// subscriptions reads which mailboxes are subscribed: Dovecot's list (of version 2, levels parted by tabs,
// or names alone, parted by dots) or Courier's, with the prefix "INBOX.". known is false if there is no list.
func subscriptions(fsys fs.FS) (names map[string]bool, known bool) {
	for _, file := range []string{"subscriptions", "courierimapsubscribed"} {
		b, err := rfc822.ReadSmall(fsys, file, maxBeside)
		if err != nil {
			continue
		}
		names = map[string]bool{}
		text, version2 := strings.CutPrefix(string(b), "V\t2\n")
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, "\r\n")
			separator := "\t"
			if !version2 {
				separator = "."
				if strings.Contains(line, "/") {
					separator = "/"
				}
			}
			levels := strings.Split(line, separator)
			for i := range levels {
				levels[i] = decoded(levels[i])
			}
			if len(levels) > 1 && strings.EqualFold(levels[0], "INBOX") {
				names[strings.Join(levels[1:], "/")] = true
			}
			names[strings.Join(levels, "/")] = true
		}
		return names, true
	}
	return nil, false
}

// maxRelists is how often a folder is read again for messages that were renamed. One reading tells
// of all that were until then.
const maxRelists = 1000

// maxAbsent is how often it is read again for a message that was not there the last time.
const maxAbsent = 20

// stat tells of a message's file, under its new name if it was renamed.
func (s *Source) stat(l *listing, r *row) (fs.FileInfo, error) {
	info, err := lstat(s.fsys, l.path(r))
	if err == nil {
		return info, nil
	}
	if !s.again(l, r) {
		return nil, err
	}
	return lstat(s.fsys, l.path(r))
}

func lstat(fsys fs.FS, name string) (fs.FileInfo, error) {
	if f, ok := fsys.(fs.ReadLinkFS); ok {
		return f.Lstat(name)
	}
	return fs.Stat(fsys, name)
}

// opener returns a way to open a message.
func (s *Source) opener(l *listing, r *row) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		f, err := rfc822.OpenMessage(s.fsys, l.path(r))
		if fault.Is(err, fault.NotFound) && s.again(l, r) {
			f, err = rfc822.OpenMessage(s.fsys, l.path(r))
		}
		if fault.Is(err, fault.NotFound) {
			return nil, fault.Wrap(fault.NotFound, "it was removed while the folder was read", err)
		}
		return f, err
	}
}

// again looks for a message that has another name now: its flags have changed, or it went
// from new to cur.
func (s *Source) again(l *listing, r *row) (found bool) {
	was := l.path(r)
	if l.moved != nil && s.takeName(l, r) && l.path(r) != was {
		if _, err := lstat(s.fsys, l.path(r)); err == nil {
			return true
		}
	}
	if l.moved != nil && l.moved[string(l.unique(r))] == "" { // removed, or not seen while it was renamed
		if l.absent++; l.absent > maxAbsent {
			return false
		}
	}
	if l.relisted >= maxRelists {
		return false
	}
	l.relisted++
	s.relist(l)
	return s.takeName(l, r)
}

// relist reads which names the messages have now. It costs the names once more.
func (s *Source) relist(l *listing) {
	l.moved = make(map[string]string, len(l.rows))
	for _, sub := range []string{"cur", "new"} {
		_ = rfc822.List(s.fsys, path.Join(l.folder, sub), func(d fs.DirEntry) {
			if d.Type().IsRegular() && len(d.Name()) <= 1<<10 {
				if u := unique(d.Name()); l.moved[u] == "" {
					l.moved[u] = sub + "/" + d.Name()
				}
			}
		})
	}
}

// takeName gives a row the name that its message had when the folder was read last.
func (s *Source) takeName(l *listing, r *row) bool {
	sub, name, ok := strings.Cut(l.moved[string(l.unique(r))], "/")
	if ok {
		r.at, r.len, r.isNew = int64(len(l.names)), uint16(len(name)), sub == "new" // r.first stays
		l.names = append(l.names, name...)
	}
	return ok
}
