package link

import (
	"bytes"
	"io"
	"net/mail"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/store"
)

// text is a message on its way in: in memory, or in a file if it is long.
type text struct {
	mem  []byte
	file store.SpoolFile
	size int64
}

// take reads a message to its end.
func (v *visitor) take(r io.Reader) (*text, *move.Summer, error) {
	t, sum := &text{}, &move.Summer{}
	in := io.TeeReader(r, sum)
	var b bytes.Buffer
	_, err := io.CopyN(&b, in, inMemory+1)
	t.mem, t.size = b.Bytes(), int64(b.Len())
	if err == io.EOF {
		return t, sum, nil
	}
	if err == nil {
		err = t.spill(v.spool, in)
	}
	if err != nil && t.file != nil {
		_ = t.file.Close()
	}
	return t, sum, err
}

// spill writes the rest of a long message to a file.
func (t *text) spill(spool func() (store.SpoolFile, error), rest io.Reader) (err error) {
	if spool == nil {
		more, err := io.ReadAll(rest)
		t.mem = append(t.mem, more...)
		t.size = int64(len(t.mem))
		return err
	}
	if t.file, err = spool(); err != nil {
		return fault.Wrap(fault.Unavailable, "there is no place for a long message on its way in", err)
	}
	if _, err = t.file.Write(t.mem); err != nil {
		return fault.Wrap(fault.Unavailable, "a long message on its way in cannot be kept", err)
	}
	n, err := io.Copy(t.file, rest)
	t.size += n
	t.mem = t.mem[:min(len(t.mem), 64<<10)] // for its header
	return err
}

func (t *text) open() (io.ReadCloser, error) {
	if t.file == nil {
		return io.NopCloser(bytes.NewReader(t.mem)), nil
	}
	return io.NopCloser(io.NewSectionReader(t.file, 0, t.size)), nil
}

func (t *text) drop() {
	if t.file != nil {
		_ = t.file.Close()
	}
}

// date is that of the header, of a source that tells none; far ahead if it has none.
func (t *text) date() time.Time {
	m, err := mail.ReadMessage(bytes.NewReader(t.mem))
	if err == nil {
		if at, err := m.Header.Date(); err == nil {
			return at
		}
	}
	return time.Unix(1<<40, 0)
}
