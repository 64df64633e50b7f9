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
	if err := mime.Convertible(p.message, mime.EightBit); err != nil {
		return nil, err
	}
	body, err := p.Open(ctx, 0, -1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(mime.Convert(w, body, p.message, mime.EightBit))
	}()
	encoded, err := p.store.Receive(ctx, r)
	r.Close()
	<-done
	return encoded, err
}
