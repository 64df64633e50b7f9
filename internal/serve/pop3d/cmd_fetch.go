package pop3d

import (
	"context"
	"io"
	"strconv"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
)

// retr sends a message (RFC 1939, 5).
func (s *session) retr(ctx context.Context, args []string) error {
	_, m, err := s.drop.find(args[0])
	if err != nil {
		return err
	}
	r, err := s.drop.account.Open(ctx, m.ID, 0, -1)
	if err != nil {
		return gone(err)
	}
	defer r.Close()
	s.ok("%d octets", m.Size)
	s.send(r)
	return nil
}

// top sends the header and the first lines of the body (RFC 1939, 7). However many
// lines are asked for, no more is read than is sent.
func (s *session) top(ctx context.Context, args []string) error {
	_, m, err := s.drop.find(args[0])
	if err != nil {
		return err
	}
	lines, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return fault.New(fault.Invalid, "TOP needs a number of lines")
	}
	var header int64
	err = s.drop.account.View(ctx, func(snap *store.Snapshot) error {
		f, err := snap.Facts(m.ID)
		header = f.HeaderSize
		return err
	})
	if err != nil {
		return gone(err)
	}
	r, err := s.drop.account.Open(ctx, m.ID, 0, -1)
	if err != nil {
		return gone(err)
	}
	defer r.Close()
	s.ok("top of message follows")
	s.send(&firstLines{r: r, whole: header, lines: lines})
	return nil
}

// gone says that a message was removed by somebody else since login.
func gone(err error) error {
	if fault.Is(err, fault.NotFound) {
		return fault.Wrap(fault.NotFound, "the message has been removed by another session", err)
	}
	return err
}

// send writes what r gives as a multi-line answer. If r or the client fails there is
// no way to say so but to end the connection before the last line.
func (s *session) send(r io.Reader) {
	w := newDotWriter(s.conn.W)
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, 16<<10))
	if err == nil {
		err = w.close()
	}
	if err != nil {
		s.conn.Log().Warn("message was cut short", "err", err)
		s.over = true
	}
}

// firstLines reads the header and a number of lines after it.
type firstLines struct {
	r     io.Reader
	whole int64 // bytes of the header that are left
	lines uint64
}

// Read ends after the last line asked for.
func (f *firstLines) Read(p []byte) (int, error) {
	if f.whole > 0 {
		n, err := f.r.Read(p[:min(int64(len(p)), f.whole)])
		f.whole -= int64(n)
		return n, err
	}
	if f.lines == 0 {
		return 0, io.EOF
	}
	n, err := f.r.Read(p)
	for i, c := range p[:n] {
		if c != '\n' {
			continue
		}
		if f.lines--; f.lines == 0 {
			return i + 1, nil
		}
	}
	return n, err
}
