package smtpd

import (
	"context"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// data reads the message up to CRLF.CRLF (RFC 5321, 4.1.1.4), straight into the
// store.
func (s *session) data(ctx context.Context, _ string) *smtp.Reply {
	if s.tx.env.Binary {
		return smtp.NewReply(503, "5.5.1", "a BINARYMIME message comes by BDAT") // RFC 3030, 3
	}
	s.beginMessage()
	s.send(smtp.NewReply(354, "", "send the message, end it with a dot on a line by itself"))
	in := smtp.NewDataReader(s.conn.R, s.dataOptions())
	msg, err := s.intake(ctx, in)
	if err == nil {
		return s.accept(ctx, msg)
	}
	if lost := in.Drain(); lost != nil {
		return s.hangUp(lost)
	}
	return s.answerAll(s.refusal(err))
}

func (s *session) dataOptions() smtp.DataOptions {
	return smtp.DataOptions{MaxSize: s.Store.MaxMessage(), Normalise: s.Normalise, Binary: s.tx.env.Binary}
}

// intake stores the bytes of a message; nobody has it yet. Binary parts are encoded, so
// that every reader and every next host can take them; what is checked first is left for
// the checks as it came.
func (s *session) intake(ctx context.Context, r io.Reader) (*store.Parcel, error) {
	if s.Kind == Submission {
		r = s.completed(r)
	}
	msg, err := s.Store.Receive(ctx, r)
	if err != nil || s.stranger() {
		return msg, err
	}
	encoded, err := msg.WithoutNUL(ctx)
	if fault.Is(err, fault.Unsupported) { // signed, say: better as it is than not at all
		return msg, nil
	}
	return encoded, err
}
