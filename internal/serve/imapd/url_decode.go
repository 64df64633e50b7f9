package imapd

import (
	"bytes"
	"context"
	"io"

	"github.com/martlet-mail/martlet/internal/syntax/imap"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// decodedPart says how what a URL means is without its transfer encoding.
type decodedPart struct {
	known bool  // the encoding is one that can be taken off
	whole int64 // bytes, before any partial range
	lines int64
	nul   bool // there is a NUL in it

	parts map[*mime.Part]*decodedPart // of a message: what became of the parts in it
}

// Write counts.
func (d *decodedPart) Write(b []byte) (int, error) {
	d.whole += int64(len(b))
	d.lines += int64(bytes.Count(b, []byte{'\n'}))
	d.nul = d.nul || bytes.IndexByte(b, 0) >= 0
	return len(b), nil
}

// decode finds out how the part is without its encoding: it is read once for that.
func (p *pointed) decode(ctx context.Context) (*decodedPart, error) {
	d := &decodedPart{}
	if m := p.message(); m != nil {
		parts, err := p.unwrap(ctx, m, io.Discard)
		if err != nil {
			return nil, err
		}
		d = parts[m]
		d.parts = parts
		return d, nil
	}
	if _, err := mime.BinaryDecoder(p.encoding(), bytes.NewReader(nil)); err != nil {
		return d, nil
	}
	r, err := p.plain(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	d.known = true
	_, err = io.Copy(d, r)
	return d, err
}

// message returns the part that the URL means if it is a message, nil otherwise.
func (p *pointed) message() *mime.Part {
	if len(p.item.Path) == 0 || p.item.Text != imap.SectionAll {
		return nil
	}
	if part := findPart(p.ld.root, p.item.Path); part != nil && part.IsMessage() {
		return part
	}
	return nil
}

// encoding returns the transfer encoding of what the URL means: only a whole part has
// one.
func (p *pointed) encoding() string {
	if len(p.item.Path) == 0 || p.item.Text != imap.SectionAll {
		return ""
	}
	if part := findPart(p.ld.root, p.item.Path); part != nil {
		return part.Encoding
	}
	return ""
}

// plain opens the part without its encoding, from its beginning.
func (p *pointed) plain(ctx context.Context) (io.ReadCloser, error) {
	if m := p.message(); m != nil {
		r, w := io.Pipe()
		go func() {
			_, err := p.unwrap(ctx, m, w)
			w.CloseWithError(err)
		}()
		return r, nil
	}
	whole := *p
	whole.cut = func(off, n int64) (int64, int64) { return off, n }
	raw, _, err := whole.open(ctx)
	if err != nil {
		return nil, err
	}
	r, err := mime.BinaryDecoder(p.encoding(), raw)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{r, raw}, nil
}
