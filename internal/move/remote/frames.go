package remote

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
)

// frames are messages as put is given them.
type frames struct {
	list  []move.Incoming
	lines [][]byte
	size  int64
}

func (f *frames) begin() error {
	for i := range f.list {
		line, err := frameLine(&f.list[i])
		if err != nil {
			return fault.Wrap(fault.Internal, "a message cannot be written as a frame", err)
		}
		if len(line) > MaxLine {
			return fault.Newf(fault.TooLarge, "the flags of a message take more than %d bytes", MaxLine)
		}
		f.lines = append(f.lines, line)
		f.size += int64(len(line)) + f.list[i].Size
	}
	return nil
}

func (f *frames) body() (io.ReadCloser, int64, error) {
	return &frameReader{frames: f}, f.size, nil
}

// frameReader writes frames one after the other.
type frameReader struct {
	*frames
	next int
	line []byte
	open io.ReadCloser
	left int64 // bytes of the message that is open
}

func (r *frameReader) Read(b []byte) (int, error) {
	for {
		switch {
		case len(r.line) > 0:
			n := copy(b, r.line)
			r.line = r.line[n:]
			return n, nil
		case r.open != nil && r.left > 0:
			n, err := r.open.Read(b[:min(int64(len(b)), r.left)])
			r.left -= int64(n)
			if err == io.EOF && r.left > 0 {
				err = io.ErrUnexpectedEOF
			} else if err == io.EOF {
				err = nil
			}
			if n > 0 || err != nil {
				return n, err
			}
		case r.open != nil:
			r.open.Close()
			r.open = nil
		case r.next == len(r.list):
			return 0, io.EOF
		default:
			in := &r.list[r.next]
			var err error
			if r.open, err = in.Open(); err != nil {
				return 0, err
			}
			r.line, r.left = r.lines[r.next], in.Size
			r.next++
		}
	}
}

func (r *frameReader) Close() error {
	if r.open != nil {
		r.open.Close()
		r.open = nil
	}
	r.next, r.line = len(r.list), nil
	return nil
}

// What ReadFrames holds in memory at most: a larger message is read as it is put.
const (
	heldBytes    = 8 << 20
	heldMessages = 500
	heldMessage  = 1 << 20
)

// ReadFrames reads frames and hands them to put, some at a time. Only the last of a few may
// be one that is read by its Open, once. Faults: Invalid, those of put.
func ReadFrames(r io.Reader, put func([]move.Incoming) error) error {
	f := reading{r: bufio.NewReaderSize(r, MaxLine), put: put}
	for n := 0; ; n++ {
		in, err := f.next()
		if err == io.EOF {
			return f.flush()
		}
		if err != nil {
			return err
		}
		if n == MaxFrames {
			return fault.Newf(fault.TooLarge, "there are more than %d messages in one call", MaxFrames)
		}
		if err := f.take(in); err != nil {
			return err
		}
	}
}

type reading struct {
	r    *bufio.Reader
	put  func([]move.Incoming) error
	held []byte
	size int // bytes of the list
	list []move.Incoming
}

// next reads the line before a message.
func (f *reading) next() (in move.Incoming, err error) {
	line, err := f.r.ReadSlice('\n')
	switch {
	case err == io.EOF && len(line) == 0:
		return in, io.EOF
	case errors.Is(err, bufio.ErrBufferFull):
		return in, fault.Newf(fault.Invalid, "a line before a message is longer than %d bytes", MaxLine)
	case err != nil:
		return in, cut(err)
	}
	var i Item
	if err := json.Unmarshal(line, &i); err != nil {
		return in, fault.Wrap(fault.Invalid, "the line before a message is not the JSON expected", err)
	}
	if i.Size < 0 || len(i.Key) == 0 {
		return in, fault.New(fault.Invalid, "the line before a message has no key, or no size")
	}
	return i.Incoming(), nil
}

func cut(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fault.Wrap(fault.Closed, "the messages were cut short", err)
}

func (f *reading) take(in move.Incoming) error {
	if in.Size > heldMessage {
		return f.stream(in)
	}
	if f.size+int(in.Size) > heldBytes || len(f.list) == heldMessages {
		if err := f.flush(); err != nil {
			return err
		}
	}
	if f.held == nil {
		f.held = make([]byte, 0, max(heldMessage, int(in.Size)))
	}
	from := len(f.held)
	if cap(f.held)-from < int(in.Size) { // those before keep what they have
		f.held = make([]byte, 0, heldMessage)
		from = 0
	}
	f.held = f.held[:from+int(in.Size)]
	b := f.held[from:]
	if _, err := io.ReadFull(f.r, b); err != nil {
		return cut(err)
	}
	in.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	f.list = append(f.list, in)
	f.size += len(b)
	return nil
}

// stream puts a large message while it is read.
func (f *reading) stream(in move.Incoming) error {
	if err := f.flush(); err != nil {
		return err
	}
	rest := &io.LimitedReader{R: f.r, N: in.Size}
	in.Open = func() (io.ReadCloser, error) { return io.NopCloser(whole{rest}), nil }
	if err := f.put([]move.Incoming{in}); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, rest); err != nil {
		return cut(err)
	}
	if rest.N > 0 {
		return cut(io.EOF)
	}
	return nil
}

// whole is a message that must not end before its end.
type whole struct{ *io.LimitedReader }

func (w whole) Read(b []byte) (int, error) {
	n, err := w.LimitedReader.Read(b)
	if err == io.EOF && w.N > 0 {
		err = cut(err)
	}
	return n, err
}

func (f *reading) flush() error {
	if len(f.list) == 0 {
		return nil
	}
	err := f.put(f.list)
	f.list, f.held, f.size = nil, f.held[:0], 0
	return err
}
