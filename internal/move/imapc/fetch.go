package imapc

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// Fetch asks for messages and calls fn for each as it comes. What fn returns as an error
// ends it; what the server still sends is thrown away then.
func (c *Client) Fetch(ctx context.Context, q Query, fn func(*Message) error) error {
	return c.Wait(ctx, c.StartFetch(q, fn))
}

// StartFetch asks as Fetch does and does not wait: fn is called while a later command is
// waited for. The server answers in the order of the questions. Keep less in flight than the
// kernel's buffers hold of questions (some tens).
func (c *Client) StartFetch(q Query, fn func(*Message) error) *Pending {
	var items []string
	add := func(yes bool, item string) {
		if yes {
			items = append(items, item)
		}
	}
	add(true, "UID")
	add(q.Flags, "FLAGS")
	add(q.Date, "INTERNALDATE")
	add(q.Size, "RFC822.SIZE")
	add(q.ModSeq, "MODSEQ")
	add(q.Gmail, "X-GM-MSGID X-GM-THRID X-GM-LABELS")
	add(q.MessageID, "BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]")
	add(q.Body, "BODY.PEEK[]")
	line := []string{"UID FETCH ", q.UIDs.String(), " (", strings.Join(items, " "), ")"}
	if q.ChangedSince > 0 {
		line = append(line, " (CHANGEDSINCE ", uintString(q.ChangedSince))
		if q.Vanished {
			line = append(line, " VANISHED")
		}
		line = append(line, ")")
	}
	p := c.command("FETCH", line...)
	p.fetch, p.query = fn, q
	return p
}

// Wait waits for the answer to p; those before it are answered too.
func (c *Client) Wait(ctx context.Context, p *Pending) error { return c.wait(ctx, p) }

// Done tells whether p is answered.
func (p *Pending) Done() bool { return p.done }

// fetched reads what a FETCH response says of a message, and hands it on.
func (c *Client) fetched(seq uint32) {
	s := &c.s
	m := &c.msg
	*m = Message{Seq: seq, Size: -1, Keywords: m.Keywords[:0], Labels: m.Labels[:0]}
	told := false
	s.list(func() {
		item := c.fetchItem()
		if s.err != nil {
			return
		}
		switch item {
		case "BODY[]", "RFC822", "BINARY[]":
			s.spaces()
			told = c.bodyItem(m) || told
		default:
			c.fetchValue(item, m)
		}
	})
	if s.err == nil && !told {
		c.hand(m)
	}
}

// fetchItem reads the name of an item with its section, in upper case.
func (c *Client) fetchItem() string {
	s := &c.s
	name := strings.ToUpper(string(s.word(&nameBytes)))
	if s.peek() != '[' {
		return name
	}
	var b strings.Builder
	b.WriteString(name)
	for s.err == nil {
		ch := s.next()
		b.WriteByte(ch)
		if ch == ']' {
			break
		}
		if b.Len() > 4096 || ch == '\n' {
			s.fail("the name of a section does not end")
		}
	}
	if s.take('<') { // origin of a partial
		s.number()
		s.expect('>')
	}
	return strings.ToUpper(b.String())
}

func (c *Client) fetchValue(item string, m *Message) {
	s := &c.s
	s.spaces()
	switch item {
	case "UID":
		m.UID = mail.UID(s.number32())
	case "FLAGS":
		m.HasFlags = true
		m.Flags, m.Keywords = c.flags(m.Keywords)
	case "INTERNALDATE":
		date, _ := s.nstring()
		m.Date = parseDate(date)
	case "RFC822.SIZE":
		if n := s.number(); n < 1<<62 {
			m.Size = int64(n)
		}
	case "MODSEQ":
		s.list(func() { m.ModSeq = s.number() })
	case "X-GM-MSGID":
		m.GmailID = s.number()
	case "X-GM-THRID":
		m.Thread = s.number()
	case "X-GM-LABELS":
		s.list(func() {
			l := s.name()
			if !strings.HasPrefix(l, `\`) {
				l = decodeName(l, c.utf8)
			}
			if len(m.Labels) < 1000 {
				m.Labels = append(m.Labels, l)
			}
		})
	default:
		if strings.HasPrefix(item, "BODY[HEADER.FIELDS") {
			h, _ := s.nstring()
			m.MessageID = messageID(h)
			return
		}
		s.value()
	}
}

// flags reads a list of flags. \Recent and flags that nobody knows are left out.
func (c *Client) flags(keywords []string) (mail.Flags, []string) {
	s := &c.s
	var f mail.Flags
	s.list(func() {
		b := s.word(&atomBytes)
		if len(b) > 0 && b[0] == '\\' {
			f |= mail.SystemFlag(string(b))
			return
		}
		if len(b) <= imap.MaxKeyword && len(keywords) < imap.MaxKeywords {
			keywords = append(keywords, string(b))
		}
	})
	return f, keywords
}

// holdBody is how large a body may be that is held because its UID is not known yet.
const holdBody = 1 << 20

// bodyItem reads a body and hands the message on, unless it has none. It tells whether it
// was handed on.
func (c *Client) bodyItem(m *Message) bool {
	s := &c.s
	if ch := s.peek(); ch != '{' && ch != '~' {
		str, ok := s.nstring()
		if ok && s.err == nil {
			m.Body, m.BodySize = strings.NewReader(str), int64(len(str))
		}
		return false
	}
	n := s.literal()
	if s.err != nil {
		return false
	}
	if m.UID == 0 {
		if m.UID = c.onlyUID(); m.UID == 0 {
			c.late = true
			if n <= holdBody {
				var b strings.Builder
				if _, err := io.CopyN(&b, s.r, n); err != nil {
					s.lost(err)
				}
				m.Body, m.BodySize = strings.NewReader(b.String()), n
				return false
			}
		}
	}
	lit := &body{s: s, left: n}
	m.Body, m.BodySize = lit, n
	c.hand(m)
	s.discard(lit.left)
	lit.left = 0
	return true
}

// onlyUID returns the UID that the oldest FETCH for bodies asks for, if it is one.
func (c *Client) onlyUID() mail.UID {
	for _, p := range c.queue {
		if p.query.Body {
			if set := p.query.UIDs; len(set) == 1 && set[0].From == set[0].To {
				return set[0].From
			}
			break
		}
	}
	return 0
}

// UIDsLate tells whether the server was seen to send the UID of a message behind its body:
// one that is too large to be held comes with UID 0 then, unless it is asked for alone.
func (c *Client) UIDsLate() bool { return c.late }

// body reads a literal off the connection.
type body struct {
	s    *scanner
	left int64
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if b.s.err != nil {
		return 0, b.s.err
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.s.r.Read(p)
	b.left -= int64(n)
	if err != nil {
		b.s.lost(err)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return n, fault.Wrap(fault.Closed, "the connection was lost within a message", err)
	}
	return n, nil
}

// hand gives a message to the command that asked for it, or to who wants news.
func (c *Client) hand(m *Message) {
	for _, p := range c.queue {
		if p.fetch == nil || !p.asksFor(m) {
			continue
		}
		if p.err == nil {
			p.err = p.fetch(m)
		}
		return
	}
	if sel := c.selecting(); sel != nil && c.sel != nil && m.UID != 0 && len(c.sel.Changed) < maxRanges {
		c.sel.Changed = append(c.sel.Changed, ChangedUID{m.UID, m.Flags, append([]string(nil), m.Keywords...), m.ModSeq})
		return
	}
	c.tell(News{Fetch: m})
}

// asksFor tells whether m is an answer to p, and not flags that changed meanwhile or what
// another command in flight asks for.
func (p *Pending) asksFor(m *Message) bool {
	switch {
	case p.query.Body != (m.Body != nil):
		return false
	case m.UID == 0:
		return m.Body != nil
	case !p.query.UIDs.Contains(m.UID):
		return false
	}
	return m.Body != nil || !p.query.Size || m.Size >= 0 || !m.Date.IsZero()
}

// messageID returns the id in a header field, without brackets.
func messageID(field string) string {
	_, v, _ := strings.Cut(field, ":")
	if i := strings.IndexByte(v, '<'); i >= 0 {
		if j := strings.IndexByte(v[i:], '>'); j > 0 {
			v = v[i+1 : i+j]
		}
	}
	v = strings.TrimSpace(clean(v))
	if len(v) > 998 {
		return ""
	}
	return v
}

// parseDate reads a date-time (RFC 9051, 9). It returns the zero time for what is none.
func parseDate(s string) time.Time {
	t, err := time.Parse("2-Jan-2006 15:04:05 -0700", strings.TrimSpace(s))
	if err != nil || t.Year() < 1 {
		return time.Time{}
	}
	return t
}
