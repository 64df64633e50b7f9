package outward

import (
	"context"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/account"
)

// How much becomes durable at once.
const (
	batchMessages = 100
	batchBytes    = 16 << 20
)

// visitor takes in what the source tells of a mailbox.
type visitor struct {
	*run
	box     box
	index   *index
	result  *Result
	text    text
	waiting []Line
	held    int64
}

// Want chooses what is not here yet, and changes flags of what is.
func (v *visitor) Want(ctx context.Context, items []move.Item) ([]bool, error) {
	want := make([]bool, len(items))
	for i, it := range items {
		v.result.Messages++
		v.result.Bytes += it.Size
		m := v.index.find(it.UID)
		if m == nil {
			want[i] = it.Broken == ""
			if it.Broken != "" {
				if err := v.Skip(ctx, it, fault.New(fault.Corrupt, it.Broken)); err != nil {
					return nil, err
				}
			}
			continue
		}
		v.done.Messages++
		m.told = true
		if m.gone || m.flags != it.Flags || v.index.words[m.words] != joined(it.Keywords) {
			if err := v.reflag(m, it); err != nil {
				return nil, err
			}
		}
	}
	v.tell()
	return want, nil
}

func (v *visitor) reflag(m *mark, it move.Item) error {
	was, err := v.index.line(m)
	if err != nil {
		return err
	}
	now := was
	now.Flags, now.Keywords = account.FlagNames(it.Flags), it.Keywords
	if err := v.box.reflag(was, now); err != nil {
		return err
	}
	v.result.Reflagged++
	again := Line{UID: it.UID, Flags: now.Flags, Keywords: now.Keywords}
	if m.gone {
		again.Size = was.Size
	}
	return v.wait(again, 0)
}

// expunged notes, when all has been told, what the account has no more. The messages stay in the
// folder; an import of it leaves them out.
func (v *visitor) expunged() error {
	if err := v.settle(); err != nil {
		return err
	}
	rows := v.index.rows
	for i := range rows {
		m := &rows[i]
		if m.told || m.gone {
			continue
		}
		was, err := v.index.line(m)
		if err != nil {
			return err
		}
		if err := v.wait(Line{UID: m.uid, Flags: was.Flags, Keywords: was.Keywords, Size: was.Size, Gone: true}, 0); err != nil {
			return err
		}
	}
	return nil
}

// wait holds a line until what it tells of is durable.
func (v *visitor) wait(l Line, size int64) error {
	if l.Keywords == nil {
		l.Keywords = []string{}
	}
	v.waiting = append(v.waiting, l)
	if v.held += size; len(v.waiting) < batchMessages && v.held < batchBytes {
		return nil
	}
	return v.settle()
}

func (v *visitor) settle() error {
	if len(v.waiting) == 0 {
		return nil
	}
	if err := v.box.settle(); err != nil {
		return err
	}
	err := v.index.add(v.waiting)
	v.waiting, v.held = v.waiting[:0], 0
	return err
}

// Put writes a message.
func (v *visitor) Put(_ context.Context, it move.Item, r io.Reader) error {
	if err := v.text.read(spoolOn(v.Disk), r); err != nil {
		return err
	}
	if v.text.content != it.Content {
		return fault.New(fault.Corrupt, "its bytes are not those that were promised")
	}
	date := it.Date.UTC()
	l := Line{UID: it.UID, Flags: account.FlagNames(it.Flags), Keywords: it.Keywords, Date: &date, Size: v.text.size, Content: hexContent(it.Content)}
	if err := v.box.put(&l, &v.text); err != nil {
		return err
	}
	v.result.Added++
	v.done.Messages++
	v.done.Bytes += l.Size
	v.tell()
	return v.wait(l, l.Size)
}

func (v *visitor) tell() {
	if v.Progress != nil {
		v.done.Mailbox = v.result.Mailbox
		v.Progress(v.done)
	}
}

// Skip notes what cannot be had. What was expunged meanwhile is no loss.
func (v *visitor) Skip(_ context.Context, it move.Item, why error) error {
	v.done.Messages++
	if fault.Is(why, fault.NotFound) {
		v.result.Messages--
		v.result.Bytes -= it.Size
		return nil
	}
	v.result.Skipped++
	v.skip(v.result, it.UID, fault.Say(why))
	return nil
}

// Gone is not told by an account.
func (v *visitor) Gone(context.Context, []string) error { return nil }

// State is none.
func (v *visitor) State(context.Context, []byte) error { return nil }
