package maildir

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/rfc822"
)

// listing is what a folder holds: a file system has no order, so that all names are needed
// before the first message. A name costs its length and 32 bytes.
type listing struct {
	folder   string
	names    []byte
	rows     []row
	validity uint32
	courier  map[string][]string // Courier's keywords, by base
	relisted int                 // how often it was read again
	absent   int                 // how often for one that was not there the last time
	moved    map[string]string   // "cur/name" or "new/name" by what names a message for ever, as it was read last; nil: not read again
	// timesLost: the time of a message is that in its name, not that of its file
	timesLost bool
}

// row is a file.
type row struct {
	at    int64 // of the name in names
	made  int64 // seconds, by the name
	len   uint16
	first uint16 // how much of the name names the message for ever
	isNew bool   // it is in new, not in cur
	again uint16
	uid   mail.UID
}

func (l *listing) name(r *row) string { return string(l.bytes(r)) }

func (l *listing) bytes(r *row) []byte { return l.names[r.at : r.at+int64(r.len)] }

func (l *listing) unique(r *row) []byte { return l.names[r.at : r.at+int64(r.first)] }

func (l *listing) path(r *row) string {
	sub := "cur"
	if r.isNew {
		sub = "new"
	}
	return path.Join(l.folder, sub, l.name(r))
}

// key names a message for ever. The same name in new and cur is two messages.
func (l *listing) key(r *row) string {
	k := string(l.unique(r))
	if r.again > 0 {
		k += ",again" + strconv.Itoa(int(r.again))
	}
	return rfc822.KeyOfName(k)
}

// list reads the names of a folder and puts them in order: by UID, and what has none by time.
func (s *Source) list(folder string) (*listing, error) {
	l := &listing{folder: folder}
	for _, sub := range []string{"cur", "new"} {
		if !s.isFolder(path.Join(folder, sub)) {
			continue
		}
		err := rfc822.List(s.fsys, path.Join(folder, sub), func(d fs.DirEntry) {
			name := d.Name()
			if !d.Type().IsRegular() || name[0] == '.' || len(name) > 1<<10 {
				return
			}
			l.rows = append(l.rows, row{
				at: int64(len(l.names)), made: stamp(name).Unix(), len: uint16(len(name)), first: uint16(len(unique(name))), isNew: sub == "new",
			})
			l.names = append(l.names, name...)
		})
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
	}
	slices.SortFunc(l.rows, func(a, b row) int {
		return cmp.Or(bytes.Compare(l.unique(&a), l.unique(&b)), bytes.Compare(l.bytes(&a), l.bytes(&b)))
	})
	for i := 1; i < len(l.rows); i++ {
		if bytes.Equal(l.unique(&l.rows[i]), l.unique(&l.rows[i-1])) {
			l.rows[i].again = l.rows[i-1].again + 1
		}
	}
	for _, name := range []string{"dovecot-uidlist", "courierimapuiddb"} {
		if err := s.uidList(l, path.Join(folder, name)); err != nil {
			return nil, err
		}
		if l.validity != 0 {
			break
		}
	}
	l.courier = courierKeywords(s.fsys, folder)
	slices.SortStableFunc(l.rows, func(a, b row) int {
		if a.uid != b.uid {
			if a.uid == 0 || b.uid == 0 {
				return cmp.Compare(b.uid, a.uid)
			}
			return cmp.Compare(a.uid, b.uid)
		}
		return cmp.Compare(a.made, b.made)
	})
	return l, nil
}

// find returns the row whose name has that base; else the only one that has its unique part.
// Rows are in the order of names.
func (l *listing) find(wanted string) *row {
	u := []byte(unique(wanted))
	from, _ := slices.BinarySearchFunc(l.rows, u, func(r row, u []byte) int { return bytes.Compare(l.unique(&r), u) })
	to := from
	for ; to < len(l.rows) && bytes.Equal(l.unique(&l.rows[to]), u); to++ {
		if base(l.name(&l.rows[to])) == wanted {
			return &l.rows[to]
		}
	}
	if to == from+1 {
		return &l.rows[from]
	}
	return nil
}

// longestLine bounds a line of a list of UIDs.
const longestLine = 4 << 10

// uidList gives rows their UIDs, from Dovecot's list (version 3: "3 V123 N45 ...", then "7 W99 :name";
// version 1: "1 123 45", then "7 name") or Courier's, which is of version 1.
//
// A line that is not as it should be gives no UID; a list that goes down gives none from there on.
func (s *Source) uidList(l *listing, name string) error {
	f, _, err := rfc822.Open(s.fsys, name)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) { // none, or a link
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, longestLine)
	first, err := in.ReadSlice('\n')
	if err != nil {
		return nil
	}
	version, validity := uidListHeader(string(first))
	if validity == 0 {
		return nil
	}
	l.validity = validity
	last := mail.UID(0)
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			_, err = skipLine(in)
			line = nil
		}
		if uid, base, ok := uidListLine(version, strings.TrimRight(string(line), "\r\n")); ok {
			if uid <= last {
				return nil
			}
			last = uid
			if r := l.find(base); r != nil && r.uid == 0 {
				r.uid = uid
			}
		}
		if err != nil {
			if err == io.EOF {
				return nil
			}
			return fault.Wrap(fault.Unavailable, name+" cannot be read", err)
		}
	}
}

func skipLine(in *bufio.Reader) (n int, err error) {
	for {
		piece, err := in.ReadSlice('\n')
		n += len(piece)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return n, err
		}
	}
}

// uidListHeader reads the first line; validity is 0 if it is none.
func uidListHeader(line string) (version int, validity uint32) {
	words := strings.Fields(line)
	if len(words) < 2 {
		return 0, 0
	}
	number := func(s string) uint32 {
		n, _ := strconv.ParseUint(s, 10, 32)
		return uint32(n)
	}
	switch words[0] {
	case "1":
		return 1, number(words[1])
	case "3":
		for _, w := range words[1:] {
			if w[0] == 'V' {
				return 3, number(w[1:])
			}
		}
	}
	return 0, 0
}

func uidListLine(version int, line string) (uid mail.UID, base string, ok bool) {
	number, rest, ok := strings.Cut(line, " ")
	if version == 3 {
		_, rest, ok = strings.Cut(line, ":")
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if !ok || err != nil || n == 0 || rest == "" {
		return 0, "", false
	}
	if i := infoAt(rest); i > 0 {
		rest = rest[:i]
	}
	return mail.UID(n), rest, true
}
