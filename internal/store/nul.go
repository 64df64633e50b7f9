package store

import (
	"context"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// WithoutNUL returns the message with the parts that hold NUL encoded, for IMAP cannot
// send it in BODY[]: no literal but literal8 may hold NUL (RFC 3516, 4.4 and 6;
// RFC 9051, 4.3). BINARY[] gives the bytes that came in. A message without NUL is
// returned as it is. It goes before Prepend. Faults: Unsupported if a part may not be
// changed or cannot (a signed one, a header).
func (p *Parcel) WithoutNUL(ctx context.Context) (*Parcel, error) {
	if !p.message.HasNUL {
		return p, nil
	}
	if p.prefix != 0 {
		return nil, fault.New(fault.Internal, "WithoutNUL after Prepend")
	}
	return p.converted(ctx, mime.EightBit)
}

// SevenBit returns the message in a form that every host takes and leaves as it is: parts with
// bytes over 127, bare CR or LF, NUL or lines of more than 998 bytes are encoded (RFC 6376, 5.3;
// RFC 2045, 2.7). One that is so already, or has 8-bit text in a header, which only hosts
// take that take all the rest, is returned as it is. Faults: Unsupported if a part may
// not be changed (a signed one).
func (p *Parcel) SevenBit(ctx context.Context) (*Parcel, error) {
	if p.message.HeaderHas8Bit || !mime.Needs(p.message, mime.SevenBit) {
		return p, nil
	}
	if p.prefix < 0 || p.prefix > int64(len(p.head)) {
		return nil, fault.New(fault.Unsupported, "the header of the message was changed")
	}
	encoded, err := p.converted(ctx, mime.SevenBit)
	if err != nil || p.prefix == 0 {
		return encoded, err
	}
	return encoded.Prepend(p.head[:p.prefix]), nil
}

// converted returns the message without what Prepend put in front, encoded for a target.
func (p *Parcel) converted(ctx context.Context, to mime.Target) (*Parcel, error) {
	if err := mime.Convertible(p.message, to); err != nil {
		return nil, err
	}
	body, err := p.Open(ctx, p.prefix, -1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(mime.Convert(w, body, p.message, to))
	}()
	encoded, err := p.store.Receive(ctx, r)
	r.Close()
	<-done
	return encoded, err
}
