package account

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// Source is an account as a move.Source. Its items are keyed by UIDVALIDITY and UID, in the
// order of UIDs, and have their Content; UIDs may be kept.
type Source struct {
	call    Call
	address string
	since   time.Time
	boxes   map[string]Mailbox
	subs    []string
}

// Options are what a Source reads.
type Options struct {
	Call    Call
	Address string
	Since   time.Time // only messages with an internal date from then on; zero: all
}

// New returns the source of an account.
func New(o Options) *Source { return &Source{call: o.Call, address: o.Address, since: o.Since} }

// ID names the account.
func (s *Source) ID() string { return "martlet:" + s.address }

// Close does nothing.
func (s *Source) Close() error { return nil }

func (s *Source) path() string { return "/v1/accounts/" + url.PathEscape(s.address) + "/export" }

// Mailboxes lists the mailboxes of the account, INBOX first.
func (s *Source) Mailboxes(ctx context.Context) ([]move.Mailbox, error) {
	body, err := s.call(ctx, s.path())
	if err != nil {
		return nil, err
	}
	defer body.Close()
	s.boxes, s.subs = map[string]Mailbox{}, nil
	var list []move.Mailbox
	for d := json.NewDecoder(body); ; {
		var line struct {
			Mailbox
			End
			Error string `json:"error"`
		}
		switch err := d.Decode(&line); {
		case err != nil:
			return nil, cut(ctx, err)
		case line.Error != "":
			return nil, fault.New(fault.Unavailable, line.Error)
		case line.Done:
			return list, nil
		case line.ID == 0:
			s.subs = append(s.subs, line.Name)
			continue
		}
		b := line.Mailbox
		s.boxes[b.Name] = b
		list = append(list, move.Mailbox{
			Name: b.Name, Source: b.Name, Role: b.Role, Subscribed: b.Subscribed, UIDValidity: b.UIDValidity,
			Messages: int64(b.Messages), Bytes: b.Bytes,
		})
	}
}

// Subscriptions returns, after Mailboxes, the names that are subscribed and have no mailbox.
func (s *Source) Subscriptions() []string { return s.subs }

// Next returns, after Mailboxes, the UID that the next message of a mailbox would have had.
func (s *Source) Next(m move.Mailbox) mail.UID { return s.boxes[m.Source].UIDNext }

// Read goes through a mailbox in the order of UIDs. Reading.Since is not known here: all
// is told each time, flags and dates only of what v does not want.
func (s *Source) Read(ctx context.Context, m move.Mailbox, how move.Reading, v move.Visitor) error {
	box, ok := s.boxes[m.Source]
	if !ok {
		return fault.Newf(fault.NotFound, "the account has no mailbox %q", m.Source)
	}
	for from := mail.UID(1); from != 0; {
		items, next, err := s.items(ctx, box, from, move.MaxItems)
		if err != nil {
			return err
		}
		from = next
		if len(items) == 0 {
			continue
		}
		want, err := v.Want(ctx, items)
		if err != nil {
			return err
		}
		var chosen []move.Item
		for i, it := range items {
			if i < len(want) && want[i] {
				chosen = append(chosen, it)
			}
		}
		if err := s.put(ctx, box, chosen, v); err != nil {
			return err
		}
	}
	return nil
}

// items lists messages from a UID on; next is where to go on, 0 at the end.
func (s *Source) items(ctx context.Context, box Mailbox, from mail.UID, limit int) (items []move.Item, next mail.UID, err error) {
	q := url.Values{"uids": {fmt.Sprintf("%d:*", from)}, "limit": {strconv.Itoa(limit)}}
	body, err := s.call(ctx, s.messages(box, q))
	if err != nil {
		return nil, 0, err
	}
	defer body.Close()
	f := frames{r: bufio.NewReader(body)}
	for {
		m, end, err := f.next()
		switch {
		case err != nil:
			return nil, 0, cut(ctx, err)
		case end != nil && end.More:
			if end.Next != 0 { // earlier versions did not tell it
				next = end.Next
			}
			if next <= from {
				return nil, 0, fault.New(fault.Unavailable, "the server does not tell from which message on there are more")
			}
			return items, next, nil
		case end != nil:
			return items, 0, nil
		}
		next = m.UID + 1
		if m.Date.Before(s.since) {
			continue
		}
		it := move.Item{
			Key: fmt.Sprintf("%d.%d", box.UIDValidity, m.UID), UID: m.UID, Size: m.Size,
			Flags: ParseFlags(m.Flags), Keywords: m.Keywords, Date: m.Date, MessageID: m.ID, Broken: m.Error,
		}
		if m.Error == "" {
			if it.Content, err = ParseContent(m.Content); err != nil {
				return nil, 0, err
			}
		}
		items = append(items, it)
	}
}

func (s *Source) messages(box Mailbox, q url.Values) string {
	return fmt.Sprintf("%s/%d?%s", s.path(), box.ID, q.Encode())
}

// put hands over the messages of items.
func (s *Source) put(ctx context.Context, box Mailbox, items []move.Item, v move.Visitor) error {
	for len(items) > 0 {
		var set mail.UIDSet
		n := 0
		for ; n < len(items) && (n == 0 || len(set) < MaxSet/24); n++ {
			set.AddRange(items[n].UID, items[n].UID)
		}
		if err := s.some(ctx, box, set, items[:n], v); err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

// some hands over what one answer holds.
func (s *Source) some(ctx context.Context, box Mailbox, set mail.UIDSet, items []move.Item, v move.Visitor) error {
	q := url.Values{"uids": {set.String()}, "bodies": {"yes"}}
	body, err := s.call(ctx, s.messages(box, q))
	if err != nil {
		return err
	}
	defer body.Close()
	f := frames{r: bufio.NewReaderSize(body, 64<<10)}
	gone := fault.New(fault.NotFound, "it was expunged meanwhile")
	for {
		m, end, err := f.next()
		if err != nil {
			return cut(ctx, err)
		}
		for len(items) > 0 && (end != nil || items[0].UID < m.UID) {
			if err := v.Skip(ctx, items[0], gone); err != nil {
				return err
			}
			items = items[1:]
		}
		if end != nil {
			return nil
		}
		if len(items) == 0 || items[0].UID != m.UID {
			return fault.Newf(fault.Internal, "the server told of message %d, which was not asked for", m.UID)
		}
		it := items[0]
		items = items[1:]
		if m.Error != "" {
			err = v.Skip(ctx, it, fault.New(fault.Corrupt, m.Error))
		} else {
			err = s.one(ctx, &f, m, it, v)
		}
		if err != nil {
			return err
		}
	}
}

// one hands over a message and sees to it that its bytes are those that were promised.
func (s *Source) one(ctx context.Context, f *frames, m Message, it move.Item, v move.Visitor) error {
	want, err := ParseContent(m.Content)
	if err != nil {
		return err
	}
	it.Flags, it.Keywords, it.Size, it.Content = ParseFlags(m.Flags), m.Keywords, m.Size, want
	b := &body{f: f, left: m.Size, want: want}
	err = v.Put(ctx, it, b)
	if b.broken != nil && fault.Is(err, fault.Corrupt) {
		return v.Skip(ctx, it, b.broken)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, b)
	}
	return err
}

// cut says that an answer ended before its end.
func cut(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if fault.Of(err) != fault.Internal {
		return err
	}
	return fault.Wrap(fault.Unavailable, "the server's answer was cut short", err)
}

// frames reads an answer about messages.
type frames struct{ r *bufio.Reader }

// next returns the next message, or the end.
func (f *frames) next() (Message, *End, error) {
	line, err := f.line()
	if err != nil {
		return Message{}, nil, err
	}
	var whole struct {
		Message
		End
		Kind string `json:"kind"` // of a failure of the whole answer
	}
	if err := json.Unmarshal(line, &whole); err != nil {
		return Message{}, nil, err
	}
	switch {
	case whole.Kind != "":
		return Message{}, nil, fault.New(fault.Unavailable, whole.Error)
	case whole.Done:
		return Message{}, &whole.End, nil
	case whole.UID == 0 || whole.Size < 0:
		return Message{}, nil, fault.New(fault.Internal, "a message without a UID was told of")
	}
	return whole.Message, nil, nil
}

// line reads a line of at most 1 MB: keywords may be many.
func (f *frames) line() ([]byte, error) {
	var line []byte
	for {
		part, err := f.r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case err != bufio.ErrBufferFull || len(line) > 1<<20:
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// body is the bytes of one message. Its end tells whether they are the right ones.
type body struct {
	f      *frames
	left   int64
	want   move.Content
	hash   move.Summer
	done   bool
	broken error
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, b.end()
	}
	n, err := b.f.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	b.hash.Write(p[:n])
	if err == io.EOF {
		err = fault.Wrap(fault.Unavailable, "the server's answer was cut short", io.ErrUnexpectedEOF)
	}
	return n, err
}

// end reads what follows the bytes.
func (b *body) end() error {
	switch {
	case b.broken != nil:
		return b.broken
	case b.done:
		return io.EOF
	}
	line, err := b.f.line()
	if err != nil {
		return fault.Wrap(fault.Unavailable, "the server's answer was cut short", err)
	}
	var after After
	if err := json.Unmarshal(line, &after); err != nil {
		return fault.Wrap(fault.Internal, "the server's answer is not what was expected", err)
	}
	b.done = true
	switch {
	case after.Error != "":
		b.broken = fault.New(fault.Corrupt, after.Error)
	case b.hash.Content() != b.want:
		b.broken = fault.New(fault.Corrupt, "its bytes are not those that the server told the hash of")
	default:
		return io.EOF
	}
	return b.broken
}
