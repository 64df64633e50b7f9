package imapc

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// Appended is what became of a message for Append.
type Appended struct {
	UIDValidity uint32
	UID         mail.UID // 0 if the server does not say (it knows no UIDPLUS)
	Err         error
}

// Append puts messages into a mailbox, in their order. Where the server offers it they go in
// one command (RFC 3502), all or none of them; else in one command each, without waiting
// between them if the server takes literals unasked (RFC 7888). The error is that of the
// connection: what became of those without an answer is not known.
func (c *Client) Append(ctx context.Context, wire string, list []Appending) ([]Appended, error) {
	if c.dead != nil {
		return nil, c.dead
	}
	name, err := c.mailbox(wire)
	if err != nil {
		return nil, err
	}
	defer c.watch(ctx)()
	out := make([]Appended, len(list))
	if len(list) > 1 && c.Capable("MULTIAPPEND") && c.fit(list) {
		return out, c.appendMany(ctx, name, list, out)
	}
	var sent []*Pending
	for i := range list {
		p := c.start("APPEND", "APPEND ", name)
		if err := c.appendOne(p, &list[i]); err != nil {
			return out, err
		}
		if !p.done {
			c.end()
		}
		sent = append(sent, p)
	}
	for i, p := range sent {
		err := c.wait(ctx, p)
		if c.dead != nil {
			return out, c.dead
		}
		out[i] = appended(p, err)
	}
	return out, nil
}

// fit tells whether all may be sent without leave, as it is if that is all the same.
func (c *Client) fit(list []Appending) bool {
	for i := range list {
		if !c.literalPlus(int(min(list[i].Size, 1<<30))) {
			return false
		}
	}
	return true
}

func (c *Client) appendMany(ctx context.Context, name string, list []Appending, out []Appended) error {
	p := c.start("APPEND", "APPEND ", name)
	for i := range list {
		if err := c.appendOne(p, &list[i]); err != nil {
			return err
		}
		if p.done {
			break
		}
	}
	if !p.done {
		c.end()
	}
	err := c.wait(ctx, p)
	if c.dead != nil {
		return c.dead
	}
	all := appended(p, err)
	uids := []mail.UID(nil)
	if f := strings.Fields(p.st.args); p.st.code == "APPENDUID" && len(f) == 2 {
		uids = parseUIDs(f[1])
	}
	for i := range out {
		out[i] = all
		if out[i].UID = 0; len(uids) == len(list) {
			out[i].UID = uids[i]
		}
	}
	return nil
}

// appended reads what the answer says.
func appended(p *Pending, err error) Appended {
	a := Appended{Err: err}
	if f := strings.Fields(p.st.args); err == nil && p.st.code == "APPENDUID" && len(f) == 2 {
		if v := parseUIDs(f[0]); len(v) == 1 {
			a.UIDValidity = uint32(v[0])
		}
		if u := parseUIDs(f[1]); len(u) == 1 {
			a.UID = u[0]
		}
	}
	return a
}

// appendOne writes flags, date and bytes of a message. A server that wants to be asked may
// refuse before it has them: p is done then.
func (c *Client) appendOne(p *Pending, m *Appending) error {
	c.w.WriteByte(' ')
	if m.Flags != 0 || len(m.Keywords) > 0 {
		c.w.Write(imap.FlagSet{System: m.Flags, Keywords: m.Keywords}.AppendText(nil))
		c.w.WriteByte(' ')
	}
	if !m.Date.IsZero() {
		c.w.Write(imap.AppendDateTime(nil, m.Date))
		c.w.WriteByte(' ')
	}
	plus := c.literalPlus(int(min(m.Size, 1<<30)))
	c.w.WriteString("{" + strconv.FormatInt(m.Size, 10))
	if plus {
		c.w.WriteByte('+')
	}
	c.w.WriteString("}\r\n")
	if !plus {
		asked := false
		p.more = func() error { asked = true; c.s.text(); return nil }
		if err := c.flush(); err != nil {
			return err
		}
		for !asked && !p.done {
			if err := c.response(); err != nil {
				return err
			}
		}
		if p.more = nil; p.done {
			return nil
		}
	}
	c.unsent = true
	n, err := io.CopyN(c.w, m.Body, m.Size)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		return c.lose(problem(Lost, "a message has "+strconv.FormatInt(n, 10)+" bytes and not "+strconv.FormatInt(m.Size, 10), err))
	}
	return c.lose(c.lastWords(err))
}
