package imapd

import (
	"bytes"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// candidate is a message that a search asks about, as far as it has been read.
type candidate struct {
	m      store.Message
	title  *title // what its keys say, once they were read
	header *headerText
	head   int64  // bytes of the message before its body
	body   []byte // the body, if it is at hand
	texts  []bool // which needles its text holds, once that was read
	root   *mime.Part

	filters  *filters // what is noted of it, while that is asked
	noted    bool     // there is a note,
	wholly   bool     // of its body too
	attached bool     // has an attachment
	files    []string // names of its parts, if the search looks for them
}

// settle asks about messages that the row alone does not decide.
func (q *search) settle(pending []*candidate) error {
	for len(pending) > 0 {
		done := 0
		err := q.v.acct.View(q.s.ctx, func(snap *store.Snapshot) (err error) {
			done, err = q.readHeaders(snap, pending)
			return err
		})
		if err != nil {
			return err
		}
		for _, c := range pending[:done] {
			if err := q.decide(c); err != nil {
				return err
			}
			q.done++
			if err := q.s.reached(q.done); err != nil {
				return err
			}
		}
		pending = pending[done:]
	}
	return nil
}

// readHeaders reads the headers of messages, and small bodies if texts are looked for,
// until there is enough in memory, and returns how many it has dealt with.
func (q *search) readHeaders(snap *store.Snapshot, list []*candidate) (done int, err error) {
	ids := make([]mail.MessageID, len(list))
	for i := range list {
		ids[i] = list[i].m.ID
	}
	var heads heads
	if err := heads.read(snap, ids); err != nil {
		return 0, err
	}
	ids = ids[:len(heads.ends)]
	if len(q.needles) > 0 {
		if ids, err = q.readBodies(snap, list, ids); err != nil {
			return 0, err
		}
	}
	return len(ids), snap.EachFacts(ids, func(i int, f store.Facts, ok bool) error {
		c := list[i]
		c.header = nil
		if !ok { // expunged meanwhile: it fits nothing
			q.missed = true
			return nil
		}
		c.head = int64(len(heads.of(i)))
		c.header = newHeaderText(heads.of(i), q.s.comparator)
		return q.learn(c, &f)
	})
}

// learn takes from a message's facts what the search may ask for.
func (q *search) learn(c *candidate, f *store.Facts) (err error) {
	if len(q.needles) > 0 {
		if c.root, err = f.Parts(); err != nil {
			return err
		}
	}
	if q.attach {
		if _, c.attached, err = f.Preview(); err != nil {
			return err
		}
	}
	if q.files {
		c.files = mime.Filenames(f.BodyStructure)
	}
	return nil
}

// readBodies reads those bodies that lie beside their messages, until they are enough,
// and returns the ids it has dealt with.
func (q *search) readBodies(snap *store.Snapshot, list []*candidate, ids []mail.MessageID) ([]mail.MessageID, error) {
	done, size := 0, 0
	err := snap.EachBody(ids, func(i int, body []byte, ok bool) error {
		list[i].body = nil
		if ok {
			list[i].body = bytes.Clone(body)
		}
		done = i + 1
		if size += len(body); size > chunkBytes {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return ids[:done], err
}

// decide ends the question of one message, reading its text if there is no other way.
func (q *search) decide(c *candidate) error {
	if c.header == nil || q.s.ctx.Err() != nil {
		return q.s.ctx.Err()
	}
	v := q.root.ask(c)
	if v == open {
		err := q.readTexts(c)
		if fault.Is(err, fault.NotFound) {
			q.missed = true
			return nil
		}
		if err != nil {
			return err
		}
		v = q.root.ask(c)
	}
	if v == met {
		q.accept(c)
	}
	q.note(c)
	c.header, c.body, c.root, c.texts = nil, nil, nil, nil
	return nil
}

// readTexts finds which needles are in the text of a message: its text parts without
// their encodings, and the headers of messages within it.
func (q *search) readTexts(c *candidate) error {
	c.texts = make([]bool, len(q.needles))
	for i, n := range q.needles {
		c.texts[i] = n == ""
	}
	if q.notes.cut = false; q.sifts {
		*q.notes.body = gramSet{}
	}
	return q.readPart(c, c.root)
}

func (q *search) readPart(c *candidate, p *mime.Part) error {
	for _, kid := range p.Children {
		if p.IsMessage() {
			if err := q.readRange(c, kid.Header, kid.Body, "", ""); err != nil {
				return err
			}
		}
		if err := q.readPart(c, kid); err != nil {
			return err
		}
	}
	if len(p.Children) > 0 || p.Type != "text" {
		return nil
	}
	return q.readRange(c, p.Body, p.End, p.Charset(), p.Encoding)
}

// readRange looks for the needles in one range of the message.
func (q *search) readRange(c *candidate, from, to int64, charset, encoding string) error {
	if from >= to {
		return nil
	}
	decode := func(r io.Reader) io.Reader { return mime.ToUTF8(charset, mime.NewDecoder(encoding, r)) }
	if c.body != nil && from >= c.head && to <= c.head+int64(len(c.body)) {
		text := c.body[from-c.head : to-c.head]
		if mime.IsPlain(charset, encoding, text) {
			q.window = q.s.comparator.AppendFold(q.window[:0], text)
			q.mark(c.texts, q.window)
			q.gather(q.window)
			return nil
		}
		return q.scan(c.texts, decode(bytes.NewReader(text)))
	}
	r, err := q.v.acct.Open(q.s.ctx, c.m.ID, from, to-from)
	if err != nil {
		return err
	}
	defer r.Close()
	return q.scan(c.texts, decode(r))
}

// gather enters text into what will be noted of the body.
func (q *search) gather(text []byte) {
	if q.sifts {
		q.notes.body.add(text)
	}
}

// mark marks the needles that folded text holds, and tells whether all have been seen.
func (q *search) mark(marks []bool, text []byte) (all bool) {
	all = true
	for i, needle := range q.needles {
		marks[i] = marks[i] || bytes.Contains(text, []byte(needle))
		all = all && marks[i]
	}
	return all
}

// scan marks the needles that UTF-8 text holds. It keeps one buffer and as much of
// what came before as the longest needle may reach back.
func (q *search) scan(marks []bool, r io.Reader) error {
	buf := streamBuffers.Get().(*[streamBuffer]byte)
	defer streamBuffers.Put(buf)
	window := q.window[:0]
	defer func() { q.window = window }()
	kept := 0 // bytes of a character that is not whole yet
	for {
		n, err := io.ReadAtLeast(r, buf[kept:], streamBuffer/2)
		n += kept
		whole := n
		if err == nil {
			whole = wholeRunes(buf[:n])
		}
		window = q.s.comparator.AppendFold(window, buf[:whole])
		q.gather(window)
		if q.mark(marks, window) {
			q.notes.cut = q.notes.cut || err == nil
			return nil
		}
		if over := len(window) - max(q.longest, 2); over > 0 {
			window = window[:copy(window, window[over:])]
		}
		kept = copy(buf[:], buf[whole:n])
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return nil
		default:
			return err
		}
	}
}

// wholeRunes returns how many bytes of b are whole characters.
func wholeRunes(b []byte) int {
	for i := len(b) - 1; i >= 0 && i >= len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if utf8.FullRune(b[i:]) {
				return len(b)
			}
			return i
		}
	}
	return len(b)
}
