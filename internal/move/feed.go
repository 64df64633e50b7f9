package move

import (
	"bytes"
	"context"
	"io"
	"sync"
	"sync/atomic"
)

// feed hands batches to the target while the next is being filled, one after the other: the
// order of messages in a mailbox is that in which they come.
type feed struct {
	f       *filler
	ctx     context.Context
	waiting chan *batch
	free    chan *batch
	ended   chan struct{}
	bad     atomic.Pointer[targetError]
	mu      sync.Mutex // of what the row counts of messages
}

func newFeed(ctx context.Context, f *filler) *feed {
	d := &feed{f: f, ctx: ctx, waiting: make(chan *batch, 1), free: make(chan *batch, 3), ended: make(chan struct{})}
	go d.run()
	return d
}

// empty returns a batch to be filled.
func (d *feed) empty() *batch {
	select {
	case b := <-d.free:
		b.bytes, b.list = b.bytes[:0], b.list[:0]
		return b
	default:
		return &batch{}
	}
}

// send hands a batch over and returns an empty one.
func (d *feed) send(b *batch) *batch {
	d.waiting <- b
	return d.empty()
}

func (d *feed) failed() error {
	if e := d.bad.Load(); e != nil {
		return e
	}
	return nil
}

// end waits until all batches are in.
func (d *feed) end() error {
	close(d.waiting)
	<-d.ended
	d.f.batch.close()
	return d.failed()
}

func (d *feed) run() {
	defer close(d.ended)
	for b := range d.waiting {
		if d.failed() == nil && d.ctx.Err() == nil {
			if err := d.put(b); err != nil {
				d.bad.Store(&targetError{err})
			}
		}
		b.close()
		select {
		case d.free <- b:
		default:
		}
	}
}

// close releases what a batch has.
func (b *batch) close() {
	for i := range b.list {
		if file := b.list[i].file; file != nil {
			file.Close()
			b.list[i].file = nil
		}
	}
}

// put puts a batch, mailbox by mailbox: it is one, but of a scattered source.
func (d *feed) put(b *batch) error {
	left := b.list
	for len(left) > 0 {
		at := left[0].at
		var these []Incoming
		var ways []*onItsWay
		var rest []onItsWay
		for i := range left {
			if left[i].at.ID == at.ID {
				these, ways = append(these, b.incoming(&left[i])), append(ways, &left[i])
			} else {
				rest = append(rest, left[i])
			}
		}
		out, err := d.f.im.Target.Put(d.ctx, d.f.row.box, at.ID, these)
		if err != nil {
			return err
		}
		for i := range out {
			d.settle(ways[i], &out[i])
		}
		d.f.progress(len(out))
		left = rest
	}
	return nil
}

func (b *batch) incoming(w *onItsWay) Incoming {
	in := Incoming{Item: w.item, Size: w.size}
	if w.file != nil {
		in.Open = func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(w.file, 0, w.size)), nil }
	} else {
		in.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.bytes[w.from:w.to])), nil }
	}
	return in
}

// settle counts what became of a message.
func (d *feed) settle(w *onItsWay, o *Outcome) {
	row := d.f.row
	e := Event{Source: row.Source, Mailbox: row.Mailbox, Key: w.item.Key, Message: w.item.MessageID, Bytes: w.size}
	if o.Refused != "" {
		d.f.skip(&w.item, o.Refused, o.Later)
		if full := d.f.im.full.Load(); o.Later && (full == 0 || w.size < full) {
			d.f.im.full.Store(max(w.size, 1))
		}
		return
	}
	if o.Before && o.Content != (Content{}) && o.Content != w.content {
		d.f.skip(&w.item, sameKey, false)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	row.tied++
	if o.Before { // an earlier attempt put it and did not hear of it, or the source told of it twice
		row.Brought++
		return
	}
	row.Brought++
	row.Read += w.size
	if o.Content != w.content {
		row.Differs++
		e.Event, e.Why = "differs", "what is stored is not what was read"
		d.f.im.tell(e)
	}
	if o.Changed != "" {
		row.Changed++
		e.Event, e.Why = "changed", o.Changed
		d.f.im.tell(e)
	}
}

func (f *filler) progress(n int) {
	f.feed.mu.Lock()
	f.done += int64(n)
	e := Event{Event: "progress", Source: f.m.Source, Mailbox: f.row.Mailbox, Done: f.done, Total: max(f.m.Messages, f.row.Messages)}
	f.feed.mu.Unlock()
	f.im.tell(e)
}
