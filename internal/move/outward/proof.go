package outward

import (
	"context"
	"encoding/hex"
	"io"
	"strconv"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
)

func hexContent(c move.Content) string { return hex.EncodeToString(c[:]) }

func number(n int) string { return strconv.Itoa(n) }

// message returns the bytes of a message of a folder as the account had them.
func message(b box, l *Line) (io.ReadCloser, error) {
	r, err := b.read(l)
	if err != nil || l.Raw {
		return r, err
	}
	if _, ok := b.(*mboxBox); ok {
		return r, nil
	}
	return readCloser{newCRLF(r), r}, nil
}

type readCloser struct {
	io.Reader
	io.Closer
}

// prove reads a mailbox back, as an import does, and compares it with what the account has now.
func (r *run) prove(ctx context.Context, m move.Mailbox, res *Result) error {
	if res.Error != "" {
		return nil
	}
	e := r.entry(m)
	x, err := readIndex(r.Disk, e.Index)
	if err != nil {
		return err
	}
	defer x.close()
	b, err := (&Folder{d: r.Disk, manifest: r.manifest}).box(e)
	if err != nil {
		return err
	}
	defer b.close()
	err = r.Source.Read(ctx, m, move.Reading{Plan: true}, &prover{run: r, box: b, index: x, result: res})
	if fault.Is(err, fault.NotFound) {
		res.Error = "the mailbox was deleted meanwhile"
		return nil
	}
	return err
}

// prover compares.
type prover struct {
	*run
	box    box
	index  *index
	result *Result
}

// Want reads each message of the folder and wants none of the account's.
func (p *prover) Want(ctx context.Context, items []move.Item) ([]bool, error) {
	for _, it := range items {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		mark := p.index.find(it.UID)
		if mark == nil {
			continue // come in since, or skipped
		}
		l, err := p.index.line(mark)
		if err != nil {
			return nil, err
		}
		why := p.compare(&l, it)
		if why == "" {
			p.result.Proven++
			continue
		}
		p.result.Differ++
		p.skip(p.result, it.UID, why)
	}
	return make([]bool, len(items)), nil
}

// compare says how a message of the folder differs from the account's.
func (p *prover) compare(l *Line, it move.Item) string {
	switch {
	case it.Broken != "":
		return it.Broken
	case hexContent(it.Content) != l.Content:
		return "the account has other bytes under this UID"
	case l.Date == nil || !l.Date.Equal(it.Date):
		return "the date is another one"
	} // other flags were changed since: the next export brings them
	body, err := message(p.box, l)
	if err != nil {
		return "it cannot be read back: " + fault.Say(err)
	}
	defer body.Close()
	var h move.Summer
	if _, err := io.Copy(&h, body); err != nil {
		return "it cannot be read back: " + fault.Say(err)
	}
	if h.Content() != it.Content {
		return "what is in the folder has other bytes"
	}
	return ""
}

func (p *prover) Put(context.Context, move.Item, io.Reader) error { return nil }
func (p *prover) Skip(context.Context, move.Item, error) error    { return nil }
func (p *prover) Gone(context.Context, []string) error            { return nil }
func (p *prover) State(context.Context, []byte) error             { return nil }
