package smtpd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// maxLookAhead is how much of a message is held while looking for the end of its
// header, in bytes. A message with a longer one is left as it is.
const maxLookAhead = 64 << 10

// completed returns a reader of a submitted message with the fields in front that
// every message must have and this one lacks: Date and Message-ID (RFC 6409, 8.2
// and 8.3).
func (s *session) completed(r io.Reader) io.Reader {
	return &completer{src: r, missing: s.missingFields}
}

type completer struct {
	src     io.Reader
	missing func(header []byte) []byte
	out     io.Reader // nil until the header has been seen
}

func (c *completer) Read(p []byte) (int, error) {
	if c.out == nil {
		c.look()
	}
	return c.out.Read(p)
}

// look reads up to the end of the header.
func (c *completer) look() {
	var head bytes.Buffer
	buf := make([]byte, 4<<10)
	for {
		n, err := c.src.Read(buf)
		head.Write(buf[:n])
		header, whole := cutHeader(head.Bytes()[:min(head.Len(), maxLookAhead)])
		switch {
		case err != nil && err != io.EOF:
			c.out = io.MultiReader(bytes.NewReader(head.Bytes()), failing{err})
		case whole || err == io.EOF && head.Len() <= maxLookAhead:
			c.out = io.MultiReader(bytes.NewReader(c.missing(header)), bytes.NewReader(head.Bytes()), c.src)
		case head.Len() > maxLookAhead:
			c.out = io.MultiReader(bytes.NewReader(head.Bytes()), c.src)
		default:
			continue
		}
		return
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// cutHeader returns the header at the start of b, and whether its end is there.
func cutHeader(b []byte) (header []byte, whole bool) {
	if bytes.HasPrefix(b, []byte("\r\n")) {
		return nil, true
	}
	if end := bytes.Index(b, []byte("\r\n\r\n")); end >= 0 {
		return b[:end+2], true
	}
	return b, false
}

func (s *session) missingFields(header []byte) []byte {
	hasDate, hasID := false, false
	for name := range mime.Fields(header) {
		hasDate = hasDate || strings.EqualFold(string(name), "Date")
		hasID = hasID || strings.EqualFold(string(name), "Message-ID")
	}
	var b []byte
	now := s.Now()
	if !hasDate {
		b = fmt.Appendf(b, "Date: %s\r\n", now.Format(dateFormat))
	}
	if !hasID {
		b = fmt.Appendf(b, "Message-ID: <%s.%s@%s>\r\n", strconv.FormatInt(now.UnixNano(), 36), s.messageID(), s.Hostname)
	}
	return b
}

// checkFrom holds the visible author against the login, if the listener asks for it.
func (s *session) checkFrom(ctx context.Context, msg *store.Parcel) *smtp.Reply {
	if s.Kind != Submission || !s.CheckFrom {
		return nil
	}
	fields := 0
	for name := range mime.Fields(msg.Header()) {
		if strings.EqualFold(string(name), "From") {
			fields++
		}
	}
	authors := msg.Message().From
	if fields != 1 || len(authors) == 0 {
		return smtp.NewReply(550, "5.7.1", "a message needs one From field with an address")
	}
	for _, a := range append(authors[:len(authors):len(authors)], msg.Message().Sender...) {
		from, err := mail.ParseAddress(a.Mailbox + "@" + a.Host)
		if err != nil {
			return smtp.NewReply(550, "5.7.1", "From or Sender is not an address of yours")
		}
		if bad := s.maySend(ctx, from); bad != nil {
			return bad
		}
	}
	return nil
}
