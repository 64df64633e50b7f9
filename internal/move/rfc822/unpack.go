package rfc822

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/bzip2"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Bounds of what is unpacked. Nothing of it is ever held or written whole, so that they
// bound time: no mail packs like that.
const (
	MaxRatio   = 1000      // times the packed size
	FreeOfIt   = 256 << 20 // bytes before the ratio counts
	zstdWindow = 128 << 20
)

// Unpack returns what r holds, unpacked if it is gzip, bzip2 or zstd, and whether it was.
func Unpack(r io.Reader) (plain io.ReadCloser, packed bool, err error) {
	in := &Counter{R: r}
	b := bufio.NewReaderSize(in, 64<<10)
	start, err := b.Peek(4)
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	var out io.Reader
	var end func()
	switch {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, true, Damaged(err)
		}
		out = z
	case bytes.HasPrefix(start, []byte("BZh")):
		out = bzip2.NewReader(b)
	case bytes.HasPrefix(start, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, true, Damaged(err)
		}
		out, end = z, z.Close
	default:
		return unpacker{b, nil}, false, nil
	}
	return unpacker{&Ratio{R: out, In: in}, end}, true, nil
}

type unpacker struct {
	io.Reader
	end func()
}

func (u unpacker) Close() error {
	if u.end != nil {
		u.end()
	}
	return nil
}

// Damaged says that something packed cannot be unpacked, unless the error says already what is wrong.
func Damaged(err error) error {
	var f *fault.Error
	if errors.As(err, &f) {
		return err
	}
	return fault.Wrap(fault.Corrupt, "the packed file is damaged or cut short: "+err.Error(), err)
}

// Counter counts what is read.
type Counter struct {
	R io.Reader
	N int64
}

func (c *Counter) Read(p []byte) (int, error) {
	n, err := c.R.Read(p)
	c.N += int64(n)
	return n, err
}

// Ratio reads what comes out of an unpacker, and stops what grows as no mail does.
type Ratio struct {
	R  io.Reader
	In *Counter // what the unpacker reads
	// Free is how many bytes come before the ratio counts; 0: FreeOfIt.
	Free int64
	out  int64
}

func (r *Ratio) Read(p []byte) (int, error) {
	n, err := r.R.Read(p)
	r.out += int64(n)
	if r.out > cmp.Or(r.Free, FreeOfIt) && r.out/MaxRatio > r.In.N {
		return n, fault.Newf(fault.TooLarge, "the packed file grows to more than %d times its size, which mail does not", MaxRatio)
	}
	if err != nil && err != io.EOF {
		err = Damaged(err)
	}
	return n, err
}

// Named says of which file an error speaks, in one sentence: its cause stays the cause.
func Named(file string, err error) error {
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind == fault.Internal {
		return err
	}
	return fault.Wrap(f.Kind, file+": "+f.Say, f.Cause)
}
