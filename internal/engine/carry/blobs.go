package carry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// endOfTime is a time after which no blob was put.
var endOfTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// blob is one that a side lists.
type blob struct {
	name  mail.BlobRef
	size  int64
	needs []mail.BlobRef
}

func compareBlobs(a, b blob) int { return bytes.Compare(a.name[:], b.name[:]) }

// blobTask is a name that one or both sides have.
type blobTask struct {
	name     mail.BlobRef
	from, to *blob
}

func newTask(from, to *blob) (t blobTask) {
	if from != nil {
		b := *from
		t.name, t.from = b.name, &b
	}
	if to != nil {
		b := *to
		t.name, t.to = b.name, &b
	}
	return t
}

// blobs makes the blobs of the target those of the source, or counts how they differ.
func (c *copying) blobs(ctx context.Context, p pass) error {
	if err := c.countBlobs(ctx); err != nil {
		return err
	}
	from := &shelf{ctx: ctx, e: c.from, side: source}
	to := &shelf{ctx: ctx, e: c.to, side: target}
	return spread(ctx, c.opt.Parallel, func(yield func(blobTask) bool) error {
		for a, b := range merge(from.all, to.all, compareBlobs) {
			if from.err != nil || to.err != nil || !yield(newTask(a, b)) {
				break // a list that broke off says nothing of what is missing
			}
		}
		if from.err != nil {
			return from.err
		}
		return to.err
	}, func(ctx context.Context, t blobTask) error { return c.blob(ctx, p, t) })
}

// countBlobs finds how much there is to do.
func (c *copying) countBlobs(ctx context.Context) error {
	var n, size int64
	err := c.from.Blobs().List(ctx, func(_ mail.BlobRef, _ time.Time, s int64) bool {
		n++
		size += s
		return true
	})
	c.meter.count(func(at *Progress) { at.BlobsTotal, at.BlobBytesTotal = n, size })
	return broken(err, source, "the list of blobs")
}

// blob brings one blob over, or away.
func (c *copying) blob(ctx context.Context, p pass, t blobTask) error {
	same := t.from != nil && t.to != nil && t.from.size == t.to.size && slices.Equal(t.from.needs, t.to.needs)
	if same && p.content {
		var err error
		if same, err = c.equal(ctx, t.name); err != nil {
			return err
		}
	}
	if !same && (p.stage == Verifying || t.to != nil) {
		c.meter.changed(fmt.Sprintf("blob %v", t.name))
	}
	if !same && p.mend {
		if err := c.replace(ctx, t); err != nil {
			return err
		}
	}
	if t.from != nil {
		c.meter.count(func(at *Progress) { at.Blobs++; at.BlobBytes += t.from.size })
	}
	return nil
}

// replace puts the source's blob in the place of the target's.
func (c *copying) replace(ctx context.Context, t blobTask) error {
	if t.to != nil {
		if _, err := c.to.Blobs().Delete(ctx, t.name, endOfTime); err != nil {
			return broken(err, target, fmt.Sprintf("blob %v", t.name))
		}
	}
	if t.from == nil {
		return nil
	}
	r, err := c.open(ctx, c.from, source, t.name)
	if err != nil {
		return err
	}
	defer r.close()
	err = c.to.Blobs().Put(ctx, t.name, t.from.size, r, t.from.needs...)
	if r.err != nil {
		return r.err
	}
	if err != nil && r.n < t.from.size && fault.Is(err, fault.Invalid) {
		return broken(fault.Wrap(fault.Corrupt, "a blob is shorter than it is listed", err), source, fmt.Sprintf("blob %v", t.name))
	}
	return broken(err, target, fmt.Sprintf("blob %v", t.name))
}

// equal tells whether both sides have the same bytes. What cannot be read on the target for
// damage is not the same.
func (c *copying) equal(ctx context.Context, name mail.BlobRef) (bool, error) {
	a, err := c.open(ctx, c.from, source, name)
	if err != nil {
		return false, err
	}
	defer a.close()
	b, err := c.open(ctx, c.to, target, name)
	if err != nil {
		return false, unlessDamaged(err)
	}
	defer b.close()
	same, err := sameBytes(a, b)
	if b.err != nil {
		return false, unlessDamaged(b.err)
	}
	return same, err
}

func unlessDamaged(err error) error {
	if fault.Is(err, fault.Corrupt) || fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

func sameBytes(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(a, x)
		m, other := io.ReadFull(b, y)
		if !ended(err) {
			return false, err
		}
		if !ended(other) {
			return false, other
		}
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if err != nil {
			return true, nil
		}
	}
}

// ended tells whether a reader is well, or at its end.
func ended(err error) bool { return err == nil || err == io.EOF || err == io.ErrUnexpectedEOF }

// reading is a blob that is being read; its failures keep their side.
type reading struct {
	r    io.ReadCloser
	side string
	name mail.BlobRef
	n    int64
	err  error
}

func (c *copying) open(ctx context.Context, e engine.Engine, side string, name mail.BlobRef) (*reading, error) {
	r, err := e.Blobs().Open(ctx, name, 0, -1)
	if err != nil {
		return nil, broken(err, side, fmt.Sprintf("blob %v", name))
	}
	return &reading{r: r, side: side, name: name}, nil
}

func (r *reading) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += int64(n)
	if err != nil && err != io.EOF {
		r.err = broken(err, r.side, fmt.Sprintf("blob %v", r.name))
		err = r.err
	}
	return n, err
}

func (r *reading) close() { _ = r.r.Close() } // only read

// shelf lists a side's blobs with what they need.
type shelf struct {
	ctx  context.Context
	e    engine.Engine
	side string
	err  error
}

// all yields every blob in order of name. It walks both lists of the engine side by side.
func (s *shelf) all(yield func(blob) bool) {
	for listed, needs := range merge(s.list, s.needs, compareBlobs) {
		if s.err != nil {
			return
		}
		if listed == nil {
			continue // came in between
		}
		b := *listed
		if needs != nil {
			b.needs = needs.needs
		}
		if !yield(b) {
			return
		}
	}
}

func (s *shelf) list(yield func(blob) bool) {
	err := s.e.Blobs().List(s.ctx, func(name mail.BlobRef, _ time.Time, size int64) bool {
		return yield(blob{name: name, size: size})
	})
	s.failed(err)
}

func (s *shelf) needs(yield func(blob) bool) {
	err := s.e.Blobs().Needs(s.ctx, func(name mail.BlobRef, _ time.Time, needs []mail.BlobRef) bool {
		return yield(blob{name: name, needs: slices.Clone(needs)})
	})
	s.failed(err)
}

func (s *shelf) failed(err error) {
	if err != nil && s.err == nil {
		s.err = broken(err, s.side, "the list of blobs")
	}
}
