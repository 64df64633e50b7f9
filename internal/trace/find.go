package trace

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Query says which stories are asked for.
type Query struct {
	// Name is the address of a sender, an author or a recipient; "@domain" is any address
	// there; or a Message-ID, with or without angle brackets; or the name of a reception or
	// of a message in the queue.
	Name  string
	Since time.Time // zero: as far back as there is
	Limit int       // most stories, the newest; 0: 20
}

// Story is what is known of one message, in order of time.
type Story struct {
	Events []Event `json:"events"`

	names []string // of its reception and of its parts in the queue
}

// maxLine is longer than any event, in bytes: 100 recipients of 9 strings, each of which is
// at most longest bytes that take six when they are written. What is longer is no event.
const maxLine = 2 << 20

// Find returns stories, the newest last. It reads the book from Since on. A fault is of
// kind Invalid (no name), Closed or Unavailable.
func (b *Book) Find(ctx context.Context, q Query) ([]*Story, error) {
	if b == nil {
		return nil, nil
	}
	f, err := newFinder(q)
	if err != nil {
		return nil, err
	}
	b.Flush()
	all, err := b.segments()
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "the events of messages cannot be read", err)
	}
	for i, s := range all {
		if i+1 < len(all) && all[i+1].began.Before(q.Since) {
			continue
		}
		if err := b.read(ctx, s, f); err != nil {
			return nil, err
		}
	}
	return f.found, nil
}

// read hands a segment to f, line by line. One that has gone meanwhile, or whose end is
// broken, is as if it ended there.
func (b *Book) read(ctx context.Context, s segment, f *finder) error {
	file, err := b.opt.FS.Open(b.path(s.String()))
	if err != nil && !s.packed { // packed meanwhile
		s.packed = true
		file, err = b.opt.FS.Open(b.path(s.String()))
	}
	if err != nil {
		return nil
	}
	defer file.Close()
	var in io.Reader = file
	if s.packed {
		z, err := zstd.NewReader(file, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(8<<20))
		if err != nil {
			return nil
		}
		defer z.Close()
		in = z
	}
	lines := bufio.NewReaderSize(in, maxLine)
	for n := 0; ; n++ {
		if n%1000 == 0 && ctx.Err() != nil {
			return fault.Wrap(fault.Closed, "stopped", ctx.Err())
		}
		line, err := lines.ReadSlice('\n')
		switch {
		case err == nil:
			f.line(line[:len(line)-1])
		case errors.Is(err, bufio.ErrBufferFull): // damage: it must not hide what comes behind it
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = lines.ReadSlice('\n')
			}
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			b.opt.Log.Warn("a part of the events of messages cannot be read", "file", s.String(), "err", err)
		}
		return nil
	}
}

// finder collects stories while events come by in order of time.
type finder struct {
	Query
	needle []byte // what the line of an event that matches holds, in lower case
	lower  []byte
	found  []*Story
	byName map[string]*Story
}

func newFinder(q Query) (*finder, error) {
	q.Name = strings.ToLower(strings.Trim(strings.TrimSpace(q.Name), "<>"))
	if q.Name == "" {
		return nil, fault.New(fault.Invalid, "an address, a Message-ID or the id of a message is needed")
	}
	if q.Limit <= 0 {
		q.Limit = 20
	}
	written, err := json.Marshal(q.Name)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "that is no name", err)
	}
	return &finder{Query: q, needle: written[1 : len(written)-1], byName: map[string]*Story{}}, nil
}

// line looks at one event. Most are of other messages: they are not even parsed.
func (f *finder) line(line []byte) {
	f.lower = append(f.lower[:0], line...)
	lowerASCII(f.lower)
	if !bytes.Contains(f.lower, f.needle) && !f.known(line) {
		return
	}
	var e Event
	if json.Unmarshal(line, &e) != nil || e.At.Before(f.Since) {
		return
	}
	story := f.byName[e.ID]
	if story == nil {
		story = f.byName[e.Queue]
	}
	if story == nil {
		if !f.matches(e) {
			return
		}
		story = f.begin()
	}
	story.Events = append(story.Events, e)
	f.name(story, e.ID)
	f.name(story, e.Queue)
	for _, to := range e.To {
		f.name(story, to.Queue)
	}
}

// begin makes a new story. The oldest goes if there are too many.
func (f *finder) begin() *Story {
	if len(f.found) == f.Limit {
		for _, name := range f.found[0].names {
			delete(f.byName, name)
		}
		f.found = slices.Delete(f.found, 0, 1)
	}
	story := new(Story)
	f.found = append(f.found, story)
	return story
}

func (f *finder) name(s *Story, name string) {
	if name != "" && f.byName[name] == nil {
		f.byName[name] = s
		s.names = append(s.names, name)
	}
}

// known tells whether a line is of a story that has begun.
func (f *finder) known(line []byte) bool {
	return len(f.byName) > 0 && (f.byName[string(field(line, `"id":"`))] != nil || f.byName[string(field(line, `"queue_id":"`))] != nil)
}

// field cuts a short plain value out of a line.
func field(line []byte, name string) []byte {
	_, rest, found := bytes.Cut(line, []byte(name))
	if !found {
		return nil
	}
	value, _, _ := bytes.Cut(rest[:min(len(rest), 80)], []byte{'"'})
	return value
}

func (f *finder) matches(e Event) bool {
	for _, name := range []string{e.ID, e.Queue, e.MessageID, e.From, e.Author, e.Login} {
		if f.is(name) {
			return true
		}
	}
	return slices.ContainsFunc(e.To, func(r Recipient) bool { return f.is(r.Address) || f.is(r.For) || f.is(r.Queue) })
}

func (f *finder) is(name string) bool {
	name = strings.ToLower(name)
	return name == f.Name || f.Name[0] == '@' && strings.HasSuffix(name, f.Name)
}

func lowerASCII(b []byte) {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
}
