package outward

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
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

// Line is what the index of a mailbox says of a message. A later line of the same UID
// without content says that its flags are others now, or that the account has it no more.
type Line struct {
	UID      mail.UID   `json:"uid"`
	Flags    []string   `json:"flags"` // IMAP's names
	Keywords []string   `json:"keywords"`
	Date     *time.Time `json:"date,omitempty"` // internal date
	Size     int64      `json:"size,omitempty"` // of the message as it is
	Content  string     `json:"content,omitempty"`
	Gone     bool       `json:"gone,omitempty"` // the account had it no more when the export was last made

	File string `json:"file,omitempty"` // of a message that is a file: its name, in a Maildir without flags
	// Raw: its lines are in the file as they are. Else each LF stands for CRLF.
	Raw bool `json:"raw,omitempty"`

	At     int64 `json:"at,omitempty"`     // mbox: where its From_ line begins
	Length int64 `json:"length,omitempty"` // mbox: from there to the From_ line of the next
	Marks  int64 `json:"marks,omitempty"`  // mbox: from At to the fields that were added ...
	Marked int64 `json:"marked,omitempty"` // ... and how many bytes these have

	Target *Target `json:"target,omitempty"` // IMAP: where it went
}

// Target is where a message lies on the other server.
type Target struct {
	UIDValidity uint32   `json:"uidvalidity,omitempty"`
	UID         mail.UID `json:"uid,omitempty"` // 0: the server did not tell
}

// index is that of a mailbox, open to be added to. In memory are 24 bytes for a message.
type index struct {
	d      Disk
	name   string
	f      *os.File
	end    int64
	rows   []mark // by UID once sorted
	sorted bool
	words  []string // sets of keywords that were met, joined by a space
	ids    map[string]uint32
	first  *Line // with a content, in the order of the file
	last   *Line
	bytes  int64 // of all messages that are not gone
	gone   int64 // how many are
}

// mark is what is in memory of a message.
type mark struct {
	uid   mail.UID
	words uint32
	at    int64 // of its line
	flags mail.Flags
	gone  bool // the account has it no more
	told  bool // the account has told of it now
}

// longestLine bounds a line of an index, in bytes.
const longestLine = 1 << 20

// openIndex reads an index and cuts a half line off its end; it makes one if there is none.
func openIndex(d Disk, name string) (*index, error) {
	if err := mkdirs(d, path.Dir(name)); err != nil {
		return nil, err
	}
	f, err := d.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, writing(name, err)
	}
	x := &index{d: d, name: name, f: f, sorted: true, ids: map[string]uint32{}}
	if err := x.load(); err != nil {
		f.Close()
		return nil, err
	}
	if err := f.Truncate(x.end); err != nil {
		f.Close()
		return nil, writing(name, err)
	}
	return x, syncFolder(d, path.Dir(name))
}

// lost tells whether an index is empty of a mailbox that messages have been exported of. Files
// that it does not tell of are not half an export then.
func (x *index) lost(e *Entry) bool { return len(x.rows) == 0 && e.Messages > 0 }

func lostIndex(e *Entry) error {
	return fault.Wrap(fault.Exists, fmt.Sprintf("%s is empty or has been removed: which of the messages in %s this export has put there cannot be told, and none is removed. Put the index back, or export to another folder", e.Index, e.Path), errOthers)
}

func (x *index) load() error {
	r := bufio.NewReaderSize(io.NewSectionReader(x.f, 0, 1<<62), 64<<10)
	for {
		b, err := readLine(r)
		if err == io.EOF {
			return nil // what has no end was never whole
		}
		if err != nil {
			return fault.Wrap(fault.Unavailable, x.name+" cannot be read", err)
		}
		var l Line
		if err := json.Unmarshal(b, &l); err != nil || l.UID == 0 {
			return fault.Wrap(fault.Corrupt, x.name+" is damaged; remove the export and make it anew", cmp.Or(err, errors.New("a line without a UID")))
		}
		x.take(&l, x.end)
		x.end += int64(len(b))
	}
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			return line, nil
		}
		if err != bufio.ErrBufferFull || len(line) > longestLine {
			return nil, err
		}
	}
}

// take enters a line that stands at a place.
func (x *index) take(l *Line, at int64) {
	m := mark{uid: l.UID, words: x.wordsID(l.Keywords), at: at, flags: account.ParseFlags(l.Flags)}
	if l.Content == "" {
		if old := x.find(l.UID); old != nil {
			old.flags, old.words = m.flags, m.words
			x.setGone(old, l.Gone, l.Size)
		}
		return
	}
	if x.first == nil {
		x.first = l
	}
	x.last = l
	x.bytes += l.Size
	if n := len(x.rows); n > 0 && x.rows[n-1].uid >= m.uid {
		if old := x.find(m.uid); old != nil {
			if old.gone {
				x.gone--
			}
			*old = m
			return
		}
		x.sorted = false
	}
	x.rows = append(x.rows, m)
}

// setGone notes that the account has a message of some size no more, or has it again.
func (x *index) setGone(m *mark, gone bool, size int64) {
	switch {
	case gone && !m.gone:
		x.gone++
		x.bytes -= size
	case !gone && m.gone:
		x.gone--
		x.bytes += size
	}
	m.gone = gone
}

// exported is where in an mbox file what was exported ends.
func (x *index) exported() int64 {
	if x.last == nil {
		return 0
	}
	return x.last.At + x.last.Length
}

// live is how many messages the account has.
func (x *index) live() int64 { return int64(len(x.rows)) - x.gone }

func (x *index) wordsID(keywords []string) uint32 {
	s := joined(keywords)
	id, ok := x.ids[s]
	if !ok {
		id = uint32(len(x.words))
		x.words = append(x.words, s)
		x.ids[s] = id
	}
	return id
}

// joined is a set of keywords as one text: they have no spaces, and their order means
// nothing.
func joined(keywords []string) string {
	if !slices.IsSorted(keywords) {
		keywords = slices.Sorted(slices.Values(keywords))
	}
	return strings.Join(keywords, " ")
}

// keywords returns all that any message was ever seen with.
func (x *index) keywords() (all []string) {
	seen := map[string]bool{}
	for _, set := range x.words {
		for _, w := range strings.Fields(set) {
			if !seen[w] {
				seen[w] = true
				all = append(all, w)
			}
		}
	}
	return all
}

// find returns what is known of a UID, or nil.
func (x *index) find(uid mail.UID) *mark {
	x.sort()
	i, ok := slices.BinarySearchFunc(x.rows, uid, func(m mark, u mail.UID) int { return cmp.Compare(m.uid, u) })
	if !ok {
		return nil
	}
	return &x.rows[i]
}

func (x *index) sort() {
	if !x.sorted {
		slices.SortFunc(x.rows, func(a, b mark) int { return cmp.Compare(a.uid, b.uid) })
		x.sorted = true
	}
}

// line reads the line of a message, with its flags as they were last.
func (x *index) line(m *mark) (Line, error) {
	b, err := readLine(bufio.NewReaderSize(io.NewSectionReader(x.f, m.at, longestLine), 1<<10))
	var l Line
	if err == nil {
		err = json.Unmarshal(b, &l)
	}
	if err != nil {
		return l, fault.Wrap(fault.Unavailable, x.name+" cannot be read", err)
	}
	l.Flags, l.Keywords = account.FlagNames(m.flags), strings.Fields(x.words[m.words])
	return l, nil
}

// add writes lines of what is durable, and makes them so.
func (x *index) add(lines []Line) error {
	if len(lines) == 0 {
		return nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	at := make([]int64, len(lines))
	for i := range lines {
		at[i] = x.end + int64(b.Len())
		if err := e.Encode(&lines[i]); err != nil {
			return err
		}
	}
	if _, err := x.f.WriteAt(b.Bytes(), x.end); err != nil {
		return writing(x.name, err)
	}
	if err := x.f.Sync(); err != nil {
		return writing(x.name, err)
	}
	for i := range lines {
		l := lines[i]
		x.take(&l, at[i])
		if m := x.find(l.UID); m != nil {
			m.told = !l.Gone
		}
	}
	x.end += int64(b.Len())
	return nil
}

func (x *index) close() error { return x.f.Close() }

// readIndex reads an index without changing it.
func readIndex(d Disk, name string) (*index, error) {
	f, err := d.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, name+" cannot be read", err)
	}
	x := &index{d: d, name: name, f: f, sorted: true, ids: map[string]uint32{}}
	if err := x.load(); err != nil {
		f.Close()
		return nil, err
	}
	return x, nil
}
