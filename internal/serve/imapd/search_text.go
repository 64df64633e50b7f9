package imapd

import (
	"bytes"
	"io"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// candidate is a message that a search asks about, as far as it has been read.
type candidate struct {
	m      store.Message
	title  *title // what its keys say, once they were read
	there  bool   // its facts were read
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

// decide ends the question of one message, reading its text if there is no other way.
func (r *reading) decide(c *candidate) error {
	q := r.q
	if c.header == nil || q.s.ctx.Err() != nil {
		return q.s.ctx.Err()
	}
	v := q.root.ask(c)
	if v == open {
		err := r.readTexts(c)
		if fault.Is(err, fault.NotFound) {
			r.missed = true
			return nil
		}
		if err != nil {
			return err
		}
		v = q.root.ask(c)
	}
	if v == met {
		r.found = append(r.found, c.m.UID)
		if q.scores != nil {
			r.scores = append(r.scores, q.root.relevancy(c))
		}
	}
	r.note(c)
	return nil
}

// readTexts finds which needles are in the text of a message: its text parts without
// their encodings, and the headers of messages within it.
func (r *reading) readTexts(c *candidate) error {
	needles := r.q.needles
	if cap(r.marks) < len(needles) {
		r.marks = make([]bool, len(needles))
	}
	c.texts = r.marks[:len(needles)]
	for i, n := range needles {
		c.texts[i] = n == ""
	}
	if r.notes.cut = false; r.q.sifts {
		r.notes.body.reset(c.m.Size - c.head)
	}
	defer r.stream.close()
	return r.readPart(c, c.root)
}

func (r *reading) readPart(c *candidate, p *mime.Part) error {
	for _, kid := range p.Children {
		if p.IsMessage() {
			if err := r.readRange(c, kid.Header, kid.Body, "", ""); err != nil {
				return err
			}
		}
		if err := r.readPart(c, kid); err != nil {
			return err
		}
	}
	if len(p.Children) > 0 || p.Type != "text" {
		return nil
	}
	return r.readRange(c, p.Body, p.End, p.Charset(), p.Encoding)
}

// readRange looks for the needles in one range of the message.
func (r *reading) readRange(c *candidate, from, to int64, charset, encoding string) error {
	if from >= to {
		return nil
	}
	q := r.q
	decode := func(src io.Reader) io.Reader { return mime.ToUTF8(charset, mime.NewDecoder(encoding, src)) }
	if c.body != nil && from >= c.head && to <= c.head+int64(len(c.body)) {
		text := c.body[from-c.head : to-c.head]
		if mime.IsPlain(charset, encoding, text) {
			r.window = q.s.comparator.AppendFold(r.window[:0], text)
			q.mark(c.texts, r.window)
			r.gather(r.window)
			return nil
		}
		return r.scan(c.texts, decode(bytes.NewReader(text)))
	}
	src, err := r.onward(c, from)
	if err != nil {
		return err
	}
	return r.scan(c.texts, decode(io.LimitReader(src, to-from)))
}

// onwards reads a message from front to back, for all its parts: where a part begins is
// found by what lies before it, so that opening each costs as much as 64 KB.
type onwards struct {
	src io.ReadCloser
	at  int64
}

func (o *onwards) Read(p []byte) (int, error) {
	n, err := o.src.Read(p)
	o.at += int64(n)
	return n, err
}

func (o *onwards) close() {
	if o.src != nil {
		o.src.Close()
		o.src = nil
	}
}

// passOver is how many bytes between two parts are rather read than passed over.
const passOver = 128 << 10

// onward returns the message from an offset on.
func (r *reading) onward(c *candidate, from int64) (io.Reader, error) {
	o := &r.stream
	if o.src != nil && from >= o.at && from-o.at <= passOver {
		_, err := io.CopyN(io.Discard, o, from-o.at)
		return o, err
	}
	o.close()
	src, err := r.q.v.acct.Open(r.q.s.ctx, c.m.ID, from, -1)
	if err != nil {
		return nil, err
	}
	o.src, o.at = src, from
	return o, nil
}

// gather enters text into what will be noted of the body.
func (r *reading) gather(text []byte) {
	if r.q.sifts {
		r.notes.body.add(text)
	}
}

// mark marks the needles that folded text holds, and tells whether all have been seen.
func (q *search) mark(marks []bool, text []byte) (all bool) {
	all = true
	for i, needle := range q.sought {
		marks[i] = marks[i] || bytes.Contains(text, needle)
		all = all && marks[i]
	}
	return all
}

// scan marks the needles that UTF-8 text holds. It keeps one buffer and as much of
// what came before as the longest needle may reach back.
func (r *reading) scan(marks []bool, src io.Reader) error {
	q := r.q
	buf := streamBuffers.Get().(*[streamBuffer]byte)
	defer streamBuffers.Put(buf)
	window := r.window[:0]
	defer func() { r.window = window }()
	kept := 0 // bytes of a character that is not whole yet
	for {
		n, err := io.ReadAtLeast(src, buf[kept:], streamBuffer/2)
		n += kept
		whole := n
		if err == nil {
			whole = wholeRunes(buf[:n])
		}
		window = q.s.comparator.AppendFold(window, buf[:whole])
		r.gather(window)
		if q.mark(marks, window) {
			r.notes.cut = r.notes.cut || err == nil
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
