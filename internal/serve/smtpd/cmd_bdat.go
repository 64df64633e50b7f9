package smtpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// bdat reads one chunk of a message (RFC 3030, 2). The chunk follows at once and
// must be read whatever the answer is; without its length there is no way to tell
// where the next command begins, so that then the connection is closed.
func (s *session) bdat(ctx context.Context, arg string) *smtp.Reply {
	size, last, bad := smtp.ParseBDAT(arg)
	if bad != nil {
		s.closing = true
		return bad
	}
	if most := s.Store.MaxMessage(); size > 2*most {
		s.closing = true // reading it to its end would cost more than it is worth
		return smtp.NewReply(552, "5.3.4", fmt.Sprintf("a message may have %d bytes", most))
	}
	if s.state()&(addressed|chunking) == 0 {
		s.made.errors++
		return s.skipChunk(size, s.misplaced("BDAT"))
	}
	b := s.body(ctx)
	if b.failed {
		why := smtp.NewReply(503, "5.5.1", "an earlier chunk failed: say RSET")
		if last {
			return s.skipChunk(size, s.answerAll(why))
		}
		return s.skipChunk(size, why)
	}
	b.chunks.Begin(size, last)
	err := b.take(last)
	if err != nil {
		if lost := b.chunks.Drain(); lost != nil {
			return s.hangUp(lost)
		}
	}
	switch {
	case err != nil && last:
		return s.answerAll(s.refusal(err))
	case err != nil:
		return s.refusal(err)
	case !last:
		if size == 0 {
			s.made.idle++
		}
		return smtp.NewReply(250, "2.0.0", fmt.Sprintf("%d bytes received", size))
	}
	return s.accept(ctx, b.msg)
}

// skipChunk reads a chunk that nobody wants, so that the commands behind it are
// found, and answers with why.
func (s *session) skipChunk(size int64, why *smtp.Reply) *smtp.Reply {
	c := smtp.NewChunks(s.conn.R, smtp.DataOptions{})
	c.Begin(size, true)
	if lost := c.Drain(); lost != nil {
		return s.hangUp(lost)
	}
	return why
}

// body is a message that comes in chunks. A goroutine hands them to the store as one
// stream.
type body struct {
	chunks *smtp.Chunks
	pipe   *io.PipeWriter
	done   chan struct{} // closed when the store has its end or has given up
	msg    *store.Parcel
	err    error
	failed bool
}

var (
	errAbandoned = errors.New("message abandoned")
	errGivenUp   = errors.New("the store reads no further")
)

// body returns the body of the message under way, which begins with the first chunk.
func (s *session) body(ctx context.Context) *body {
	if s.tx.body == nil {
		s.beginMessage()
		s.tx.body = s.newBody(ctx)
	}
	return s.tx.body
}

func (s *session) newBody(ctx context.Context) *body {
	r, w := io.Pipe()
	b := &body{chunks: smtp.NewChunks(s.conn.R, s.dataOptions()), pipe: w, done: make(chan struct{})}
	go func() {
		defer close(b.done)
		defer r.CloseWithError(errGivenUp)
		defer func() {
			if p := recover(); p != nil {
				s.conn.Log().Error("panic while storing a message", "panic", p, "stack", string(debug.Stack()))
				b.err = fault.New(fault.Internal, "message could not be stored")
			}
		}()
		b.msg, b.err = s.intake(ctx, r)
	}()
	return b
}

// take reads the chunk that has begun. After the last one the message is stored.
func (b *body) take(last bool) error {
	_, err := io.Copy(b.pipe, b.chunks)
	switch {
	case err == nil && !last:
		return nil
	case err == nil:
		b.pipe.Close()
		<-b.done
		err = b.err
	case errors.Is(err, errGivenUp):
		<-b.done
		err = b.err
	default:
		b.pipe.CloseWithError(err)
		<-b.done
	}
	b.failed = err != nil
	return err
}

// abandon ends the goroutine of a message that will not be completed.
func (b *body) abandon() {
	b.pipe.CloseWithError(errAbandoned)
	<-b.done
}
