package outward

import (
	"context"
	"io"
	"slices"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// prove compares what is at the server now with what the account has.
func (v *sender) prove(ctx context.Context, m move.Mailbox) error {
	if err := v.look(ctx); err != nil {
		return err
	}
	p := &serverProver{sender: v}
	if v.Proof {
		p.contents = map[move.Content]int{}
		if err := v.Server.Read(ctx, v.to, move.Reading{}, &hasher{into: p.contents}); err != nil {
			return err
		}
	}
	return v.Source.Read(ctx, m, move.Reading{}, p)
}

// hasher reads all that is at the server.
type hasher struct {
	looker
	into map[move.Content]int
}

func (h *hasher) Want(_ context.Context, items []move.Item) ([]bool, error) {
	want := make([]bool, len(items))
	for i := range want {
		want[i] = true
	}
	return want, nil
}

func (h *hasher) Put(_ context.Context, _ move.Item, r io.Reader) error {
	var s move.Summer
	if _, err := io.Copy(&s, r); err != nil {
		return err
	}
	h.into[s.Content()]++
	return nil
}

// serverProver looks for each message of the account at the server.
type serverProver struct {
	*sender
	contents map[move.Content]int // nil: bytes are not compared
}

func (p *serverProver) Want(_ context.Context, items []move.Item) ([]bool, error) {
	want := make([]bool, len(items)) // those with bare LF have another size there, and other bytes
	for i, it := range items {
		if it.Broken != "" {
			continue
		}
		why := p.compare(likeOf(it.MessageID, it.Size, it.Date), it, it.Content)
		want[i] = why != ""
		if why == "" {
			p.result.Proven++
		}
	}
	return want, nil
}

// Put tries again with the message as IMAP carries it.
func (p *serverProver) Put(_ context.Context, it move.Item, r io.Reader) error {
	l := &letterOut{item: it}
	defer l.text.close()
	if err := l.text.read(p.Spool, r); err != nil {
		return err
	}
	var s move.Summer
	if _, err := io.Copy(&s, l.body()); err != nil {
		return err
	}
	why := p.compare(l.asThere(), it, s.Content())
	if why == "" {
		p.result.Proven++
		return nil
	}
	if p.refusedBefore(it.UID) {
		return nil
	}
	p.result.Differ++
	if len(p.report.Skipped) < MaxSkips {
		p.report.Skipped = append(p.report.Skipped, Skip{p.result.Mailbox, it.UID, why})
	}
	return nil
}

func (p *serverProver) refusedBefore(uid mail.UID) bool {
	return slices.ContainsFunc(p.report.Skipped, func(s Skip) bool { return s.Mailbox == p.result.Mailbox && s.UID == uid })
}

func (p *serverProver) Skip(context.Context, move.Item, error) error { return nil }

// compare says in what a message is not at the server as it is here.
func (p *serverProver) compare(k like, it move.Item, content move.Content) string {
	list := p.have[k]
	if len(list) == 0 {
		return "it is not at the server, or not of this size"
	}
	at := slices.IndexFunc(list, func(h present) bool { return h.date == it.Date.Unix() })
	if at < 0 {
		return "it has another date at the server"
	}
	if it.Flags&^list[at].flags != 0 {
		return "it has not all its flags at the server"
	}
	if p.contents != nil {
		if p.contents[content] == 0 {
			return "the server gives other bytes"
		}
		p.contents[content]--
	}
	p.have[k] = slices.Delete(slices.Clone(list), at, at+1)
	return ""
}
