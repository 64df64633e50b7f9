package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"slices"
	"sync"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// maxHead is how much of a message's header is kept apart from its body; the rest
// of a longer header lies with the body. Where the cut is shows nowhere outside.
const maxHead = 256 << 10

// WholeHeader tells whether the first bytes of a message (Snapshot.Head) are all of its
// header for sure.
func WholeHeader(head []byte) bool { return len(head) < maxHead }

// Parcel is a whole message taken in: parsed, its body stored under its content's
// name if it is not a small one, ready to be appended to any number of mailboxes. It
// is immutable. It is no mail yet: until an Append commits, Sweep may collect the body
// after a day.
type Parcel struct {
	store    *Store
	head     []byte       // the first bytes of the message
	header   []byte       // the record of them
	sum      mail.BlobRef // SHA-256 of the body, if it is a blob
	small    []byte       // the record of the body, if each message keeps its own
	digest   mail.BlobRef // SHA-256 of a small body that was compressed, zero if it is not known yet
	bodySize int64
	message  *mime.Message // of the message without prefix
	prefix   int64         // bytes that the header is longer than the one message describes; negative if it is shorter

	// records returns what all appends share. It is made once, at the first append,
	// outside every account's lock.
	records func() *content
}

// finish makes p ready for appends.
func (p *Parcel) finish() *Parcel {
	p.records = sync.OnceValue(func() *content {
		c := &content{references: referenceHashes(p.message), facts: encodeFacts(p), keys: encodeKeys(p), header: p.header, body: p.small}
		if id := p.message.MessageID; id != "" {
			c.named, c.name = true, HashMessageID(id)
		}
		return c
	})
	return p
}

// setHead gives p its first bytes, of which it keeps a copy.
func (p *Parcel) setHead(head []byte) {
	if p.header = sealPlain(recHeader, head); p.header != nil {
		p.head = plainIn(p.header)
		return
	}
	p.head = bytes.Clone(head)
	p.header = seal(recHeader, pack(p.store.pack.header, nil, head))
}

// Receive reads a message to the end of r and stores its body, unless that is small. It
// keeps at most about 1.5 MB in memory whatever the size. Faults: TooLarge over the store's limit
// (r is then read no further), those of r as they are, Unavailable.
func (s *Store) Receive(ctx context.Context, r io.Reader) (*Parcel, error) {
	a, err := s.Read(ctx, r)
	if err != nil {
		return nil, err
	}
	return a.Take(ctx)
}

// Arrival is a message that was read. A short one has not been looked at yet: whoever
// reads many may leave that to another processor. It holds 64 KB until Take.
type Arrival struct {
	store  *Store
	buf    *[]byte
	size   int
	parcel *Parcel // of a longer message
}

// Read is the first half of Receive, which needs r.
func (s *Store) Read(ctx context.Context, r io.Reader) (*Arrival, error) {
	a := &Arrival{store: s, buf: s.buffers.Get().(*[]byte)}
	for buf := *a.buf; a.size < len(buf); {
		n, err := r.Read(buf[a.size:])
		a.size += n
		if int64(a.size) > s.opt.MaxMessage {
			err = s.tooLarge()
		}
		if err == io.EOF {
			return a, nil
		}
		if err != nil {
			a.release()
			return nil, err
		}
	}
	defer a.release()
	parcel, err := s.receiveLong(ctx, io.MultiReader(bytes.NewReader(*a.buf), r))
	a.parcel = parcel
	return a, err
}

// Take is the second half of Receive. It is called once.
func (a *Arrival) Take(ctx context.Context) (*Parcel, error) {
	if a.parcel != nil {
		return a.parcel, nil
	}
	defer a.release()
	return a.store.receiveShort(ctx, (*a.buf)[:a.size])
}

func (a *Arrival) release() {
	a.store.buffers.Put(a.buf)
	a.buf = nil
}

// Prepare makes what an Append needs, so that the Append has less to do.
func (p *Parcel) Prepare() { p.records() }

func (s *Store) tooLarge() error {
	return fault.Newf(fault.TooLarge, "message is larger than %d bytes", s.opt.MaxMessage)
}

// shortMessage is how much of a message is read before anything is done with it: what
// ends within has a body of one chunk and is taken in without a spool.
const shortMessage = chunkSize

// receiveShort takes in a whole message, of which it keeps what it needs.
func (s *Store) receiveShort(ctx context.Context, b []byte) (*Parcel, error) {
	end, _ := headEnd(b, 0)
	p := &Parcel{store: s, bodySize: int64(len(b) - end), message: s.parse(b)}
	p.setHead(b[:end])
	body := b[end:]
	if len(body) == 0 {
		return p.finish(), nil
	}
	if p.small = sealPlain(recBody, body); p.small != nil {
		return p.finish(), nil
	}
	if nextChunk(body, false) < len(body) {
		w := &bodyWriter{store: s, size: p.bodySize, chunk: body}
		if err := w.finish(); err != nil {
			return nil, err
		}
		p.sum = sha256.Sum256(body)
		return p.finish(), w.put(ctx, p.sum)
	}
	chunk := s.pack.chunk(nil, body)
	if packed := chunk[:len(chunk)-4]; isSmall(end, p.bodySize, int64(len(packed))) {
		p.small, p.digest = seal(recBody, packed), sha256.Sum256(body)
		return p.finish(), nil
	}
	p.sum = sha256.Sum256(body)
	return p.finish(), s.putBody(ctx, p.sum, bodyHead(p.bodySize, []int{len(chunk)}), int64(len(chunk)), bytes.NewReader(chunk))
}

// parse parses a whole message.
func (s *Store) parse(b []byte) *mime.Message {
	parser := s.parsers.Get().(*mime.Parser)
	parser.Reset()
	parser.Write(b)
	m := parser.Finish()
	s.parsers.Put(parser)
	return m
}

// receiveLong takes in a message of any size.
func (s *Store) receiveLong(ctx context.Context, r io.Reader) (*Parcel, error) {
	in := intake{store: s, parser: mime.NewParser(mime.DefaultLimits()), sum: sha256.New(), body: bodyWriter{store: s}}
	defer in.body.close()
	if err := in.read(r); err != nil {
		return nil, err
	}
	p := &Parcel{store: s, bodySize: in.body.size, message: in.parser.Finish()}
	p.setHead(in.head)
	if p.bodySize == 0 {
		return p.finish(), nil
	}
	copy(p.sum[:], in.sum.Sum(nil))
	return p.finish(), in.body.put(ctx, p.sum)
}

// intake is a message on its way in.
type intake struct {
	store    *Store
	parser   *mime.Parser
	head     []byte
	headDone bool
	sum      hash.Hash
	body     bodyWriter
}

func (in *intake) read(r io.Reader) error {
	pooled := in.store.buffers.Get().(*[]byte)
	defer in.store.buffers.Put(pooled)
	buf := *pooled
	var size int64
	for {
		n, err := r.Read(buf)
		size += int64(n)
		if size > in.store.opt.MaxMessage {
			return in.store.tooLarge()
		}
		in.parser.Write(buf[:n])
		if err := in.split(buf[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			return in.body.finish()
		}
		if err != nil {
			return err
		}
	}
}

// split puts bytes to the head until its end, and all others to the body.
func (in *intake) split(b []byte) error {
	if !in.headDone {
		had := len(in.head)
		in.head = append(in.head, b...)
		end, found := headEnd(in.head, max(0, had-3))
		if !found && len(in.head) < maxHead {
			return nil
		}
		end = min(end, maxHead)
		in.headDone = true
		b = b[end-had:]
		in.head = bytes.Clone(in.head[:end])
	}
	in.sum.Write(b)
	return in.body.write(b)
}

// headEnd finds the end of the first empty line, looking from a place on.
func headEnd(b []byte, from int) (end int, found bool) {
	if from == 0 {
		if bytes.HasPrefix(b, []byte("\r\n")) {
			return 2, true
		}
		if bytes.HasPrefix(b, []byte("\n")) {
			return 1, true
		}
	}
	for i := from; ; i++ {
		k := bytes.IndexByte(b[i:], '\n')
		if k < 0 {
			return len(b), false
		}
		i += k
		if rest := b[i+1:]; bytes.HasPrefix(rest, []byte("\n")) {
			return i + 2, true
		} else if bytes.HasPrefix(rest, []byte("\r\n")) {
			return i + 3, true
		}
	}
}

// SpoolFile is a file for what is written once and read after that. It is gone when it
// is closed.
type SpoolFile interface {
	io.Writer
	io.ReaderAt
	io.Closer
}

// spool holds packed bytes: in memory up to half a megabyte, then in a file.
type spool struct {
	mem  []byte
	file SpoolFile
	size int64
}

const spoolInMemory = 512 << 10

func (s *spool) write(make func() (SpoolFile, error), b []byte) error {
	s.size += int64(len(b))
	if s.file == nil && (make == nil || len(s.mem)+len(b) <= spoolInMemory) {
		s.mem = append(s.mem, b...)
		return nil
	}
	var err error
	if s.file == nil {
		if s.file, err = make(); err == nil {
			_, err = s.file.Write(s.mem)
			s.mem = nil
		}
	}
	if err == nil {
		_, err = s.file.Write(b)
	}
	if err != nil {
		return fault.Wrap(fault.Unavailable, "no room to take the message in", err)
	}
	return nil
}

func (s *spool) reader() io.Reader {
	if s.file == nil {
		return bytes.NewReader(s.mem)
	}
	return io.NewSectionReader(s.file, 0, s.size)
}

// section returns a part of it, beside which others may be read.
func (s *spool) section(off, n int64) io.Reader {
	if s.file == nil {
		return bytes.NewReader(s.mem[off : off+n])
	}
	return io.NewSectionReader(s.file, off, n)
}

func (s *spool) close() {
	if s.file != nil {
		s.file.Close()
	}
}

// Size returns the length of the whole message in bytes.
func (p *Parcel) Size() int64 { return int64(len(p.head)) + p.bodySize }

// Header returns the top header with its empty line, or the first 256 KB of it. Do
// not change it.
func (p *Parcel) Header() []byte {
	return p.head[:min(int64(len(p.head)), p.prefix+p.message.HeaderSize)]
}

// Message returns what the parser found: do not change it. Offsets in it do not
// count what Prepend put in front.
func (p *Parcel) Message() *mime.Message { return p.message }

// Blob returns the name of the body's blob, zero if it is none.
func (p *Parcel) Blob() mail.BlobRef { return p.sum }

// Digest returns the SHA-256 of the body, zero if there is no body.
func (p *Parcel) Digest() [sha256.Size]byte {
	if p.small == nil {
		return p.sum
	}
	if !p.digest.IsZero() {
		return p.digest
	}
	body, _ := unpack(p.store.pack.unbody, nil, p.packed()) // our own bytes
	return sha256.Sum256(body)
}

// packed returns the small body as it is packed.
func (p *Parcel) packed() []byte {
	if p.small == nil {
		return nil
	}
	return p.small[1 : len(p.small)-4]
}

// Shared returns the same message with its body as a blob, whatever its size: for one
// that many accounts are to have.
func (p *Parcel) Shared(ctx context.Context) (*Parcel, error) {
	if p.small == nil {
		return p, nil
	}
	q := *p
	q.sum, q.small = p.Digest(), nil
	chunk := summed(p.packed())
	err := p.store.putBody(ctx, q.sum, bodyHead(p.bodySize, []int{len(chunk)}), int64(len(chunk)), bytes.NewReader(chunk))
	return q.finish(), err
}

// Prepend returns the same message with whole header lines in front of it, such as
// Return-Path. The body is shared.
func (p *Parcel) Prepend(lines []byte) *Parcel {
	q := *p
	q.setHead(slices.Concat(lines, p.head))
	q.prefix += int64(len(lines))
	return q.finish()
}

// WithHeader returns the same message with another header, which ends in its empty line: that
// of p without some fields. They must be none that Message tells of. The body is shared. A
// header of 256 KB and more is not changed: ok is false, and p comes back.
func (p *Parcel) WithHeader(header []byte) (q *Parcel, ok bool) {
	if len(p.head) >= maxHead || int64(len(p.head)) != p.prefix+p.message.HeaderSize {
		return p, false
	}
	q = new(Parcel)
	*q = *p
	q.setHead(header)
	q.prefix += int64(len(header) - len(p.head))
	return q.finish(), true
}

// Open returns n bytes of the message from off on; n < 0 means to the end. The
// range is cut to what there is.
func (p *Parcel) Open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	return openJoined(ctx, p.store, p.head, kept{p.sum, p.packed()}, p.Size(), off, n)
}

// Encode returns a record from which DecodeParcel makes the parcel again; it holds
// the head and the body's name, or a small body itself. Whoever keeps it is a referrer
// (AddReferrer). It is at most about 260 KB long.
func (p *Parcel) Encode() []byte {
	var e enc
	e.Raw(p.sum[:]...)
	e.I(p.bodySize)
	e.Bytes(pack(p.store.pack.header, nil, p.head))
	if p.small != nil {
		e.Bytes(p.packed())
	}
	return seal(recParcel, e)
}

// DecodeParcel makes a parcel from its record, reading and parsing the message once
// more.
func (s *Store) DecodeParcel(ctx context.Context, record []byte) (*Parcel, error) {
	p, err := s.unpackParcel(record)
	if err != nil {
		return nil, err
	}
	r, err := p.Open(ctx, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	parser := mime.NewParser(mime.DefaultLimits())
	if _, err := io.Copy(parser, r); err != nil {
		return nil, err
	}
	p.message = parser.Finish()
	return p.finish(), nil
}

// OpenParcel returns the bytes of the message in a parcel's record, without a look at what
// they mean.
func (s *Store) OpenParcel(ctx context.Context, record []byte) (io.ReadCloser, error) {
	p, err := s.unpackParcel(record)
	if err != nil {
		return nil, err
	}
	return p.Open(ctx, 0, -1)
}

// ParcelBlob returns the name of the blob that a parcel's record refers to, zero if
// there is none.
func ParcelBlob(record []byte) (mail.BlobRef, error) {
	b, err := unseal(recParcel, record)
	if err != nil {
		return mail.BlobRef{}, err
	}
	d := dec{Rest: b}
	var ref mail.BlobRef
	copy(ref[:], d.Take(32))
	return ref, d.Err("parcel")
}

func (s *Store) unpackParcel(record []byte) (*Parcel, error) {
	b, err := unseal(recParcel, record)
	if err != nil {
		return nil, err
	}
	d := dec{Rest: b}
	p := &Parcel{store: s}
	copy(p.sum[:], d.Take(32))
	p.bodySize = d.I()
	packed := d.Bytes()
	if p.sum.IsZero() && p.bodySize > 0 {
		p.small = seal(recBody, d.Bytes())
	}
	if err := d.Err("parcel"); err != nil {
		return nil, err
	}
	if p.small != nil {
		if _, err := unpack(s.pack.unbody, nil, p.packed()); err != nil {
			return nil, err
		}
	}
	head, err := unpack(s.pack.unheader, nil, packed)
	if err == nil {
		p.setHead(head)
	}
	return p, err
}
