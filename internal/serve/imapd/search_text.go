package imapd

import (
	"bytes"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// candidate is a message that a search asks about, as far as it has been read.
type candidate struct {
	m      store.Message
	header *headerText
	texts  []bool // which needles its text holds, once that was read
	root   *mime.Part

	attached bool     // has an attachment
	files    []string // names of its parts, if the search looks for them
}

// headerText is a message's top header as a search compares it.
type headerText struct {
	date   time.Time // of the Date field, zero if it has none
	by     imap.Comparator
	fields []headerField
}

type headerField struct {
	name, value string // folded, the value decoded
	raw         []byte // as it stands
}

func newHeaderText(head []byte, date time.Time, by imap.Comparator) *headerText {
	h := &headerText{date: date, by: by}
	for name, value := range mime.Fields(head) {
		h.fields = append(h.fields, headerField{
			by.Fold(string(name)), by.Fold(mime.DecodeWords(mime.Unfold(value))), value,
		})
	}
	return h
}

// has tells whether a field of that name holds the text, which is folded.
func (h *headerText) has(name, text string) bool {
	for _, f := range h.fields {
		if strings.EqualFold(f.name, name) && strings.Contains(f.value, text) {
			return true
		}
	}
	return false
}

// addressed tells whether a field of that name holds the text in one of its addresses,
// read as addresses: without comments and odd spaces, as the envelope shows them.
func (h *headerText) addressed(name, text string) bool {
	for _, f := range h.fields {
		if !strings.EqualFold(f.name, name) {
			continue
		}
		for _, a := range mime.ParseAddressList(mime.Unfold(f.raw)) {
			if strings.Contains(h.by.Fold(a.Name+" <"+a.Mailbox+"@"+a.Host+">"), text) {
				return true
			}
		}
	}
	return false
}

// contains tells whether any line of the header holds the text.
func (h *headerText) contains(text string) bool {
	for _, f := range h.fields {
		if strings.Contains(f.name+": "+f.value, text) {
			return true
		}
	}
	return false
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
		}
		pending = pending[done:]
	}
	return nil
}

// readHeaders reads the headers of messages until there is enough in memory, and
// returns how many it has dealt with.
func (q *search) readHeaders(snap *store.Snapshot, list []*candidate) (done int, err error) {
	bytes := 0
	for _, c := range list {
		if bytes > chunkBytes {
			break
		}
		done++
		c.header = nil
		facts, err := snap.Facts(c.m.ID)
		if fault.Is(err, fault.NotFound) {
			q.missed = true // expunged meanwhile: it fits nothing
			continue
		}
		if err != nil {
			return 0, err
		}
		keys, err := facts.SortKeys()
		if err != nil {
			return 0, err
		}
		if c.root, err = facts.Parts(); err != nil {
			return 0, err
		}
		head, err := snap.Head(nil, c.m.ID)
		if err != nil {
			return 0, err
		}
		c.header, c.attached = newHeaderText(head, keys.Date, q.s.comparator), keys.Attachment
		if q.files {
			c.files = mime.Filenames(facts.BodyStructure)
		}
		bytes += len(head)
	}
	return done, nil
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
	c.header, c.root, c.texts = nil, nil, nil
	return nil
}

// readTexts finds which needles are in the text of a message: its text parts without
// their encodings, and the headers of messages within it.
func (q *search) readTexts(c *candidate) error {
	c.texts = make([]bool, len(q.needles))
	for i, n := range q.needles {
		c.texts[i] = n == ""
	}
	return q.readPart(c, c.root)
}

func (q *search) readPart(c *candidate, p *mime.Part) error {
	for _, kid := range p.Children {
		if p.IsMessage() {
			if err := q.readRange(c, kid.Header, kid.Body, func(r io.Reader) io.Reader { return mime.ToUTF8("", r) }); err != nil {
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
	return q.readRange(c, p.Body, p.End, func(r io.Reader) io.Reader {
		return mime.ToUTF8(p.Charset(), mime.NewDecoder(p.Encoding, r))
	})
}

// readRange looks for the needles in one range of the message.
func (q *search) readRange(c *candidate, from, to int64, decode func(io.Reader) io.Reader) error {
	if from >= to {
		return nil
	}
	r, err := q.v.acct.Open(q.s.ctx, c.m.ID, from, to-from)
	if err != nil {
		return err
	}
	defer r.Close()
	return q.scan(c.texts, decode(r))
}

// scan marks the needles that UTF-8 text holds. It keeps one buffer and as much of
// what came before as the longest needle may reach back.
func (q *search) scan(marks []bool, r io.Reader) error {
	buf := streamBuffers.Get().(*[streamBuffer]byte)
	defer streamBuffers.Put(buf)
	var window []byte
	kept := 0 // bytes of a character that is not whole yet
	for {
		n, err := io.ReadAtLeast(r, buf[kept:], streamBuffer/2)
		n += kept
		whole := n
		if err == nil {
			whole = wholeRunes(buf[:n])
		}
		window = q.s.comparator.AppendFold(window, buf[:whole])
		missing := false
		for i, needle := range q.needles {
			marks[i] = marks[i] || bytes.Contains(window, []byte(needle))
			missing = missing || !marks[i]
		}
		if !missing {
			return nil
		}
		if over := len(window) - q.longest; over > 0 {
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
