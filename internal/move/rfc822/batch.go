package rfc822

import (
	"context"
	"errors"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
)

// ErrRewritten is the cause of an error of a message's reader that ends the reading of its mailbox:
// the file in which all of them lie was written anew meanwhile. The error is Unavailable.
var ErrRewritten = errors.New("the file was written anew")

// Batch collects items for a visitor and hands over those it wants.
type Batch struct {
	v     move.Visitor
	plan  bool
	items []move.Item
	open  []func() (io.ReadCloser, error)
	// After is called when a batch has been handed over; what was held for it can go.
	After func() error
}

// NewBatch returns an empty one.
func NewBatch(v move.Visitor, how move.Reading) *Batch { return &Batch{v: v, plan: how.Plan} }

// Add adds a message. open is called at most once, before the next batch begins; its reader
// gives the message with lines as they are to be.
func (b *Batch) Add(ctx context.Context, item move.Item, open func() (io.ReadCloser, error)) error {
	if item.MessageID != "" && len(item.MessageID) > 998 {
		item.MessageID = ""
	}
	b.items, b.open = append(b.items, item), append(b.open, open)
	if len(b.items) >= move.MaxItems {
		return b.Flush(ctx)
	}
	return nil
}

// Flush hands over what was collected.
func (b *Batch) Flush(ctx context.Context) error {
	if len(b.items) > 0 {
		if err := b.hand(ctx); err != nil {
			return err
		}
	}
	clear(b.open)
	b.items, b.open = b.items[:0], b.open[:0]
	if b.After != nil {
		return b.After()
	}
	return nil
}

func (b *Batch) hand(ctx context.Context) error {
	wanted, err := b.v.Want(ctx, b.items)
	if err != nil || b.plan {
		return err
	}
	for i, want := range wanted {
		if !want {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.put(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// put hands over one message. That it cannot be opened concerns no other.
func (b *Batch) put(ctx context.Context, i int) error {
	r, err := b.open[i]()
	if err != nil {
		return b.v.Skip(ctx, b.items[i], err)
	}
	watched := &watch{r: r}
	err = b.v.Put(ctx, b.items[i], watched)
	_ = r.Close()
	if err != nil && errors.Is(watched.err, ErrRewritten) && ctx.Err() == nil {
		return watched.err // what was told of the messages after it is not true any more, either
	}
	if err != nil && watched.err != nil && ctx.Err() == nil {
		return b.v.Skip(ctx, b.items[i], fault.Wrap(fault.Unavailable, "it could not be read to its end", watched.err))
	}
	return err
}

// watch remembers whether it was the reading that failed.
type watch struct {
	r   io.Reader
	err error
}

func (w *watch) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}
