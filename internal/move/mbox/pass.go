package mbox

import (
	"bufio"
	"context"
	"errors"
	"hash"
	"hash/crc64"
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
	run.grown = func() bool { return grown(at, scan) }
	raw := &summed{r: scan, sum: crc64.New(polynomial)}
	return run.all(ctx, scan, raw, func() func() (io.Reader, error) {
		offset, size, end, want := scan.Offset, scan.Size, "", raw.take()
		if scan.Added {
			size, end = size-1, "\n"
		}
		return func() (io.Reader, error) {
			r := io.MultiReader(io.NewSectionReader(at, offset, size), strings.NewReader(end))
			return &summed{r: r, sum: crc64.New(polynomial), want: &want}, nil
		}
	}, nil)
}

// summed sums up the bytes of a message that is read. The second time they must be the same:
// Dovecot, mutt and others write a file anew when a message is expunged.
type summed struct {
	r    io.Reader
	sum  hash.Hash64
	want *uint64 // nil: not known yet
}

var polynomial = crc64.MakeTable(crc64.ECMA)

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	if err == io.EOF && s.want != nil && s.sum.Sum64() != *s.want {
		err = fault.Wrap(fault.Unavailable, "another program has changed the file while it was read", rfc822.ErrRewritten)
	}
	return n, err
}

// take returns the sum, and begins another.
func (s *summed) take() uint64 {
	sum := s.sum.Sum64()
	s.sum.Reset()
	return sum
}

// grown tells whether the last message of a file has become longer since it was read: a program
// was writing it.
func grown(at io.ReaderAt, scan *Scanner) bool {
	after := make([]byte, len("From "))
	n, _ := at.ReadAt(after, scan.pos)
	return n > 0 && (scan.Added || string(after[:n]) != "From "[:n])
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
	// grown tells, at the end of a file, whether the last message was not whole; nil: it was
	grown func() bool
	held  func() error // adds that message
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
		if s, sums := raw.(*summed); sums && !ok {
			s.take()
		}
		if ok {
			again := place()
			err = r.add(func() error { return r.batch.Add(ctx, item, func() (io.ReadCloser, error) { return r.open(again) }) })
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
	if r.held != nil && r.grown() {
		if err := r.batch.Flush(ctx); err != nil {
			return err
		}
		return fault.New(fault.Unavailable, "another program is writing into the file")
	}
	if err := r.add(nil); err != nil {
		return err
	}
	return r.batch.Flush(ctx)
}

// add adds a message; in a file to which one may be added meanwhile, when it is known not to be the
// last.
func (r *run) add(next func() error) error {
	if r.grown == nil && next != nil {
		return next()
	}
	held := r.held
	if r.held = next; held != nil {
		return held()
	}
	return nil
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
