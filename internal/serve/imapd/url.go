package imapd

import (
	"bytes"
	"context"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// pointed is what a URL means: bytes of a message.
type pointed struct {
	acct *store.Account
	ld   loaded
	item imap.FetchItem // the section, without the partial range
	off  int64          // of the section in the message
	n    int64
	text []byte // the bytes themselves, of a selection of header fields
	cut  func(off, n int64) (int64, int64)
}

// errNoURL is what is wrong with a URL that leads nowhere, whatever the reason.
func errNoURL() error { return fault.New(fault.NotFound, "the URL leads to nothing") }

// mailboxOf returns the name of the mailbox a URL means, with the selected mailbox as
// the base of one that does not begin with a slash (RFC 4469, 3; RFC 5092, 7).
func (s *session) mailboxOf(u *imap.URL) (string, error) {
	if u.Mailbox != "" && (u.Rooted || s.view == nil) {
		return u.Mailbox, nil
	}
	if s.view == nil || u.Rooted {
		return "", errNoURL()
	}
	base := s.view.shown(s.view.pic.Mailbox().Name)
	if u.Mailbox == "" {
		return base, nil
	}
	if up := store.Parent(base); up != "" {
		return up + store.Separator + u.Mailbox, nil
	}
	return u.Mailbox, nil
}

// follow finds what a URL means in a mailbox. Faults: NotFound if it leads to nothing or
// to what the user may not read, in one sentence for all reasons.
func follow(ctx context.Context, at *place, u *imap.URL) (*pointed, error) {
	p := &pointed{acct: at.acct, item: u.Part}
	p.item.Kind, p.item.Partial = imap.FetchSection, false
	found := false
	err := at.acct.View(ctx, func(snap *store.Snapshot) error {
		box, err := at.lookup(snap, mail.RightRead)
		if err != nil {
			return err
		}
		if u.UIDValidity != 0 && u.UIDValidity != box.UIDValidity {
			return errNoURL()
		}
		if p.ld.m, err = snap.Message(box.ID, mail.UID(u.UID)); err != nil {
			return err
		}
		if p.ld.facts, err = snap.Facts(p.ld.m.ID); err != nil {
			return err
		}
		if p.ld.root, err = p.ld.facts.Parts(); err != nil {
			return err
		}
		p.off, p.n, found = locate(&p.item, &p.ld)
		return nil
	})
	if err == nil && !found || fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) || fault.Is(err, fault.Denied) {
		return nil, errNoURL()
	}
	if err != nil {
		return nil, err
	}
	p.cut = func(off, n int64) (int64, int64) { return cut(&u.Part, off, n) }
	if len(p.item.Fields) > 0 {
		return p, p.filter(ctx)
	}
	return p, nil
}

// filter reads the header fields that a URL selects.
func (p *pointed) filter(ctx context.Context) error {
	r, err := p.acct.Open(ctx, p.ld.m.ID, p.off, min(p.n, maxFilter))
	if err != nil {
		return err
	}
	defer r.Close()
	head, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	p.text = mime.FilterHeader(head, p.item.Fields, p.item.Text == imap.SectionNotFields)
	if p.text == nil {
		p.text = []byte{}
	}
	return nil
}

// open returns the bytes, as a FETCH of BODY.PEEK would send them, and how many.
func (p *pointed) open(ctx context.Context) (io.ReadCloser, int64, error) {
	if p.text != nil {
		off, n := p.cut(0, int64(len(p.text)))
		return io.NopCloser(bytes.NewReader(p.text[off : off+n])), n, nil
	}
	off, n := p.cut(p.off, p.n)
	if n == 0 {
		return io.NopCloser(bytes.NewReader(nil)), 0, nil
	}
	r, err := p.acct.Open(ctx, p.ld.m.ID, off, n)
	return r, n, err
}
