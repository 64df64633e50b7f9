package mbox

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/rfc822"
)

// Form returns how messages of an mbox file are handed over, but for their quoting.
func Form(stripStatus bool) rfc822.Form {
	if stripStatus {
		return rfc822.Form{Drop: IsStatus}
	}
	return rfc822.Form{}
}

// Pass is one reading of an mbox file.
type Pass struct {
	Quoting  Quoting
	Form     rfc822.Form
	KeepUIDs bool
	Temp     func() (rfc822.Temp, error)
	Keys     *rfc822.Keys           // nil: new ones
	Ignore   func(name string) bool // fields that are no part of what a message is known by; nil: IsStatus
	Fields   []string               // further ones that Message is asked about
	// Message may change what is told of a message. One for which it returns false is left out.
	Message func(from string, h *rfc822.Head, d rfc822.Digest, item *move.Item) bool
}

const detectSample = 8 << 20

// File reads a file in which one can go to and fro.
func (p *Pass) File(ctx context.Context, f io.Reader, at io.ReaderAt, how move.Reading, v move.Visitor) error {
	q := p.Quoting
	if q == Auto {
		sample := make([]byte, detectSample)
		n, err := at.ReadAt(sample, 0)
		if err != nil && err != io.EOF {
			return fault.Wrap(fault.Unavailable, "the file cannot be read", err)
		}
		q = Detect(sample[:n])
	}
	run := p.begin(q, how, v)
	scan := NewScanner(f, at, q)
	return run.all(ctx, scan, scan, func() func() (io.Reader, error) {
		offset, size, end := scan.Offset, scan.Size, ""
		if scan.Added {
			size, end = size-1, "\n"
		}
		return func() (io.Reader, error) {
			return io.MultiReader(io.NewSectionReader(at, offset, size), strings.NewReader(end)), nil
		}
	}, nil)
}

// Stream reads what can be read only once: what belongs to a batch is kept until the batch is over.
func (p *Pass) Stream(ctx context.Context, r io.Reader, how move.Reading, v move.Visitor) error {
	q := p.Quoting
	if q == Auto {
		b := bufio.NewReaderSize(r, lookAhead)
		sample, err := b.Peek(lookAhead)
		if err != nil && err != io.EOF {
			return err
		}
		q, r = Detect(sample), b
	}
	run := p.begin(q, how, v)
	spool := &rfc822.Spool{NewTemp: p.Temp}
	defer spool.Close()
	run.batch.After = spool.Reset
	scan := NewScanner(r, nil, q)
	if how.Plan {
		return run.all(ctx, scan, scan, func() func() (io.Reader, error) { return nil }, nil)
	}
	kept := &keeping{scan: scan, spool: spool}
	return run.all(ctx, scan, kept, func() func() (io.Reader, error) {
		from, size, tooLong := kept.from, kept.size, kept.tooLong
		return func() (io.Reader, error) {
			if tooLong {
				return nil, fault.Newf(fault.TooLarge, "it is longer than %d MB", rfc822.MaxMessage>>20)
			}
			return spool.Section(from, size), nil
		}
	}, func() error {
		kept.next()
		if spool.Len() >= rfc822.SpoolBatch {
			return run.batch.Flush(ctx)
		}
		return nil
	})
}

// keeping keeps what is read of a message.
type keeping struct {
	scan    *Scanner
	spool   *rfc822.Spool
	from    int64
	size    int64
	tooLong bool
}

func (k *keeping) next() { k.from, k.size, k.tooLong = k.spool.Len(), 0, false }

func (k *keeping) Read(b []byte) (int, error) {
	n, err := k.scan.Read(b)
	if k.size == 0 {
		k.from = k.spool.Len()
	}
	if k.size += int64(n); k.size > rfc822.MaxMessage {
		k.tooLong = true
		return n, err
	}
	if _, bad := k.spool.Write(b[:n]); bad != nil {
		return 0, bad
	}
	return n, err
}

type run struct {
	p     *Pass
	form  rfc822.Form
	look  *rfc822.Looker
	keys  *rfc822.Keys
	uids  uids
	batch *rfc822.Batch
	names []string
}

func (p *Pass) begin(q Quoting, how move.Reading, v move.Visitor) *run {
	r := &run{p: p, form: p.Form, keys: p.Keys, uids: uids{keep: p.KeepUIDs}, batch: rfc822.NewBatch(v, how)}
	r.form.Unquote = q.unquote
	ignore := p.Ignore
	if ignore == nil {
		ignore = IsStatus
	}
	r.look = rfc822.NewLooker(r.form, ignore)
	if r.keys == nil {
		r.keys = &rfc822.Keys{}
	}
	r.names = append(StatusFields(), p.Fields...)
	return r
}

// all goes through the messages. place returns a way to read the message at hand again;
// told is called when the batch knows of it.
func (r *run) all(ctx context.Context, scan *Scanner, raw io.Reader, place func() func() (io.Reader, error), told func() error) error {
	for scan.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		look, err := r.look.Look(raw)
		if err != nil {
			return err
		}
		item, ok := r.item(scan, look)
		if ok {
			again := place()
			err = r.batch.Add(ctx, item, func() (io.ReadCloser, error) { return r.open(again) })
		}
		if err == nil && told != nil {
			err = told()
		}
		if err != nil {
			return err
		}
	}
	if err := scan.Err(); err != nil {
		if errors.Is(err, errNotMbox) {
			return fault.Wrap(fault.Invalid, "it is no mbox file: it does not begin with a line \"From sender date\"", err)
		}
		return err
	}
	return r.batch.Flush(ctx)
}

func (r *run) open(again func() (io.Reader, error)) (io.ReadCloser, error) {
	raw, err := again()
	if err != nil {
		return nil, err
	}
	return io.NopCloser(rfc822.NewReader(raw, r.form)), nil
}

// item tells of the message at hand.
func (r *run) item(scan *Scanner, look rfc822.Look) (move.Item, bool) {
	h := rfc822.Glance(look.Header, r.names...)
	status := ReadStatus(h)
	if status.Gone {
		return move.Item{}, false
	}
	item := move.Item{
		UID: r.uids.next(status.UID), Size: look.Size, Flags: status.Flags, Keywords: status.Keywords,
		Date: scan.Date, MessageID: h.MessageID, Broken: h.Broken,
	}
	if r.p.Message != nil && !r.p.Message(scan.From, h, look.Digest, &item) {
		return move.Item{}, false
	}
	item.Key = r.keys.Key(look.Digest)
	if look.Size > rfc822.MaxMessage && item.Broken == "" {
		item.Broken = "it is very long"
	}
	return item, true
}
