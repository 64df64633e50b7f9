package send

import (
	"context"
	"fmt"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// form is how one transaction carries the message.
type form struct {
	size    int64 // bytes; 0 is not known, and then the host does not ask
	binary  bool  // in one chunk, with BODY=BINARYMIME
	eight   bool  // some byte is over 127
	convert bool  // the transfer encodings are changed on the way,
	to      mime.Target
}

// form finds the form in which the host can take the message: as it is if it can,
// converted if not (RFC 6152, 3; RFC 3030, 3). The error is a *refusal: permanent if
// the message is not for this host, temporary if it could not be read.
func (s *session) form(ctx context.Context, j *job) (form, error) {
	f := form{size: j.msg.Size, binary: j.env.Binary, eight: j.msg.Has8Bit}
	takes8 := s.has("8BITMIME") || s.has("SMTPUTF8")
	lacks := ""
	switch {
	case f.binary && s.has("BINARYMIME") && s.has("CHUNKING"):
	case f.binary:
		lacks = "binary messages (BINARYMIME)"
	case f.eight && !takes8:
		lacks = "8-bit messages (8BITMIME)"
	}
	if lacks != "" {
		f = form{eight: takes8 && f.eight, convert: true, to: mime.SevenBit}
		if takes8 {
			f.to = mime.EightBit
		}
		if err := s.convertible(ctx, j, &f, lacks); err != nil {
			return f, err
		}
	}
	if limit := s.number("SIZE"); limit > 0 && f.size > limit {
		return f, ours(552, "5.3.4", fmt.Sprintf("the message has %d bytes, and %s takes at most %d", f.size, s.t.host, limit))
	}
	return f, nil
}

// convertible makes sure that the message can be converted to f, and notes its size
// then if the host wants to know it.
func (s *session) convertible(ctx context.Context, j *job, f *form, lacks string) error {
	found, err := j.parse(ctx)
	if err != nil {
		return unread(err)
	}
	if err = mime.Convertible(found, f.to); err == nil && f.to == mime.SevenBit && found.HeaderHas8Bit {
		err = fault.New(fault.Unsupported, "8-bit text in a header cannot be converted")
	}
	if err != nil {
		return ours(554, "5.6.3", s.t.host+" does not take "+lacks+"; "+fault.Say(err))
	}
	if !s.has("SIZE") {
		return nil
	}
	if f.size, err = j.converted(ctx, f.to); err != nil {
		return unread(err)
	}
	return nil
}

// unread is a fault of ours.
func unread(err error) *refusal {
	return ours(451, "4.3.0", "the message could not be read here: "+fault.Say(err))
}

// parse reads the message through, once.
func (j *job) parse(ctx context.Context) (*mime.Message, error) {
	if j.found != nil {
		return j.found, nil
	}
	body, err := j.msg.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	p := mime.NewParser(mime.DefaultLimits())
	if _, err := io.Copy(p, body); err != nil {
		return nil, err
	}
	j.found = p.Finish()
	return j.found, nil
}

// converted returns the size of the message after conversion, in bytes. It reads the
// message once more, so that nothing has to be kept.
func (j *job) converted(ctx context.Context, to mime.Target) (int64, error) {
	if n, ok := j.sizes[to]; ok {
		return n, nil
	}
	body, err := j.msg.Open(ctx)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	var n counter
	if err := mime.Convert(&n, body, j.found, to); err != nil {
		return 0, err
	}
	if j.sizes == nil {
		j.sizes = map[mime.Target]int64{}
	}
	j.sizes[to] = int64(n)
	return int64(n), nil
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// copyTo writes the message to w in this form, through buf.
func (f form) copyTo(w io.Writer, src io.Reader, j *job, buf []byte) error {
	if f.convert {
		return mime.Convert(w, src, j.found, f.to)
	}
	_, err := io.CopyBuffer(w, src, buf)
	return err
}
